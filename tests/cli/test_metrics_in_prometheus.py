"""Rules and dashboard in Prometheus' own hands: promtool parses them, fires each alert, and evaluates each query on a scrape.

Needs promtool, from the PATH or named by TEST_PROMTOOL; test_metrics.py checks the same texts without it.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from tercet.cli.metrics.dashboard import dashboard
from tercet.cli.metrics.rules import rules
from tests.cli.test_metrics import NEEDS_MORE, metrics_of, page_of
from tests.support.etcd import running_etcd
from tests.support.processes import TERCET
from tests.support.waiting import scaled

PROMTOOL = os.environ.get("TEST_PROMTOOL") or shutil.which("promtool") or ""
pytestmark = pytest.mark.skipif(not PROMTOOL, reason="needs promtool on the PATH or in TEST_PROMTOOL")

MINUTES = 120
MATCHER = 'job=~"tercet.*"'
FIRING = 'count by (job, alertname, severity) (ALERTS{alertstate="firing"})'
PUT = 'grpc_service="etcdserverpb.KV", grpc_method="Put", grpc_type="unary"'
SIZE, USED, QUOTA = (
    "etcd_mvcc_db_total_size_in_bytes",
    "etcd_mvcc_db_total_size_in_use_in_bytes",
    "etcd_server_quota_backend_bytes",
)
Series = dict[str, str]


def slow(histogram: str, fast: str, late: str, labels: str = "") -> Series:
    """A histogram whose observations, one a second, all lie between the bounds `fast` and `late`."""
    more = f", {labels}" if labels else ""
    return {
        f'{histogram}_bucket{{le="{bound}"{more}}}': f"0+{step}x{MINUTES}"
        for bound, step in ((fast, 0), (late, 60), ("+Inf", 60))
    }


def members(*up: int) -> Series:
    return {f'up{{instance="m{number}"}}': f"{value}x{MINUTES}" for number, value in enumerate(up, 1)}


def codes(**rates: int) -> Series:
    return {f'grpc_server_handled_total{{{PUT}, grpc_code="{code}"}}': f"0+{rate}x{MINUTES}" for code, rate in rates.items()}


def sizes(size: str, used: int, quota: int) -> Series:
    return {f"{SIZE}{{}}": f"{size}x{MINUTES}", f"{USED}{{}}": f"{used}x{MINUTES}", f"{QUOTA}{{}}": f"{quota}x{MINUTES}"}


WARNING, CRITICAL = "warning", "critical"
FIRES: list[tuple[Series, set[tuple[str, str]]]] = [
    (members(1, 1, 1), set()),
    (members(1, 1, 0), {("etcdMembersDown", WARNING)}),
    (members(1, 0, 0), {("etcdMembersDown", WARNING), ("etcdInsufficientMembers", CRITICAL)}),
    ({'etcd_network_peer_sent_failures_total{To="a1"}': f"0+60x{MINUTES}"}, {("etcdMembersDown", WARNING)}),
    ({"etcd_server_has_leader{}": f"0x{MINUTES}"}, {("etcdNoLeader", CRITICAL)}),
    ({"etcd_server_has_leader{}": f"1x{MINUTES}"}, set()),
    ({"etcd_server_leader_changes_seen_total{}": f"0+1x{MINUTES}"}, {("etcdHighNumberOfLeaderChanges", WARNING)}),
    (codes(OK=1000, Unavailable=3), set()),
    (codes(OK=97, Unavailable=3), {("etcdHighNumberOfFailedGRPCRequests", WARNING)}),
    (codes(OK=90, Internal=10), {("etcdHighNumberOfFailedGRPCRequests", severity) for severity in (WARNING, CRITICAL)}),
    (codes(OK=90, NotFound=10), set()),
    (slow("grpc_server_handling_seconds", "0.1", "0.5", PUT), {("etcdGRPCRequestsSlow", CRITICAL)}),
    (slow("grpc_server_handling_seconds", "0.1", "0.5", PUT.replace("Put", "Defragment")), set()),
    (slow("etcd_network_peer_round_trip_time_seconds", "0.1", "0.5", 'To="a1"'), {("etcdMemberCommunicationSlow", WARNING)}),
    ({"etcd_server_proposals_failed_total{}": f"0+600x{MINUTES}"}, {("etcdHighNumberOfFailedProposals", WARNING)}),
    (slow("etcd_disk_wal_fsync_duration_seconds", "0.1", "0.4"), set()),
    (slow("etcd_disk_wal_fsync_duration_seconds", "0.1", "0.8"), {("etcdHighFsyncDurations", WARNING)}),
    (
        slow("etcd_disk_wal_fsync_duration_seconds", "1", "8"),
        {("etcdHighFsyncDurations", severity) for severity in (WARNING, CRITICAL)},
    ),
    (slow("etcd_disk_backend_commit_duration_seconds", "0.1", "0.5"), {("etcdHighCommitDurations", WARNING)}),
    (sizes("50", 50, 100), set()),
    (sizes("96", 96, 100), {("etcdDatabaseQuotaLowSpace", CRITICAL)}),
    (sizes("0+1", 100, 300), {("etcdExcessiveDatabaseGrowth", WARNING)}),
    (sizes(str(200 << 20), 50 << 20, 1 << 33), {("etcdDatabaseHighFragmentationRatio", WARNING)}),
    (
        {'tercet_tls_certificate_expiry_timestamp_seconds{role="server"}': f"{7 * 86_400}x{MINUTES}"},
        {("tercetCertificateExpires", WARNING)},
    ),
    (
        {'tercet_tls_certificate_expiry_timestamp_seconds{role="server"}': f"{10 * 3600}x{MINUTES}"},
        {("tercetCertificateExpires", severity) for severity in (WARNING, CRITICAL)},
    ),
    ({"tercet_loop_turn_longest_seconds{}": f"0.8x{MINUTES}"}, {("tercetEventLoopBlocked", WARNING)}),
]


def promtool(*words: str | Path) -> None:
    done = subprocess.run([PROMTOOL, *words], capture_output=True, text=True, timeout=scaled(300), check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def labelled(series: str, job: str) -> str:
    """The series as Prometheus stores it: with the job and the instance of the scrape."""
    name, _, labels = series.removesuffix("}").partition("{")
    places = [f'job="{job}"', *([] if "instance=" in labels else ['instance="m1"']), *([labels] if labels else [])]
    return f"{name}{{{', '.join(places)}}}"


def run_test(place: Path, jobs: Mapping[str, Series], *expected: tuple[str, list[str]]) -> None:
    """promtool's unit test: the series of each job, and expressions with the labels for which they must give 1 at the end."""
    (place / "rules.yml").write_text(rules(MATCHER))
    test = {
        "interval": "1m",
        "input_series": [
            {"series": labelled(name, job), "values": values} for job, given in jobs.items() for name, values in given.items()
        ],
        "promql_expr_test": [
            {"eval_time": f"{MINUTES}m", "expr": query, "exp_samples": [{"labels": one, "value": 1} for one in labels]}
            for query, labels in expected
        ],
    }
    suite = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [test]}
    (place / "tests.yml").write_text(yaml.safe_dump(suite))
    promtool("test", "rules", place / "tests.yml")


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Series:
    """What a member exposes after it has served a client, as series that stay as they are."""
    with running_etcd(tmp_path_factory.mktemp("member"), "--metrics=extensive", program=list(TERCET)) as member:
        member.ctl("put", "a", "1")
        found = re.findall(r"(?m)^([a-z_A-Z]\w*(?:\{[^}]*\})?) (\S+)$", page_of(member))
    numbers = {name: float(value) for name, value in found}
    return {
        "up": f"1x{MINUTES}",
        **{name: f"{value:f}x{MINUTES}" for name, value in numbers.items() if not math.isnan(value)},
    }


def test_promtool_accepts_rules_and_queries(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(rules('job=~".*(etcd|tercet).*"'))
    promtool("check", "rules", "--lint=all", "--lint-fatal", tmp_path / "rules.yml")
    recorded = [{"record": f"panel:query:{number}", "expr": query} for number, query in enumerate(queries())]
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}))
    promtool("check", "rules", tmp_path / "panels.yml")


def queries() -> list[str]:
    """The dashboard's, with an interval for Grafana's variable."""
    shown = [target["expr"] for panel in json.loads(dashboard(MATCHER))["panels"] for target in panel["targets"]]
    return [query.replace("$__rate_interval", "5m") for query in shown]


def test_each_alert_fires_by_its_own_condition_alone(tmp_path: Path) -> None:
    jobs = {f"tercet{number}": given for number, (given, _) in enumerate(FIRES)}
    fired = [
        f'{{job="tercet{number}", alertname="{name}", severity="{severity}"}}'
        for number, (_, alerts) in enumerate(FIRES)
        for name, severity in sorted(alerts)
    ]
    run_test(tmp_path, jobs, (FIRING, fired))
    named = {rule["alert"] for rule in yaml.safe_load(rules(MATCHER))["groups"][0]["rules"]}
    assert {name for _, alerts in FIRES for name, _ in alerts} == named


def test_a_member_that_serves_fires_no_alert_and_fills_every_panel(tmp_path: Path, series: Series) -> None:
    shown = [query for query in queries() if not any(NEEDS_MORE.match(name) for name in metrics_of(query))]
    assert len(shown) > 15
    run_test(tmp_path, {"tercet": series}, (FIRING, []), *((f"count({query}) > bool 0", ["{}"]) for query in shown))
