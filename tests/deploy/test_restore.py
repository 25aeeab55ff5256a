"""Restores: the copy with a higher revision, the record on the hosts, and what is refused while one is unfinished."""

from __future__ import annotations

import asyncio
import subprocess
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from tercet.deploy.cluster.cluster import HostSpec
from tercet.deploy.facts.facts import FileFact
from tercet.deploy.members.bumped_snapshot import newest_revision, write_bumped
from tercet.deploy.members.members import MemberHealth, Members
from tercet.deploy.members.snapshot import Snapshot, read
from tercet.deploy.plan.certificates import Certificates
from tercet.deploy.plan.desired import desired
from tercet.deploy.plan.plan import Plan
from tercet.deploy.run.executor import DeployError, execute
from tercet.deploy.run.restore import restore
from tercet.deploy.run.restore_steps import Record, Source
from tercet.deploy.run.rolling import health_phase, restart_plan
from tercet.deploy.ssh.remote import Completed, Host
from tercet.errors import ConfigError
from tests.deploy.clusters import artifact_of, cluster_of, fresh
from tests.deploy.scripted_host import ScriptedHost
from tests.deploy.test_rolling import ScriptedMembers
from tests.support.etcd import binary, running_etcd


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A snapshot of etcd 3.5.1 at revision 3."""
    directory = tmp_path_factory.mktemp("etcd")
    with running_etcd(directory) as etcd:
        for value in ("1", "2"):
            etcd.ctl("put", "a", value)
        etcd.ctl("snapshot", "save", directory / "saved.db")
    return directory / "saved.db"


def test_an_etcd_that_cannot_bump_serves_the_higher_revision_and_compacts_all_before(saved: Path, tmp_path: Path) -> None:
    copy, data = tmp_path / "copy.db", tmp_path / "restored"
    assert newest_revision(saved) == 3
    write_bumped(saved, copy, 1000)
    assert newest_revision(copy) == 1000
    assert copy.stat().st_mode & 0o777 == 0o600
    assert read(copy).items >= read(saved).items
    subprocess.run([binary("etcdutl"), "snapshot", "restore", copy, f"--data-dir={data}"], check=True, capture_output=True)
    with running_etcd(tmp_path / "after", data=data) as etcd:
        assert etcd.ctl("get", "a", "--print-value-only").strip() == "2"
        assert etcd.ctl_json("get", "a")["header"]["revision"] == 1000
        etcd.ctl("put", "a", "3")
        assert etcd.ctl_json("get", "a")["kvs"][0]["mod_revision"] == 1001
        old = [binary("etcdctl"), f"--endpoints={etcd.client_url}", "get", "a", "--rev=3"]
        assert "required revision has been compacted" in subprocess.run(old, capture_output=True, text=True, check=False).stderr


def test_a_file_without_a_digest_is_accepted_when_told(saved: Path, tmp_path: Path) -> None:
    bare = tmp_path / "db"
    bare.write_bytes(saved.read_bytes()[:-32])
    with pytest.raises(ConfigError, match="no SHA-256 at its end"):
        read(bare)
    assert read(bare, skip_hash_check=True).revision == 3


@pytest.mark.parametrize("text", ["", "{", "[]", '{"id": "x"}', '{"id": "a", "sha256": "b", "bump": "x", "hosts": []}'])
def test_a_damaged_record_is_none(text: str) -> None:
    assert Record.from_json(text) is None


def test_a_record_survives_the_file() -> None:
    record = Record("20260102T030405Z", "ab" * 32, 10, ("node1", "node2"), 1000)
    assert Record.from_json(record.to_json().decode()) == record


@pytest.mark.parametrize(("free", "copied", "is_refused"), [(327, False, True), (328, False, False), (228, True, False)])
def test_no_disk_is_filled_under_a_member_that_serves(tmp_path: Path, free: int, copied: bool, is_refused: bool) -> None:
    cluster = cluster_of(tmp_path, "tls: {enabled: false}")
    snapshot = Snapshot(tmp_path / "demo.db", 100 << 20, 1, 1, 0)
    source = Source(snapshot, snapshot.path, 1, "", 0, has_digest=True)
    members = cast(Members, ScriptedMembers(cluster, {}, leader="node1"))
    found = restore(cluster, {}, {}, members, source, work=tmp_path, backups=None)
    files = {found.steps.copy: FileFact(kind="file" if copied else "absent"), found.steps.unpacked: FileFact(kind="absent")}
    spec = cluster.hosts[0]
    wish = desired(cluster, spec, artifact_of(cluster), Certificates())
    facts = replace(fresh(cluster, wish), files=files, disk_free={cluster.paths.data: free << 20})
    raised = pytest.raises(DeployError, match=r"node1: plan: 327 MiB free for /var/lib/etcd, 328 MiB needed")
    with raised if is_refused else nullcontext():
        found._require_space({"node1": facts}, ["node1"])


def test_a_restore_of_a_snapshot_with_an_alarm_is_completed(tmp_path: Path) -> None:
    """A full cluster is restored as a full one; until the restore is complete, other commands refuse to start its members."""

    class Alarmed(ScriptedMembers):
        async def health_of(self, spec: HostSpec) -> MemberHealth:
            return MemberHealth(spec.name, "", False, 0.001, "Active Alarm(s): NOSPACE", commits=True)

    cluster = cluster_of(tmp_path, "tls: {enabled: false}\nservice: {start_timeout_seconds: 1}")
    members = cast(Members, Alarmed(cluster, {}, leader="node1"))
    asyncio.run(execute(Plan((health_phase(cluster, members, ["node1"], allows_alarms=True),))))
    with pytest.raises(DeployError, match="NOSPACE"):
        asyncio.run(execute(Plan((health_phase(cluster, members, ["node1"]),))))
    source = Source(Snapshot(tmp_path / "demo.db", 1, 1, 1, 0), tmp_path / "demo.db", 1, "", 0, has_digest=True)
    hosts = {"node1": cast(Host, ScriptedHost("node1"))}
    found = restore(cluster, hosts, {}, members, source, work=tmp_path, backups=None)
    facts = {"node1": fresh(cluster, desired(cluster, cluster.hosts[0], artifact_of(cluster), Certificates()))}
    [health] = [phase for phase in found._exchanges(facts, Record("1", "", 0, ("node1",), 0), []) if phase.title == "health"]
    asyncio.run(execute(Plan((health,))))


def test_no_member_is_restarted_during_a_restore(tmp_path: Path) -> None:
    class Unfinished(ScriptedHost):
        async def run(self, command: str, **options: object) -> Completed:
            answer = await super().run(command, **options)
            return replace(answer, stdout=b"unfinished\n") if "/restore/record.json" in command else answer

    cluster = cluster_of(tmp_path)
    hosts = {spec.name: cast(Host, Unfinished(spec.name)) for spec in cluster.hosts}
    members = ScriptedMembers(cluster, {}, leader="node1")
    with pytest.raises(DeployError, match=r"node1: plan: a restore has not finished"):
        asyncio.run(restart_plan(cluster, hosts, members, ["node1"]))  # type: ignore[arg-type]
