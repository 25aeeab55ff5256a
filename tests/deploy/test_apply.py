"""apply: plans from the state of hosts, and errors before anything changes."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest

from tercet.deploy import Deployment
from tercet.deploy.cluster.cluster import Cluster
from tercet.deploy.facts.preflight import Finding
from tercet.deploy.members.members import Members
from tercet.deploy.plan.certificates import ensure_certificates
from tercet.deploy.plan.desired import desired
from tercet.deploy.plan.plan import Phase, Plan
from tercet.deploy.plan.planning import HostChange
from tercet.deploy.run.agreed import StalePlan
from tercet.deploy.run.apply import (
    PreflightFailed,
    make_draft,
    require_no_errors,
    start_phases,
)
from tercet.deploy.run.executor import DeployError, execute, silent
from tercet.deploy.run.file_lock import locked
from tercet.deploy.run.membership import Membership, check_unlisted, membership
from tercet.deploy.run.survey import HostSurvey
from tercet.deploy.ssh.remote import Host
from tercet.errors import ConfigError
from tercet.proto import rpc_pb2
from tests.deploy.clusters import artifact_of, as_wanted, changed
from tests.deploy.clusters import cluster_of as written
from tests.deploy.planned import UNIT, Planned
from tests.deploy.scripted_host import STOPPED, ScriptedHost, cluster_of
from tests.deploy.test_rolling import ScriptedMembers

RUNS = HostChange((), needs_restart=False, restart_reasons=(), is_first_start=False, is_running=True)

CHANGED = replace(RUNS, needs_restart=True, restart_reasons=("its unit changes", "its certificate changes"))

DOWN = replace(RUNS, is_running=False)

FRESH = replace(DOWN, is_first_start=True)


def phases_for(*changes: HostChange, leader: str = "m1") -> tuple[list[Phase], ScriptedMembers]:
    cluster = cluster_of(len(changes))
    by_name = {spec.name: change for spec, change in zip(cluster.hosts, changes, strict=True)}
    hosts = {name: ScriptedHost(name, before="" if change.is_running else STOPPED) for name, change in by_name.items()}
    members = ScriptedMembers(cluster, hosts, leader=leader)
    asked = {name: cast(Host, host) for name, host in hosts.items()}
    found = asyncio.run(start_phases(cluster, asked, cast(Members, members), by_name))
    return [phase for phase in found if phase.steps], members


def shape(phases: list[Phase]) -> list[str]:
    return [
        f"{phase.title}{' one at a time' * phase.one_at_a_time}: {' '.join(step.host or '-' for step in phase.steps)}"
        for phase in phases
    ]


def test_a_first_start_starts_all_members_at_once() -> None:
    phases, members = phases_for(FRESH, FRESH, FRESH)
    assert shape(phases) == ["start: m1 m2 m3", "health: m1 m2 m3"]
    asyncio.run(execute(Plan(tuple(phases))))
    assert [host.starts for host in members.hosts.values()] == [1, 1, 1]


def test_changed_running_members_are_restarted_one_by_one_with_a_reason() -> None:
    phases, _ = phases_for(CHANGED, CHANGED, CHANGED, leader="m2")
    assert shape(phases) == ["restart one at a time: m1 m3 m2", "health: m1 m2 m3"]
    assert phases[0].steps[0].diff == "its unit changes\nits certificate changes"


def test_members_that_are_down_are_started_first() -> None:
    down_and_changed = replace(CHANGED, is_running=False)
    phases, members = phases_for(CHANGED, down_and_changed, RUNS, leader="m3")
    assert shape(phases) == ["start: m2", "restart one at a time: m1", "health: m1 m2 m3"]
    asyncio.run(execute(Plan(tuple(phases))))
    assert [host.starts for host in members.hosts.values()] == [1, 1, 0]


def test_the_warning_about_a_plain_listener_is_noted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_hosts(*_: object) -> dict[str, HostSurvey]:
        return {}

    monkeypatch.setattr("tercet.deploy.run.apply.survey", no_hosts)
    settings = "listen: {plain_loopback: true, metrics_url: 'http://0.0.0.0:2381'}"
    cluster = written(tmp_path, settings)
    found = asyncio.run(make_draft(cluster, {}, Members(cluster, {}), silent, systems={})).plan
    assert [note.split(": ")[1] for note in found.notes] == ["listen.metrics_url", "listen.plain_loopback"]


@pytest.mark.parametrize(
    ("count", "notes"),
    [
        (1, ["a cluster of one member has no majority during a restart: writes fail and linearizable reads wait"]),
        (2, ["a cluster of two members has no majority during a restart: writes fail and linearizable reads wait"]),
        (3, []),
    ],
)
def test_a_restart_without_a_majority_is_noted(count: int, notes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def noted(change: HostChange) -> list[str]:
        cluster = cluster_of(count)
        hosts = {spec.name: ScriptedHost(spec.name) for spec in cluster.hosts}
        members = ScriptedMembers(cluster, hosts, leader="m1")

        async def nothing(*_: object) -> dict[str, HostSurvey]:
            return {}

        monkeypatch.setattr("tercet.deploy.run.apply.survey", nothing)
        monkeypatch.setattr("tercet.deploy.run.apply._changes", lambda *_: dict.fromkeys(hosts, change))
        asked = {name: cast(Host, host) for name, host in hosts.items()}
        return list(asyncio.run(make_draft(cluster, asked, cast(Members, members), silent, systems={})).plan.notes)

    assert noted(CHANGED) == notes
    assert noted(FRESH) == noted(RUNS) == []


def test_an_up_to_date_cluster_has_no_start_phases() -> None:
    assert phases_for(RUNS, RUNS, RUNS)[0] == []


# Errors.


class Listing:
    def __init__(self, *urls: str, answers: bool = True) -> None:
        self._members = [rpc_pb2.Member(name=f"was{number}", peerURLs=[url]) for number, url in enumerate(urls, 1)]
        self._answers = answers

    async def listed(self) -> list[rpc_pb2.Member] | None:
        return self._members if self._answers else None


def listed(cluster: Cluster, listing: Listing) -> Membership:
    return asyncio.run(membership(cluster, cast(Members, listing)))


def test_apply_does_not_change_the_membership() -> None:
    cluster = cluster_of(3)
    ours = [cluster.peer_url(spec) for spec in cluster.hosts]
    assert listed(cluster, Listing(*ours)).unstarted == frozenset()
    assert listed(cluster, Listing(*ours)).initial_cluster == ",".join(f"was{n}={url}" for n, url in enumerate(ours, 1))
    assert listed(cluster, Listing(answers=False)) == Membership()
    with pytest.raises(ConfigError, match=r"^cluster\.yaml: hosts: the cluster has a member was4 \(http://10\.0\.0\.9:2380\)"):
        listed(cluster, Listing(*ours, "http://10.0.0.9:2380"))
    with pytest.raises(ConfigError, match=r"hosts: m3 \(http://10\.0\.0\.3:2380\) is in the file but not .*member add m3"):
        listed(cluster, Listing(*ours[:2]))


def test_without_a_running_member_only_initial_members_may_start_empty(tmp_path: Path) -> None:
    cluster = written(tmp_path)
    wishes = {spec.name: desired(cluster, spec, artifact_of(cluster), ensure_certificates(cluster)) for spec in cluster.hosts}
    facts = {name: as_wanted(cluster, wish) for name, wish in wishes.items()}
    command = f"/opt/tercet/current/bin/tercet --initial-cluster={cluster.initial_cluster()}"
    for name in facts:
        facts[name] = replace(facts[name], unit=replace(facts[name].unit, exec_line=command))
    empty = changed(facts["node3"], "/var/lib/etcd/member", kind="absent")
    check_unlisted(cluster, facts | {"node3": empty})
    two = replace(facts["node1"].unit, exec_line=command.rpartition(",")[0])
    with pytest.raises(ConfigError, match=r"node3 has no data and is not among the members that node1 was started with"):
        check_unlisted(cluster, facts | {"node1": replace(facts["node1"], unit=two), "node3": empty})


FULL_DATA = Finding("node1", "disk", "error", "1 MiB free for /var/lib/etcd", "free space", "first start")

WRONG_CLOCK = Finding("node2", "clock", "error", "clock is 90.0 s ahead", "set it", "certificates")

MASKED = Finding("node3", "systemd", "error", "etcd.service is masked", "unmask it")


def test_preflight_errors_for_other_work_do_not_stop_apply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk and a wrong clock prevent a first start and new certificates, not a changed flag."""
    planned = Planned(tmp_path, monkeypatch, FULL_DATA, WRONG_CLOCK)
    assert planned.apply().is_empty
    planned.change("node1", UNIT, content="old")
    done = planned.apply()
    assert len(planned.executed) == 1
    assert [note for note in done.notes if "disk" in note or "clock" in note] == [
        "node1: disk: 1 MiB free for /var/lib/etcd; free space",
        "node2: clock: clock is 90.0 s ahead; set it",
    ]
    planned.change("node1", "/var/lib/etcd/member", kind="absent")
    planned.stop("node1")
    planned.members.unstarted = {"node1"}
    with pytest.raises(PreflightFailed, match=r"^node1: disk"):
        planned.apply()


def test_a_wrong_clock_prevents_new_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = Planned(tmp_path, monkeypatch, WRONG_CLOCK, replace(WRONG_CLOCK, host="local"))
    node2 = planned.desired["node2"]
    pending = replace(node2.files[0], content=None, pair=None)
    planned.desired["node2"] = replace(node2, files=(pending, *node2.files[1:]))
    with pytest.raises(PreflightFailed, match=r"^node2: clock.*\nlocal: clock"):
        planned.apply()
    assert planned.executed == []


def test_the_plan_shows_what_preflight_rejects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = Planned(tmp_path, monkeypatch, MASKED, FULL_DATA)
    assert planned.plan().blockers == ()  # nothing to do
    planned.change("node2", UNIT, content="old")
    assert planned.plan().blockers == ("node3: systemd: etcd.service is masked; unmask it",)


def test_a_stale_plan_is_not_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another operator changes a host while the plan is being confirmed."""
    planned = Planned(tmp_path, monkeypatch)
    planned.change("node1", UNIT, content="old")

    async def confirm(_: Plan) -> bool:
        planned.change("node1", UNIT, content=planned.desired["node1"].unit_text)
        return True

    with pytest.raises(StalePlan, match="nothing was changed"):
        planned.apply(confirm)
    assert planned.executed == []
    planned.change("node1", UNIT, content="old")

    async def move_leadership(_: Plan) -> bool:
        planned.members.leader = "node2"
        return True

    planned.apply(move_leadership)  # the order of the restarts is not part of the plan
    assert len(planned.executed) == 1

    async def fail(_: Plan) -> bool:
        planned.stop("node1")
        return True

    planned.apply(fail)  # a member that cannot start is active at one moment and activating at the next
    assert [(step.host, step.title) for step in planned.executed[-1].steps if step.title == "start"] == [("node1", "start")]


def test_expired_certificates_do_not_make_the_plan_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason for a new certificate names the time."""
    planned = Planned(tmp_path, monkeypatch)
    for path in planned.cluster.tls.directory.rglob("*.pem"):
        path.unlink()
    ensure_certificates(planned.cluster, now=datetime.now(UTC) - timedelta(days=400))

    async def confirm(_: Plan) -> bool:
        await asyncio.sleep(1)
        return True

    (done,) = [phase for phase in planned.apply(confirm).phases if phase.title == "certificates"]
    assert "the time is" in done.steps[0].diff


def test_an_unstarted_member_joins_the_running_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its data was lost, and it was removed and added by hand; its unit still says `new`."""
    planned = Planned(tmp_path, monkeypatch)
    planned.change("node3", "/var/lib/etcd/member", kind="absent")
    planned.stop("node3")
    planned.members.unstarted = {"node3"}
    found = planned.plan()
    (write,) = [step for step in found.steps if step.title == f"write {UNIT}"]
    assert write.host == "node3"
    assert [line for line in write.diff.splitlines() if line.startswith(("+ ", "- "))] == [
        "-  --initial-cluster-state=new \\",
        "+  --initial-cluster-state=existing \\",
    ]
    assert [step.host for step in found.steps if step.title == "start"] == ["node3"]


def test_drop_ins_are_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = Planned(tmp_path, monkeypatch)
    path = "/etc/systemd/system/etcd.service.d/memory.conf"
    facts = planned.facts["node2"]
    planned.facts["node2"] = replace(facts, unit=replace(facts.unit, drop_ins=[path]))
    assert planned.plan().notes[-1] == f"node2: drop-ins override settings of etcd.service: {path}"


def test_a_skipped_minor_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The version comes from the running program, whatever its directory is called."""
    planned = Planned(tmp_path, monkeypatch)
    planned.facts["node2"] = replace(planned.facts["node2"], versions={"/opt/etcd-3.6/etcd": "etcd Version: 3.4.9"})
    with pytest.raises(DeployError, match=r"^node2: plan: cannot upgrade the engine from etcd 3\.4\.9 to 3\."):
        planned.plan()
    planned.change("node2", "/var/lib/etcd/member", kind="absent")  # before the first start any version is allowed
    planned.members.unstarted = {"node2"}
    planned.plan()


def test_a_started_member_without_data_is_not_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = Planned(tmp_path, monkeypatch)
    planned.change("node3", "/var/lib/etcd/member", kind="absent")
    planned.stop("node3")
    with pytest.raises(DeployError, match=r"node3: plan: /var/lib/etcd has no data.*tercet deploy member replace node3"):
        planned.plan()


def test_an_initial_member_that_never_started_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its unit failed at the first apply: the member list has its name from the bootstrap, and no client URLs."""
    planned = Planned(tmp_path, monkeypatch)
    planned.change("node3", "/var/lib/etcd/member", kind="absent")
    planned.stop("node3")
    planned.members.unpublished = {"node3"}
    assert [step.host for step in planned.plan().steps if step.title == "start"] == ["node3"]


def test_all_preflight_errors_are_raised_with_their_remedies() -> None:
    clock = Finding("m2", "clock", "warning", "clock is 2.0 s ahead of the other hosts", "timedatectl set-ntp true")
    fine = Finding("m1", "python", "ok", "Python 3.11.2")
    taken = Finding("m1", "ports", "error", "port 2379 is in use by nginx.service", "run systemctl disable --now nginx.service")
    full = Finding("m2", "disk", "error", "10 MiB free for /opt", "make room")
    with pytest.raises(PreflightFailed) as caught:
        require_no_errors([fine, taken, clock, full])
    assert str(caught.value).splitlines() == [
        "m1: ports: port 2379 is in use by nginx.service; run systemctl disable --now nginx.service",
        "m2: disk: 10 MiB free for /opt; make room",
    ]
    require_no_errors([fine, clock])


def test_concurrent_changes_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.touch()
    locked_by_other = r"cluster\.yaml: locked by another tercet deploy"
    with locked(path), pytest.raises(ConfigError, match=locked_by_other):
        asyncio.run(Deployment(cluster_of(1, path)).apply())
    with locked(path):
        pass
    with pytest.raises(ConfigError, match=r"none\.yaml: No such file"), locked(tmp_path / "none.yaml"):
        pass


def test_the_lock_is_one_that_nfs_accepts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It refuses an exclusive lock of a file that is not open for writing; a file that may only be read is locked as it is."""
    path = tmp_path / "cluster.yaml"
    path.write_text("name: demo\n")
    writes: list[bool] = []

    def flock(descriptor: int, _operation: int) -> None:
        writes.append(fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR)
        if not writes[-1]:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    monkeypatch.setattr("tercet.deploy.run.file_lock.fcntl.flock", flock)
    with locked(path):
        pass
    original = os.open

    def protected(path: str, flags: int) -> int:
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return original(path, flags)

    monkeypatch.setattr("tercet.deploy.run.file_lock.os.open", protected)
    with pytest.raises(ConfigError, match=r"cluster\.yaml: cannot be locked: Bad file descriptor"), locked(path):
        pass
    assert writes == [True, False]


def test_unknown_member_names_are_rejected(tmp_path: Path) -> None:
    deployment = Deployment(cluster_of(2, tmp_path / "cluster.yaml", tls=True))
    with pytest.raises(ConfigError, match=r"cluster\.yaml: no host named m7; hosts: m1, m2"):
        asyncio.run(deployment.restart(["m7"]))
    with pytest.raises(ConfigError, match="no host named m7"):
        deployment.environment("m7")
    assert deployment.environment("m2")["ETCDCTL_ENDPOINTS"] == "https://10.0.0.2:2379"
    assert deployment.environment()["ETCDCTL_ENDPOINTS"] == "https://10.0.0.1:2379,https://10.0.0.2:2379"
    assert deployment.environment()["ETCDCTL_KEY"] == str(tmp_path / "pki/client-key.pem")
