"""--force-new-cluster from every kind of directory: afterwards one voter, no learner, all data, also after another restart."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tercet.errors import ConfigError
from tercet.raft.codec import encode_conf_change
from tercet.raft.types import ConfChange, ConfChangeType, ConfState, Entry, EntryType
from tercet.replica.force_new_cluster import force_new_cluster
from tercet.replica.membership import Member, change_context
from tercet.replica.state_machine import StateMachine
from tercet.storage.memory_backend import MemoryBackend
from tercet.storage.wal import WAL
from tests.replica.lone_member import LEADER, OTHER, SELF, LoneMember, put_entry

URLS = ("http://self:2380",)


def forced(member: LoneMember) -> LoneMember:
    """The member after a power cut and a start with the flag."""
    assert isinstance(member.backend, MemoryBackend)
    member.backend.crash()
    wal, recovered = WAL.open(member.files, "wal")
    force_new_cluster(StateMachine(member.backend), wal, recovered, member_id=SELF, peer_urls=URLS)
    wal.close()
    return LoneMember(member.backend, member.files)


def change_entry(index: int, kind: ConfChangeType, id: int) -> Entry:
    context = b"" if kind is ConfChangeType.REMOVE_NODE else change_context(Member(id, (f"http://{id}:2380",)))
    return Entry(2, index, encode_conf_change(ConfChange(kind, node_id=id, context=context)), EntryType.CONF_CHANGE)


def follower(*entries: Entry, commit: int) -> LoneMember:
    """A follower of three with one committed put, then `entries` from index 5 on."""
    member = LoneMember()
    member.settle()
    member.follow([put_entry(2, 4, b"acknowledged")], commit=4)
    if entries:
        member.follow(list(entries), commit=commit)
    member.backend.commit_now()
    return member


def of_three() -> LoneMember:
    return follower(commit=4)


def with_an_uncommitted_tail() -> LoneMember:
    return follower(put_entry(2, 5, b"tail"), commit=4)


def with_a_learner_and_a_member_that_joined() -> LoneMember:
    added = change_entry(5, ConfChangeType.ADD_LEARNER_NODE, 7), change_entry(6, ConfChangeType.ADD_NODE, 8)
    return follower(*added, commit=6)


def with_an_uncommitted_change() -> LoneMember:
    return follower(change_entry(5, ConfChangeType.ADD_NODE, 8), put_entry(2, 6, b"tail"), commit=4)


def whose_removal_is_applied() -> LoneMember:
    return follower(change_entry(5, ConfChangeType.REMOVE_NODE, SELF), commit=5)


def whose_removal_is_not_committed() -> LoneMember:
    return follower(change_entry(5, ConfChangeType.REMOVE_NODE, SELF), commit=4)


def in_the_middle_of_a_joint_change() -> LoneMember:
    member = follower(commit=4)
    joint = ConfState(voters=(SELF, 8), voters_outgoing=(SELF, LEADER, OTHER), learners_next=(OTHER,), auto_leave=True)
    member.replica.state_machine.save_conf_state(joint)
    member.replica._applier.close_writes()
    member.backend.commit_now()
    return member


def that_is_a_learner() -> LoneMember:
    member = follower(commit=4)
    state_machine = member.replica.state_machine
    state_machine.save_conf_state(ConfState(voters=(LEADER, OTHER), learners=(SELF,)))
    state_machine.membership._save(Member(SELF, URLS, "self", is_learner=True))
    member.replica._applier.close_writes()
    member.backend.commit_now()
    return member


DIRECTORIES: list[Callable[[], LoneMember]] = [
    of_three,
    with_an_uncommitted_tail,
    with_a_learner_and_a_member_that_joined,
    with_an_uncommitted_change,
    whose_removal_is_applied,
    whose_removal_is_not_committed,
    in_the_middle_of_a_joint_change,
    that_is_a_learner,
]


@pytest.mark.parametrize("make", DIRECTORIES)
def test_d30_it_leads_alone_with_all_data(make: Callable[[], LoneMember]) -> None:
    before = make()
    last = before.raft.log.last_index
    has_tail = any(b"tail" in entry.data for entry in before.raft.log.entries(5, last + 1, 1 << 20)) if last > 4 else False
    member = forced(before)
    for _ in range(2):
        member.replica.campaign()
        member.settle()
        assert member.replica.is_leader
        assert member.raft.conf_state == ConfState(voters=(SELF,))
        membership = member.replica.membership
        assert [(one.id, one.is_learner) for one in membership.sorted()] == [(SELF, False)]
        assert SELF not in membership.removed
        assert {LEADER, OTHER} <= membership.removed
        assert member.replica.applied_index == member.raft.log.last_index
        keys = {key for key, _ in member.replica.store.index.entries()}
        assert keys == ({b"acknowledged", b"tail"} if has_tail else {b"acknowledged"})
        assert member.raft.log.first_index > 4, "who joins needs a snapshot: the log's changes are those of the old cluster"
        assert not member.sent
        member.backend.commit_now()
        member = member.after_power_cut()  # and a start without the flag


def test_a_member_that_had_applied_nothing_starts_alone() -> None:
    member = LoneMember()
    member.settle()  # the bootstrap entries are in the log, the database is empty
    member = forced(member)
    member.replica.campaign()
    member.settle()
    assert member.replica.is_leader
    assert [one.peer_urls for one in member.replica.membership.sorted()] == [URLS]


def test_a_member_without_any_data_is_refused() -> None:
    member = LoneMember()
    wal = WAL.create(member.files, "other", b"", salt=bytes(8))
    wal.close()
    wal, recovered = WAL.open(member.files, "other")
    with pytest.raises(ConfigError, match="no data of its cluster yet"):
        force_new_cluster(StateMachine(MemoryBackend()), wal, recovered, member_id=SELF, peer_urls=URLS)
