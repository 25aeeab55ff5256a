"""A restarted member whose database is lost keeps log, term and vote, and applies nothing until it has the leader's."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tercet.errors import StorageFailure
from tercet.raft.codec import encode_conf_change
from tercet.raft.types import ConfChange, ConfChangeType, Entry, EntryType, Message, MessageType, Role
from tercet.replica.repair import ASK_SECONDS, DATABASE_SECONDS_MAX, LEADER_SECONDS_MAX
from tercet.replica.replica import Options
from tercet.storage.memory_backend import MemoryBackend
from tests.replica.lone_member import LEADER, OTHER, SELF, LoneMember, append, put_entry, snapshot_of
from tests.replica.test_repair import follow, follower, tick, value_keys

LAST = 20
SMALL_LOG = Options(snapshot_entries=5, catch_up_entries=2)


def restarted(*, last: int = LAST, backend: MemoryBackend | None = None, unapplied: list[Entry] | None = None) -> LoneMember:
    """It had applied all entries up to `last`; its log begins after a snapshot record."""
    member = LoneMember(options=SMALL_LOG)
    member.settle()
    for index in range(4, last + 1):
        member.follow([put_entry(2, index, b"k%d" % index)], commit=index)
        member.backend.commit_now()
        member.settle()
    if unapplied:
        member.follow(unapplied, commit=last)
    return LoneMember(backend or MemoryBackend(), member.files)


def removal(index: int, removed: int) -> Entry:
    return Entry(2, index, encode_conf_change(ConfChange(ConfChangeType.REMOVE_NODE, removed)), EntryType.CONF_CHANGE)


def acknowledged(member: LoneMember, entries: list[Entry]) -> list[int]:
    """The indexes of the acknowledgements of these entries."""
    before = entries[0].index - 1
    member.receive(append(before, member.raft.log.term(before) or 0, entries, commit=LAST))
    member.settle()
    return [one.index for one in member.take_sent(MessageType.APP_RESP) if not one.reject]


def test_it_has_its_log_its_term_and_its_vote_and_applies_nothing() -> None:
    member = restarted()
    repair = member.replica.repair
    assert repair.is_lost
    assert member.raft.applied_index > 0, "the log begins after a snapshot"
    assert (member.raft.log.last_index, member.raft.term) == (LAST, 2)
    applied = member.raft.applied_index
    follow(member, LAST + 3)
    assert [one.index for one in member.take_sent(MessageType.APP_RESP)][-1] == LAST + 3
    assert (member.raft.applied_index, value_keys(member)) == (applied, [])


def test_it_votes_by_its_log_and_does_not_campaign() -> None:
    member = restarted()
    for candidate, last, granted in ((OTHER, LAST - 1, False), (LEADER, LAST, True)):
        member.receive(Message(MessageType.VOTE, to=SELF, from_=candidate, term=3, index=last, log_term=2))
        member.settle()
        (answer,) = member.take_sent(MessageType.VOTE_RESP)
        assert (answer.to, answer.reject) == (candidate, not granted)
    member.replica.campaign()
    member.receive(Message(MessageType.TIMEOUT_NOW, to=SELF, from_=LEADER, term=3))
    member.settle()
    for _ in range(3 * member.raft.config.election_ticks):
        member.replica.tick()
        member.settle()
    assert member.raft.role is Role.FOLLOWER
    assert not member.take_sent(MessageType.PRE_VOTE)


def test_it_does_not_let_the_leader_be_removed_before_it_has_its_database() -> None:
    """Those that remain could have nobody to lead them: this member cannot, and no log may be as long as its own."""
    member = restarted()
    entries = [put_entry(2, LAST + 1, b"a"), removal(LAST + 2, LEADER), put_entry(2, LAST + 3, b"b")]
    assert acknowledged(member, entries) == [LAST + 1]
    assert acknowledged(member, entries[1:]) == []
    assert member.raft.log.last_index == LAST + 1, "a longer log than another's would keep that one from being elected"
    tick(member)
    member.receive_database(*snapshot_of(follower(LAST + 1), term=2))
    member.settle()
    assert acknowledged(member, entries[1:])[-1] == LAST + 3


def test_it_lets_others_be_removed() -> None:
    assert acknowledged(restarted(), [removal(LAST + 1, OTHER)]) == [LAST + 1]
    assert acknowledged(restarted(), [removal(LAST + 1, SELF)]) == [LAST + 1]


def test_it_keeps_to_a_removal_of_the_leader_that_it_has_acknowledged_before() -> None:
    entries = [removal(LAST + 1, LEADER), put_entry(2, LAST + 2, b"a")]
    assert acknowledged(restarted(unapplied=entries[:1]), entries) == [LAST + 2]


@pytest.mark.parametrize("reached", [LAST, LAST + 2, LAST + 5])
def test_it_goes_on_with_the_leaders_database(reached: int) -> None:
    member = restarted()
    for _ in range(2):
        tick(member, ASK_SECONDS)
        assert len(member.take_sent(MessageType.SNAP_STATUS)) == 1
    follow(member, LAST + 3)
    member.receive_database(*snapshot_of(follower(reached), term=2))
    member.settle()
    assert not member.replica.repair.is_lost
    follow(member, LAST + 6)
    assert member.replica.applied_index == LAST + 6
    assert value_keys(member) == value_keys(follower(LAST + 6))
    assert member.replica.revision == follower(LAST + 6).replica.revision
    member.replica.campaign()
    assert member.raft.role is not Role.FOLLOWER
    again = member.after_power_cut()
    assert not again.replica.repair.is_lost
    assert value_keys(again)


def test_a_crash_before_the_database_has_come_changes_nothing() -> None:
    member = restarted()
    tick(member)
    follow(member, LAST + 2)
    again = member.after_power_cut()
    assert again.replica.repair.is_lost
    assert again.raft.log.last_index == LAST + 2


def test_the_empty_database_never_claims_what_was_lost() -> None:
    """A member starts with a step of compaction, since a restart may have interrupted one. Stored with the index of the lost
    database, the empty one would pass for sound at the next start, and serve nothing.
    """
    member = restarted()
    member.replica.compaction.step(100)
    member.settle()
    member.backend.commit()
    assert member.backend.applied_index == 0
    assert member.after_power_cut().replica.repair.is_lost


def test_a_database_behind_the_snapshot_record_is_not_installed() -> None:
    member = restarted()
    tick(member)
    member.receive_database(*snapshot_of(follower(5), term=2))
    member.settle()
    assert member.replica.repair.is_lost


def without_leader(member: LoneMember) -> None:
    member.now += LEADER_SECONDS_MAX + 1
    member.replica.tick()


def without_database(member: LoneMember) -> None:
    for _ in range(int(DATABASE_SECONDS_MAX / LEADER_SECONDS_MAX) + 2):
        tick(member, LEADER_SECONDS_MAX - 1)


@pytest.mark.parametrize("wait", [without_leader, without_database])
def test_without_a_database_it_stops_with_a_way_out(wait: Callable[[LoneMember], None]) -> None:
    member = restarted()
    with pytest.raises(StorageFailure, match="member remove 1"):
        wait(member)
