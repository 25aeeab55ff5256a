"""Recovery after a power cut between the steps of installing a snapshot."""

from __future__ import annotations

from random import Random

import pytest

from tercet.raft.types import MessageType
from tercet.storage.interfaces import Bucket
from tercet.storage.memory_backend import MemoryBackend
from tests.replica.lone_member import LoneMember, append, put_entry, snapshot_of


def leader_at(index: int, term: int) -> LoneMember:
    """The sender of a snapshot, which has applied `index` entries, the last of them in `term`."""
    leader = LoneMember()
    leader.settle()
    leader.follow([put_entry(term, at, b"of-the-leader-%d" % at) for at in range(4, index + 1)], commit=index, term=term)
    leader.backend.commit_now()
    assert leader.replica.applied_index == index
    return leader


def member_with_stale_log(*, term: int, last: int) -> LoneMember:
    """A member that holds entries which were never committed."""
    member = LoneMember()
    member.settle()
    member.follow([put_entry(term, at, b"stale") for at in range(4, last + 1)], commit=3, term=term)
    member.backend.commit_now()
    return member


@pytest.mark.parametrize("stale_last", [4, 7, 8, 12])
def test_a_power_cut_between_database_and_log_keeps_the_snapshot(stale_last: int) -> None:
    """The database is the snapshot's, the log is still the old one, and may be longer than the snapshot's index.

    Its entries conflict with the snapshot: kept, they would count as committed, and no leader's append would match.
    """
    leader = leader_at(8, term=4)
    member = member_with_stale_log(term=2, last=stale_last)
    message, database = snapshot_of(leader, term=4)
    member.receive_database(message, database)
    member.turn()  # the database is durable, the log is not
    assert isinstance(member.backend, MemoryBackend)
    member = member.after_power_cut()
    assert member.replica.applied_index == 8
    assert (member.raft.log.last_index, member.raft.log.last_term) == (8, 4)

    member.receive(append(8, 4, [put_entry(4, 9, b"next")], commit=9, term=4))
    member.settle()
    acknowledged = member.take_sent(MessageType.APP_RESP)
    assert [(one.index, one.reject) for one in acknowledged] == [(9, False)]
    again = member.after_power_cut()
    again.settle()
    assert (again.raft.log.last_index, again.raft.log.term(9)) == (9, 4)


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_stale_entries_do_not_count_as_committed_when_the_snapshots_database_is_lost(writes: int) -> None:
    """Power fails after so many records of the installation, and the database is lost: it is made again from the log.

    With the snapshot's commit index but not its record, the log's entries up to there would be applied, which conflict with it.
    """
    member = member_with_stale_log(term=2, last=12)
    member.receive_database(*snapshot_of(leader_at(8, term=4), term=4))
    member.turn()
    for write, _ in member.disk.waiting[:writes]:
        write()
    member.disk.wal.sync()
    member.files.crash(Random(1))
    again = LoneMember(MemoryBackend(), member.files)
    again.settle()
    assert again.replica.repair.is_lost == (writes > 0)
    assert list(again.backend.scan(Bucket.KEY)) == []


def test_a_log_that_matches_the_database_is_kept() -> None:
    """After a crash right after a backend commit, the log keeps the acknowledged entries that follow it."""
    member = LoneMember()
    member.settle()
    member.follow([put_entry(2, at, b"k") for at in range(4, 9)], commit=6)
    member.backend.commit_now()
    member = member.after_power_cut()
    assert member.replica.applied_index == 6
    assert [member.raft.log.term(index) for index in (6, 7, 8)] == [2, 2, 2]


@pytest.mark.parametrize("order", [(8, 12), (12, 8)])
@pytest.mark.parametrize("in_one_turn", [True, False])
def test_d17_of_two_snapshots_each_is_installed_from_its_own_database(order: tuple[int, int], in_one_turn: bool) -> None:
    """etcd #18055: the newer file arrived, the older one was removed, and Raft installed the older snapshot."""
    member = LoneMember()
    member.settle()
    for at in order:
        member.receive_database(*snapshot_of(leader_at(at, term=4), term=4))
        if not in_one_turn:
            member.settle()
            assert member.replica.applied_index == max(at, order[0])
    member.settle()
    assert member.replica.applied_index == 12
