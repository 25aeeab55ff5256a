"""doctor: every condition of etcd's alerts is examined, and each fault is found with its remedy."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tercet.cli import tercetctl
from tercet.cli.ctl.doctor import checks, conditions
from tercet.cli.ctl.doctor.facts import Facts, MemberFacts
from tercet.cli.ctl.doctor.finding import WARNING, Check, Finding, merged
from tercet.cli.ctl.scrape import Scrape, metrics_url, quantile, scrape
from tercet.cli.metrics.alerts import ALERTS
from tercet.proto import rpc_pb2
from tests.support.etcd import binary, running_etcd
from tests.support.ports import free_port
from tests.support.processes import TERCET, Cluster, wait_until
from tests.support.waiting import scaled

THIRTEEN = {alert.name for alert in ALERTS if alert.name.startswith("etcd")}


@pytest.fixture(scope="module", params=["etcd", "tercet"])
def endpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = [binary("etcd")] if request.param == "etcd" else list(TERCET)
    with running_etcd(tmp_path_factory.mktemp(request.param), "--metrics=extensive", program=program) as server:
        yield server.endpoint


def diagnosis(capsysbinary: pytest.CaptureFixture[bytes], endpoint: str, *words: str) -> tuple[int, Any]:
    code = tercetctl.main([f"--endpoints={endpoint}", "doctor", "--window=100ms", "-w=json", *words])
    found = capsysbinary.readouterr()
    assert found.err == b""
    return int(code), json.loads(found.out)


def test_a_healthy_member_has_no_finding_and_all_thirteen_conditions_are_named(
    endpoint: str, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    code, found = diagnosis(capsysbinary, endpoint)
    states = {check["name"]: check["state"] for check in found["checks"]}
    assert set(states) >= THIRTEEN
    assert [check for check in found["checks"] if check["state"] == "not judged"] == [
        {"name": "certificates", "state": "not judged", "reason": "no member presented a certificate that was verified"},
        {"name": "etcdMemberCommunicationSlow", "state": "not judged", "reason": "the cluster has one member"},
        {"name": "etcdExcessiveDatabaseGrowth", "state": "not judged", "reason": "needs --window of at least 60s"},
    ]
    # A busy test machine may be slow; nothing else may be wrong.
    slow = {"etcdGRPCRequestsSlow", "etcdHighFsyncDurations", "etcdHighCommitDurations", "linearizable reads"}
    assert {name for name, state in states.items() if state == "finding"} <= slow
    assert code in (0, 1)


def test_a_missing_member_is_critical_and_says_what_was_tried(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    endpoint = f"127.0.0.1:{free_port()}"
    assert tercetctl.main([f"--endpoints={endpoint}", "--command-timeout=2s", "doctor"]) == 1
    found = capsysbinary.readouterr()
    assert found.err == b""
    lines = found.out.decode().splitlines()
    assert lines[0].startswith("CRITICAL  cluster: no member list: ")
    assert "onnection refused" in lines[0]
    assert "not judged  etcdNoLeader: no member answers" in lines
    assert lines[-1] == "1 member, 1 critical finding, 1 warning"


@pytest.mark.parametrize("program", [[binary("etcd")], list(TERCET)], ids=["etcd", "tercet"])
def test_a_stopped_member_of_three_is_found_by_the_others(
    program: list[str], tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    names = ("n1", "n2", "n3")
    cluster = Cluster.plan(tmp_path, names, ["--unsafe-no-fsync"], programs=dict.fromkeys(names, program))
    try:
        cluster.start()
        cluster["n2"].kill()
        cluster.leader()
        # Both others must have answered in time: on a slow machine that may need another try.
        found = wait_until(
            lambda: says(diagnosis(capsysbinary, cluster["n1"].endpoint)[1], "2 of 3 voters are healthy"),
            "two members are healthy",
        )
    finally:
        cluster.dispose()
    states = {check["name"]: check["state"] for check in found["checks"]}
    assert states["etcdMembersDown"] == states["etcdInsufficientMembers"] == "finding"
    stopped = f"n2 (http://{cluster['n2'].endpoint})"
    assert [one for one in found["findings"] if one["where"] == stopped and one["what"].startswith("does not answer: ")]
    assert all(one["remedy"] for one in found["findings"])


def test_a_member_behind_a_wrong_client_url_is_asked_at_the_endpoint_given(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    with running_etcd(tmp_path, advertise=nowhere, program=list(TERCET)) as server:
        # The member must have answered in time: on a slow machine that may need another try.
        found = wait_until(
            lambda: says(
                diagnosis(capsysbinary, server.endpoint, "--command-timeout=3s")[1],
                f"its client URL {nowhere} does not answer from here: ",
            ),
            "the member is asked",
        )
    states = {check["name"]: check["state"] for check in found["checks"]}
    assert states["etcdMembersDown"] == states["etcdInsufficientMembers"] == "ok"


def says(found: Any, text: str) -> Any:
    """What doctor found, if `text` begins a finding; else None."""
    return found if any(finding["what"].startswith(text) for finding in found["findings"]) else None


def member(text: str = "", later: str | None = None, **status: Any) -> MemberFacts:
    """A member that answers, with two scrapes."""
    one = rpc_pb2.StatusResponse(version="3.7.3", leader=1, raftTerm=2, **status)
    facts = MemberFacts("127.0.0.1:2379", 1, "m1", status=one, read_seconds=0.001)
    facts.metrics = [Scrape(text, 0.0), Scrape(text if later is None else later, 0.0)]
    return facts


def found(judge: Callable[[Facts], Iterator[Check]], *members: MemberFacts, **more: Any) -> dict[str, tuple[str, str]]:
    """Severity and text of each check's first finding."""
    facts = Facts(list(members), window_seconds=10.0)
    for name, value in more.items():
        setattr(facts, name, value)
    return {check.name: (check.findings[0].severity, check.findings[0].what) for check in judge(facts) if check.findings}


def silent(name: str) -> MemberFacts:
    return MemberFacts("10.0.0.1:2379", 2, name, error="connection refused")


@pytest.mark.parametrize(
    ("members", "more", "check", "severity"),
    [
        ([member(), silent("m2"), silent("m3")], {}, "etcdInsufficientMembers", "critical"),
        ([member(), member(), silent("m3")], {}, "etcdInsufficientMembers", "warning"),
        ([member(), member()], {}, "etcdInsufficientMembers", "warning"),
        ([member(), silent("m2")], {}, "etcdMembersDown", "warning"),
        ([member()], {"alarms": [(1, "NOSPACE")]}, "alarms", "critical"),
        ([member(dbSize=96, dbSizeQuota=100)], {}, "etcdDatabaseQuotaLowSpace", "critical"),
        ([member(dbSize=90, dbSizeQuota=100)], {}, "etcdDatabaseQuotaLowSpace", "warning"),
        ([member(dbSize=200 << 20, dbSizeInUse=50 << 20)], {}, "etcdDatabaseHighFragmentationRatio", "warning"),
        ([member(raftIndex=9000, raftAppliedIndex=9000), member(raftAppliedIndex=1)], {}, "members keep up", "warning"),
    ],
)
def test_a_fault_that_the_api_shows_is_found(members: list[MemberFacts], more: Any, check: str, severity: str) -> None:
    assert found(checks.judge, *members, **more)[check][0] == severity


def test_members_without_leader_versions_clocks_and_certificates_are_found() -> None:
    lost = member()
    assert lost.status is not None
    lost.status.leader = 0
    assert found(checks.judge, lost)["etcdNoLeader"][0] == "critical"
    older = member()
    assert older.status is not None
    older.name, older.status.version = "m2", "3.6.0"
    assert found(checks.judge, member(), older)["versions"][0] == "warning"
    late = member()
    late.metrics[0].clock_skew_seconds = -7.0
    assert "-7 s" in found(checks.judge, late)["clocks"][1]
    ending = member()
    ending.certificate_ends = datetime.now(UTC) + timedelta(days=3)
    assert found(checks.judge, ending)["certificates"][0] == "warning"
    ending.certificate_ends = datetime.now(UTC) - timedelta(days=3)
    assert found(checks.judge, ending)["certificates"][0] == "critical"


def histogram(name: str, **counts: int) -> str:
    return "".join(f'{name}_bucket{{le="{bound[1:].replace("_", ".")}"}} {count}\n' for bound, count in counts.items())


FSYNC = "etcd_disk_wal_fsync_duration_seconds"
HANDLED = 'grpc_server_handled_total{grpc_service="etcdserverpb.KV",grpc_method="Put",grpc_code="%s"} %d\n'


@pytest.mark.parametrize(
    ("before", "after", "name", "severity"),
    [
        ("", 'etcd_network_peer_sent_failures_total{To="a1"} 5\n', "etcdMembersDown", "warning"),
        ("", "etcd_server_leader_changes_seen_total 4\n", "etcdHighNumberOfLeaderChanges", "warning"),
        ("", HANDLED % ("OK", 97) + HANDLED % ("Unavailable", 3), "etcdHighNumberOfFailedGRPCRequests", "warning"),
        ("", HANDLED % ("OK", 90) + HANDLED % ("Internal", 10), "etcdHighNumberOfFailedGRPCRequests", "critical"),
        ("", "etcd_server_proposals_failed_total 60\n", "etcdHighNumberOfFailedProposals", "warning"),
        ("", histogram(FSYNC, _0_1=10, _0_8=100), "etcdHighFsyncDurations", "warning"),
        ("", histogram(FSYNC, _0_1=10, _8=100), "etcdHighFsyncDurations", "critical"),
        (histogram(FSYNC, _0_1=0, _8=100), histogram(FSYNC, _0_1=0, _8=100), "etcdHighFsyncDurations", "critical"),
        ("", histogram("grpc_server_handling_seconds", _0_1=1, _0_5=9), "etcdGRPCRequestsSlow", "critical"),
        ("", histogram("etcd_disk_backend_commit_duration_seconds", _0_1=1, _0_5=9), "etcdHighCommitDurations", "warning"),
    ],
)
def test_a_fault_that_metrics_show_is_found(before: str, after: str, name: str, severity: str) -> None:
    assert {check: grade for check, (grade, _) in found(conditions.judge, member(before, after)).items()} == {name: severity}
    assert found(conditions.judge, member("", "")) == {}


def test_a_condition_is_judged_once_by_the_api_and_by_metrics() -> None:
    down, other = Finding(WARNING, "m2", "does not answer", ""), Finding(WARNING, "m1", "cannot send to m2", "")
    parts = [Check("etcdMembersDown", [down]), Check("clocks"), Check("etcdMembersDown", [other], "no metrics of m2")]
    assert merged(parts) == [Check("etcdMembersDown", [down, other], "no metrics of m2"), Check("clocks", [])]


def test_metrics_that_cannot_be_read_say_why_in_plain_words() -> None:
    with pytest.raises(OSError, match=r"^Connection refused$"):
        asyncio.run(scrape(f"127.0.0.1:{free_port()}", None, timeout=scaled(20)))


def test_growth_is_judged_from_a_minute_on() -> None:
    size = "etcd_mvcc_db_total_size_in_bytes %d\netcd_server_quota_backend_bytes 1000000\n"
    growing = member(size % 1000, size % 20_000)
    assert "etcdExcessiveDatabaseGrowth" not in found(conditions.judge, growing)
    assert found(conditions.judge, growing, window_seconds=60.0)["etcdExcessiveDatabaseGrowth"][0] == "warning"


def test_a_quantile_is_the_bound_of_its_bucket() -> None:
    before, after = Scrape(histogram("h", _1=5, _2=5), None), Scrape(histogram("h", _1=104, _2=105), None)
    assert quantile("h", before, after) == 1.0
    assert quantile("h", before, after, 1.0) == 2.0
    assert quantile("h", after, after) is None


@pytest.mark.parametrize(
    ("endpoint", "uses_tls", "url"),
    [
        ("10.0.0.1:2379", False, "http://10.0.0.1:2379/metrics"),
        ("10.0.0.1:2379", True, "https://10.0.0.1:2379/metrics"),
        ("https://db:2379/", False, "https://db:2379/metrics"),
    ],
)
def test_metrics_are_read_from_the_client_url(endpoint: str, uses_tls: bool, url: str) -> None:
    assert metrics_url(endpoint, uses_tls=uses_tls) == url
