"""A received database may be newer than its snapshot: the entries that it holds are not applied a second time."""

from __future__ import annotations

from dataclasses import replace

from tercet.raft.types import Entry
from tercet.replica.status import ReplicaStatus
from tests.replica.lone_member import LoneMember, put_entry, snapshot_of

SNAPSHOT_INDEX, DATABASE_INDEX = 8, 12


def entries() -> list[Entry]:
    return [put_entry(2, index, b"k") for index in range(4, DATABASE_INDEX + 1)]


def revision(replica: ReplicaStatus) -> int:
    return replica.store.revision


def test_entries_that_a_newer_database_holds_are_applied_once_also_after_a_crash() -> None:
    leader = LoneMember()
    leader.follow(entries(), commit=DATABASE_INDEX)
    leader.backend.commit_now()
    message, content = snapshot_of(leader, term=2)
    assert message.snapshot is not None
    message.snapshot = replace(message.snapshot, index=SNAPSHOT_INDEX)
    expected = revision(leader.replica)

    member = LoneMember()
    member.receive_database(message, content)
    member.settle()
    assert member.backend.applied_index == DATABASE_INDEX, "the database's own index is durable with it"
    assert revision(member.replica) == expected
    missing = [entry for entry in entries() if entry.index > SNAPSHOT_INDEX]
    member.follow(missing[:2], commit=SNAPSHOT_INDEX + 2)
    member.backend.commit_now()
    assert revision(member.replica) == expected
    assert member.backend.applied_index == DATABASE_INDEX, "the index does not go back to that of the entries"
    member = member.after_power_cut()
    member.settle()
    member.follow(missing[2:], commit=DATABASE_INDEX)
    assert revision(member.replica) == expected
    member.follow([put_entry(2, DATABASE_INDEX + 1, b"k")], commit=DATABASE_INDEX + 1)
    assert revision(member.replica) == expected + 1
