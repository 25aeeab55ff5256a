"""Recovery from a lost majority: the end of a log on disk, the newest survivor, and what is refused."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest

from tercet.deploy.cluster.settings import EngineSettings
from tercet.deploy.facts.log_probe import end_of_log
from tercet.deploy.members.left_behind import LeftBehind
from tercet.deploy.members.members import Members
from tercet.deploy.plan.plan import Phase, Plan
from tercet.deploy.run.executor import execute
from tercet.deploy.run.recover import LogEnd, Recovery
from tercet.deploy.ssh.remote import Host
from tercet.errors import ConfigError
from tercet.raft.types import ConfState, Entry, HardState, Snapshot
from tercet.storage.os_filesystem import OsFileSystem
from tercet.storage.wal import WAL
from tests.deploy.clusters import cluster_of
from tests.deploy.scripted_host import STOPPED, ScriptedHost
from tests.deploy.test_rolling import ScriptedMembers
from tests.support.etcd import running_etcd

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def test_the_end_of_a_log_of_etcd(tmp_path: Path) -> None:
    with running_etcd(tmp_path / "etcd") as etcd:
        for number in range(5):
            etcd.ctl("put", "a", str(number))
        status = etcd.ctl_json("endpoint", "status")[0]["Status"]  # type: ignore[index]
        running = end_of_log(str(etcd.data / "member" / "wal"))
    assert running == end_of_log(str(etcd.data / "member" / "wal"))
    assert (running["index"], running["term"]) == (status["raftIndex"], status["raftTerm"])
    assert running["index"] - 1 <= running["commit"] <= running["index"]


def test_the_end_of_a_log_of_tercet(tmp_path: Path) -> None:
    wal = WAL.create(OsFileSystem(), str(tmp_path / "wal"), b"metadata")
    wal.append(HardState(2, 1, 0), [Entry(1, 1, data=b"x"), Entry(2, 2, data=b"y" * 300), Entry(2, 3, data=b"z")])
    wal.append(HardState(3, 1, 2), [Entry(3, 3, data=b"replaces the entry before")])
    wal.sync()
    wal.close()
    assert end_of_log(str(tmp_path / "wal")) == {"term": 3, "index": 3, "commit": 2}


def test_a_snapshot_beyond_the_log_is_its_end(tmp_path: Path) -> None:
    wal = WAL.create(OsFileSystem(), str(tmp_path / "wal"), b"")
    wal.append(HardState(1, 1, 1), [Entry(1, 1)])
    wal.save_snapshot(Snapshot(900, 7, ConfState(voters=(1,))))
    wal.append(HardState(7, 1, 900), [])
    wal.sync()
    wal.close()
    assert end_of_log(str(tmp_path / "wal")) == {"term": 7, "index": 900, "commit": 900}


def test_a_torn_record_at_the_end_is_skipped(tmp_path: Path) -> None:
    wal = WAL.create(OsFileSystem(), str(tmp_path / "wal"), b"")
    wal.append(HardState(1, 1, 0), [Entry(1, 1)])
    wal.sync()
    wal.append(HardState(1, 1, 0), [Entry(1, 2, data=b"x" * 1000)])
    wal.sync()
    wal.close()
    [segment] = [path for path in (tmp_path / "wal").glob("*.wal") if path.read_bytes().strip(b"\0")]
    content = segment.read_bytes().rstrip(b"\0")
    segment.write_bytes(content[:-500])
    assert end_of_log(str(tmp_path / "wal"))["index"] == 1


def test_an_empty_directory_has_no_log(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no write-ahead log"):
        end_of_log(str(tmp_path))


class Survivors(Recovery):
    """Hosts whose logs end as `ends` says; the others are not reached."""

    def __init__(self, directory: Path, ends: Mapping[str, LogEnd | None], **options: object) -> None:
        cluster = cluster_of(directory)
        if options.pop("is_etcd", False):
            cluster = replace(cluster, engine=EngineSettings(kind="etcd", source="etcd.tar.gz"))
        members = ScriptedMembers(cluster, {}, leader="node1")
        members.left_behind = LeftBehind.read(cluster)
        members.unhealthy = {spec.name for spec in cluster.hosts} - set(cast(list[str], options.pop("healthy", [])))
        hosts = {name: cast(Host, ScriptedHost(name)) for name in ends}
        lost = frozenset(cast(list[str], options.pop("lost", [])))
        super().__init__(cluster, hosts, cast(Members, members), lost, bool(options.pop("forced", False)), NOW)
        object.__setattr__(self, "ends", ends)

    async def _log_ends(self, hosts: Mapping[str, Host]) -> dict[str, LogEnd | None]:
        ends: Mapping[str, LogEnd | None] = self.ends  # type: ignore[attr-defined]
        return {name: ends[name] for name in hosts}

    def planned(self) -> Plan:
        return asyncio.run(self.plan())


END = LogEnd(2, 100, 90)


def test_nothing_is_recovered_while_a_majority_commits(tmp_path: Path) -> None:
    assert Survivors(tmp_path, {"node1": END}, healthy=["node1"], lost=["node2", "node3"]).planned().is_empty


def test_a_majority_that_has_its_data_is_not_given_up(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"node1, node2 have their data, a majority of 3"):
        Survivors(tmp_path, {"node1": END, "node2": END}, lost=["node3"]).planned()
    assert Survivors(tmp_path, {"node1": END, "node2": END}, lost=["node3"], forced=True).planned().steps


def test_hosts_that_are_not_reached_must_be_named_as_lost(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"node2, node3 may come back.*--lost node2 --lost node3"):
        Survivors(tmp_path, {"node1": END}).planned()
    plan = Survivors(tmp_path, {"node1": END, "node2": None, "node3": None}).planned()  # reached, and without data
    assert [step.host for step in plan.steps if step.title == "restart as the only member"] == ["node1"]


def test_without_data_there_is_nothing_to_recover(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="restore a snapshot instead"):
        Survivors(tmp_path, {"node1": None, "node2": None, "node3": None}).planned()
    with pytest.raises(ConfigError, match=r"node2, not reached, may have: rerun when they are back"):
        Survivors(tmp_path, {"node1": None}, lost=["node3"]).planned()


@pytest.mark.parametrize(
    ("is_etcd", "chosen", "note"),
    [(False, "node1", "continues from entry 110 of node1"), (True, "node2", "continues from entry 105 of node2")],
)
def test_the_survivor_that_keeps_most_is_chosen(tmp_path: Path, is_etcd: bool, chosen: str, note: str) -> None:
    """tercet keeps the whole log; etcd drops what it does not know to be committed."""
    ends = {"node1": LogEnd(3, 110, 100), "node2": LogEnd(3, 107, 105)}
    plan = Survivors(tmp_path, ends, is_etcd=is_etcd, lost=["node3"], forced=True).planned()
    assert [step.host for step in plan.steps if step.title == "restart as the only member"] == [chosen]
    assert any(note in line for line in plan.notes)
    assert any("drops entries 106 to 107" in line for line in plan.notes) is is_etcd


def test_the_others_are_recorded_before_the_survivor_starts(tmp_path: Path) -> None:
    survivors = Survivors(tmp_path, {"node1": END, "node2": None}, lost=["node3"])
    plan = survivors.planned()
    titles = [step.title for step in plan.steps]
    assert titles.index("record the members left behind") < titles.index("restart as the only member")
    asyncio.run(execute(Plan(tuple(phase for phase in plan.phases if phase.title == "record"))))
    record = LeftBehind.read(survivors.cluster)
    assert [(one.name, one.peer_url, one.id) for one in record] == [
        ("node2", "https://10.0.0.2:2380", "20260102T000000Z"),
        ("node3", "https://10.0.0.3:2380", "20260102T000000Z"),
    ]


def test_the_unit_forgets_the_flag_even_if_the_connection_is_lost(tmp_path: Path) -> None:
    """Started once more with --force-new-cluster, the member would remove the members that were added meanwhile."""
    survivors = Survivors(tmp_path, {"node1": END}, lost=["node2", "node3"])
    [restart] = [step for step in survivors.planned().steps if step.title == "restart as the only member"]
    host = cast(ScriptedHost, survivors.hosts["node1"])
    survivors.members.unhealthy = set()  # type: ignore[attr-defined]
    asyncio.run(execute(Plan((Phase("restart", (restart,)),))))
    [written] = [command for command in host.commands if "daemon-reload" in command and not command.startswith("rm ")]
    flag = "/run/tercet-deploy/etcd.force-new-cluster"
    assert f"EnvironmentFile=-{flag}\nExecStartPost=+/usr/bin/env rm -f {flag}\n" in written
    assert written.count("ETCD_FORCE_NEW_CLUSTER") == 1
    assert f"echo ETCD_FORCE_NEW_CLUSTER=true >{flag} " in written


def test_a_copy_that_a_full_disk_cuts_leaves_nothing(tmp_path: Path) -> None:
    survivors = Survivors(tmp_path, {"node1": END}, lost=["node2", "node3"])
    [copy] = [step for step in survivors.planned().steps if step.title == "keep a copy of the data"]
    asyncio.run(execute(Plan((Phase("keep", (copy,)),))))
    command = cast(ScriptedHost, survivors.hosts["node1"]).commands[-1]
    data = tmp_path / "data"
    (data / "member").mkdir(parents=True)
    (data / "member" / "db").write_bytes(bytes(1 << 20))
    command = command.replace(survivors.cluster.paths.data, str(data))
    failed = subprocess.run(["sh", "-c", f"ulimit -f 1; {command}"], capture_output=True, check=False)
    assert failed.returncode
    assert [path.name for path in data.iterdir()] == ["member"]
    subprocess.run(["sh", "-c", command], check=True)
    assert (data / "before-recover-20260102T000000Z" / "db").stat().st_size == 1 << 20


def test_reached_members_that_are_down_are_disabled(tmp_path: Path) -> None:
    """They would start at the next boot of their host, with the votes of the cluster before."""
    survivors = Survivors(tmp_path, {"node1": END, "node2": None, "node3": None})
    for host in survivors.hosts.values():
        cast(ScriptedHost, host)._before = STOPPED
    stops = next(phase for phase in survivors.planned().phases if phase.title == "stop")
    assert [step.host for step in stops.steps] == ["node1", "node2", "node3"]


def test_a_majority_that_cannot_be_fenced_is_named(tmp_path: Path) -> None:
    both = Survivors(tmp_path, {"node1": END}, lost=["node2", "node3"]).planned()
    assert any("node2, node3 are a majority of the cluster before, and cannot be fenced" in note for note in both.notes)
    one = Survivors(tmp_path, {"node1": END, "node2": None}, lost=["node3"]).planned()
    assert not any("cannot be fenced" in note for note in one.notes), "node3 alone elects no leader"


def test_a_member_that_was_left_behind_is_no_survivor(tmp_path: Path) -> None:
    """Its log may be longer: it is that of another cluster since."""
    cluster = cluster_of(tmp_path)
    LeftBehind(cluster).add([cluster.host("node2"), cluster.host("node3")], "recovery", "20260101T000000Z")
    ends = {"node1": END, "node2": LogEnd(9, 900, 900), "node3": LogEnd(9, 900, 900)}
    plan = Survivors(tmp_path, ends).planned()
    assert [step.host for step in plan.steps if step.title == "restart as the only member"] == ["node1"]
    with pytest.raises(ConfigError, match="restore a snapshot instead"):
        Survivors(tmp_path, {"node2": END, "node3": END}, lost=["node1"]).planned()
    forced = Survivors(tmp_path, {"node2": END, "node3": END}, lost=["node1"], forced=True).planned()
    assert [step.host for step in forced.steps if step.title == "restart as the only member"] == ["node2"]
