"""Defragmentation, compaction, alarms and backups of a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import pytest

from tercet.deploy.members.members import MemberAnswer, Members
from tercet.deploy.members.snapshot import Snapshot, read, save
from tercet.deploy.plan.plan import Plan
from tercet.deploy.run import rolling
from tercet.deploy.run.backup import backup_of
from tercet.deploy.run.executor import DeployError, execute
from tercet.deploy.run.space import Space, alarms_of, is_worthwhile
from tercet.errors import Code, ConfigError, StatusError
from tercet.proto import rpc_pb2
from tests.deploy.scripted_host import ScriptedHost, cluster_of
from tests.deploy.test_rolling import ScriptedMembers

MIB = 1 << 20
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Sized(ScriptedMembers):
    """Members with databases of 100 MiB, of which `free` is free."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **free: int) -> None:
        cluster = cluster_of(3)
        super().__init__(cluster, {spec.name: ScriptedHost(spec.name) for spec in cluster.hosts}, leader="m1")
        self.free = free
        self.calls: list[str] = []
        self.raised: list[rpc_pb2.AlarmMember] = []
        self.quota = 120 * MIB
        self.revision = 5000
        self.compact_error = ""

        async def defragment(_: object, name: str) -> None:
            self.calls.append(f"defragment {name}")
            self.free[name] = 0

        async def compact(_: object, revision: int) -> None:
            self.calls.append(f"compact {revision}")
            if self.compact_error:
                raise StatusError(Code.OUT_OF_RANGE, self.compact_error)

        async def disarm(_: object, alarm: rpc_pb2.AlarmMember) -> None:
            self.calls.append(f"disarm {alarm.memberID}")

        async def current_revision(_: object) -> int:
            return self.revision

        for fake in (defragment, compact, disarm, current_revision):
            monkeypatch.setattr(f"tercet.deploy.members.changes.{fake.__name__}", fake)
        monkeypatch.setattr(rolling, "_BEFORE_SECONDS", 0.1)

    async def answer_of(self, name: str) -> MemberAnswer:
        free = self.free.get(name, 0)
        if name in self.unreachable:
            return MemberAnswer(name, f"connection to {name} refused")
        answer = await super().answer_of(name)
        size = (50 if f"defragment {name}" in self.calls else 100) * MIB
        return replace(answer, db_size=size, db_size_in_use=size - free, quota=self.quota)

    async def alarms(self) -> list[rpc_pb2.AlarmMember]:
        return self.raised

    @property
    def space(self) -> Space:
        return Space(self.cluster, cast(Members, self))


def shape(plan: Plan) -> list[str]:
    return [f"{phase.title}: {' '.join(step.host or 'local' for step in phase.steps)}" for phase in plan.phases]


def test_members_with_much_free_space_are_defragmented_leader_last(monkeypatch: pytest.MonkeyPatch) -> None:
    members = Sized(monkeypatch, m1=60 * MIB, m3=30 * MIB, m2=2 * MIB)
    found = asyncio.run(members.space.defrag([], every=False))
    assert shape(found) == ["defragment: m3 m1"]
    members.free["m3"] -= MIB
    assert asyncio.run(members.space.defrag([], every=False)).changes == found.changes, "a write does not make it stale"
    asyncio.run(execute(found))
    assert members.calls == ["defragment m3", "defragment m1"]
    assert asyncio.run(members.space.defrag([], every=False)).is_empty
    assert shape(asyncio.run(members.space.defrag(["m2"], every=True))) == ["defragment: m2"]


@pytest.mark.parametrize(
    ("size", "used", "is_needed"), [(100, 70, True), (100, 80, False), (8, 1, False), (40, 30, True), (400, 380, False)]
)
def test_a_quarter_of_the_file_and_eight_mib_must_be_free(size: int, used: int, is_needed: bool) -> None:
    answer = MemberAnswer("m1", member_id=1, db_size=size * MIB, db_size_in_use=used * MIB)
    assert is_worthwhile(answer) is is_needed


def test_no_member_is_defragmented_if_the_others_have_no_majority(monkeypatch: pytest.MonkeyPatch) -> None:
    members = Sized(monkeypatch, m2=60 * MIB)
    members.unhealthy = {"m3"}
    found = asyncio.run(members.space.defrag([], every=False))
    with pytest.raises(DeployError, match=r"^m2: gate: not defragmented: m3 is not healthy"):
        asyncio.run(execute(found))
    assert members.calls == []


def test_members_that_do_not_answer_are_not_taken_for_members_without_free_space(monkeypatch: pytest.MonkeyPatch) -> None:
    members = Sized(monkeypatch, m1=60 * MIB)
    members.unreachable = {"m2"}
    assert asyncio.run(members.space.defrag([], every=False)).notes == (
        "m1: about 60 MiB of 100 MiB are free",
        "m2 does not answer: connection to m2 refused",
    )
    with pytest.raises(DeployError, match=r"^m2: defragment: the member does not answer: connection to m2 refused"):
        asyncio.run(members.space.defrag(["m2"], every=True))


def test_the_alarm_is_disarmed_when_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    members = Sized(monkeypatch, m1=60 * MIB)
    members.quota = 100 * MIB  # as large as the files
    members.raised = [rpc_pb2.AlarmMember(memberID=1, alarm=rpc_pb2.NOSPACE)]
    found = asyncio.run(members.space.defrag([], every=False))
    assert shape(found) == ["defragment: m2 m3 m1", "alarms: local"], "writes are stopped, so every full member, however little"
    found = asyncio.run(members.space.defrag(["m1"], every=False))
    with pytest.raises(DeployError, match=r"not disarmed: m2 uses 104857600 of 104857600 bytes, m3 uses"):
        asyncio.run(execute(found))
    texts: list[str] = []
    asyncio.run(execute(asyncio.run(members.space.compact(1000)), lambda event: texts.append(event.detail)))
    assert any(text.startswith("not yet: m2 uses 104857600 of 104857600 bytes") for text in texts)
    assert not any("disarm" in call for call in members.calls)
    asyncio.run(execute(asyncio.run(members.space.defrag([], every=True))))
    assert members.calls[-1] == "disarm 1"
    members.quota = 200 * MIB  # the operator has raised it: no member needs work
    assert shape(asyncio.run(members.space.defrag([], every=False))) == ["alarms: local"]


def test_compaction_keeps_the_newest_revisions(monkeypatch: pytest.MonkeyPatch) -> None:
    members = Sized(monkeypatch)
    asyncio.run(execute(asyncio.run(members.space.compact(1000))))
    assert members.calls == ["compact 4000"]
    members.compact_error = "etcdserver: mvcc: required revision has been compacted"
    asyncio.run(execute(asyncio.run(members.space.compact(1000))))  # nothing to do
    members.compact_error = "etcdserver: no leader"
    with pytest.raises(DeployError, match=r"^cluster: compact: etcdserver: no leader"):
        asyncio.run(execute(asyncio.run(members.space.compact(1000))))
    assert asyncio.run(members.space.compact(5000)).is_empty


def test_alarms_are_shown_with_their_member() -> None:
    raised = [rpc_pb2.AlarmMember(memberID=2, alarm=kind) for kind in (rpc_pb2.NOSPACE, rpc_pb2.CORRUPT)]
    assert alarms_of(raised, {"m1": 1, "m2": 2}) == {"m1": (), "m2": ("CORRUPT", "NOSPACE")}


# Snapshots.


class Sender:
    """A member that sends these pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces

    def member(self, name: str) -> Sender:
        return self

    async def snapshot(self, request: Any) -> AsyncGenerator[rpc_pb2.SnapshotResponse]:
        for piece in self.pieces:
            yield rpc_pb2.SnapshotResponse(blob=piece)


def saved(target: Path, *pieces: bytes) -> Snapshot:
    return asyncio.run(save(cast(Members, Sender(*pieces)), "m1", target, lambda done: None))


def test_a_damaged_snapshot_gets_no_name(tmp_path: Path) -> None:
    target = tmp_path / "backups/demo.db"
    content = bytes(4096)
    for pieces, text in (
        ((content, bytes(32)), "cut off or damaged in transit"),
        ((content,), "cut off or damaged in transit"),
        ((content, sha256(content).digest()), "damaged snapshot"),  # the sender's digest is right, the file is no database
    ):
        with pytest.raises(ConfigError, match=text):
            saved(target, *pieces)
        assert list(target.parent.iterdir()) == []
    assert target.parent.stat().st_mode & 0o777 == 0o700
    (tmp_path / "copied.db").write_bytes(content)
    with pytest.raises(ConfigError, match="no SHA-256 at its end"):
        read(tmp_path / "copied.db")


def test_a_backup_comes_from_a_follower_that_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = Sized(monkeypatch)
    members.unhealthy = {"m2"}
    sources: list[str] = []

    async def save(_: object, name: str, target: Path, progress: object) -> Snapshot:
        sources.append(name)
        target.touch()
        return Snapshot(target, 1, 2, 3, 4)

    async def hash_of(_: object, name: str, revision: int) -> rpc_pb2.HashKVResponse:
        return rpc_pb2.HashKVResponse(hash=7)

    async def rehearse(path: Path, *, revision: int) -> rpc_pb2.HashKVResponse:
        return rpc_pb2.HashKVResponse(hash=restored)

    restored = 7
    monkeypatch.setattr("tercet.deploy.run.backup.save", save)
    monkeypatch.setattr("tercet.deploy.run.backup.hash_of", hash_of)
    monkeypatch.setattr("tercet.deploy.run.backup.rehearse", rehearse)
    monkeypatch.setattr("tercet.deploy.run.backup.newest_revision", lambda path: 2)
    old = [tmp_path / f"c-2025010{day}T000000Z.db" for day in (1, 2, 3)]
    other = tmp_path / "other-20250101T000000Z.db"
    for path in (*old, other):
        path.touch()
    backup = backup_of(members.cluster, cast(Members, members), tmp_path, NOW, keep=2)
    asyncio.run(execute(asyncio.run(backup.plan())))
    assert sources == ["m3"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [old[2].name, "c-20260102T030405Z.db", other.name]
    restored = 8
    before = sorted(tmp_path.iterdir())
    left = tmp_path / "tercet-backup-1/.tercet-owner"  # by a command that was killed: a plain copy of all data
    left.parent.mkdir()
    left.touch()
    with pytest.raises(DeployError, match=r"m3: verify snapshot: the restored data differs from that of m3 at revision 2"):
        asyncio.run(execute(asyncio.run(backup.plan())))
    assert sorted(tmp_path.iterdir()) == before
    members.unhealthy = {"m1", "m2", "m3"}
    with pytest.raises(DeployError, match=r"^m1: save snapshot: not healthy"):
        asyncio.run(backup.plan())
