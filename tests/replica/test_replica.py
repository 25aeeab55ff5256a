"""One replica: behind its leader, partitioned, stopped, and with a received database newer than its snapshot."""

from __future__ import annotations

import pytest

from tercet import errors
from tercet.errors import StatusError
from tercet.mvcc import Budget
from tercet.proto import rpc_pb2
from tercet.raft.codec import encode_conf_change
from tercet.raft.types import ConfChange, ConfChangeType, Entry, EntryType, Message, MessageType
from tercet.replica.apply import APPLY_WORK, ENTRY_WORK
from tercet.replica.membership import Member, change_context
from tercet.replica.replica import READYS_IN_TURN_MAX, Options
from tercet.replica.requests import RequestIds, encode_request
from tercet.replica.snapshots import VIEW_SECONDS_MAX
from tercet.storage.interfaces import Bucket, ReadView
from tests.mvcc.watching import Client
from tests.replica.lone_member import LEADER, OTHER, SELF, Content, LoneMember, append, put_entry, snapshot_of

PUT = rpc_pb2.PutRequest(key=b"k")


def started(options: Options | None = None) -> LoneMember:
    member = LoneMember(options=options)
    member.settle()
    return member


def heartbeat(*, commit: int = 0, term: int = 2) -> Message:
    return Message(MessageType.HEARTBEAT, to=SELF, from_=LEADER, term=term, commit=commit)


def propose(member: LoneMember, outcomes: list[object]) -> None:
    member.replica.propose("put", PUT.SerializeToString(), PUT, outcomes.append)


# --- behind


def test_a_member_over_its_quota_can_catch_up() -> None:
    """It is too far behind to propose anything, including the alarm, and must continue to apply."""
    member = started(Options(quota_bytes=1))
    count = 6000
    member.follow([put_entry(2, index, b"k") for index in range(4, 4 + count)], commit=3 + count)
    assert member.replica.applied_index == 3 + count


def test_a_backlog_is_applied_in_several_turns() -> None:
    """Between the turns the loop processes heartbeats, so that the member does not start an election."""
    member = started()
    last = 100_000
    member.receive(append(3, 1, [put_entry(2, index, b"k" * 100) for index in range(4, last + 1)], commit=last))
    member.replica.flush()
    member.disk.finish()
    turns = 0
    while member.replica.applied_index < last:
        before = member.replica.applied_index
        turns += 1
        if "schedule_apply" in member.calls:
            member.calls.remove("schedule_apply")
            member.replica.apply()
        else:
            member.replica.flush()
        assert member.replica.applied_index <= before + READYS_IN_TURN_MAX * APPLY_WORK // ENTRY_WORK
    assert turns >= last * ENTRY_WORK // APPLY_WORK // READYS_IN_TURN_MAX


def test_entries_that_fail_take_more_turns_since_each_is_logged() -> None:
    member = started()
    count = 200
    unknown = rpc_pb2.LeaseRevokeRequest(ID=77).SerializeToString()
    entries = [
        Entry(2, index, encode_request("lease_revoke", unknown, RequestIds(LEADER, index))) for index in range(4, 4 + count)
    ]
    member.receive(append(3, 1, entries, commit=3 + count))
    member.replica.flush()
    member.disk.finish()
    member.replica.flush()
    turns = 1
    while "schedule_apply" in member.calls:
        member.calls.remove("schedule_apply")
        member.replica.apply()
        turns += 1
    assert member.replica.applied_index == 3 + count
    assert turns > count * 60 // APPLY_WORK


# --- deferred commit broadcast


def test_a_commit_after_the_scheduled_one_is_broadcast_with_its_own_delay() -> None:
    member = LoneMember(defer_commit_broadcast=True)

    def acknowledged() -> None:
        for follower in (LEADER, OTHER):
            index = member.raft.log.last_index
            member.receive(Message(MessageType.APP_RESP, to=SELF, from_=follower, term=member.raft.term, index=index))
        member.settle()

    def end_of_deferral() -> list[int]:
        """End the deferral; returns the commit indexes broadcast by that."""
        member.take_sent(MessageType.APP)
        member.calls.clear()
        member.replica.broadcast_commit()
        member.settle()
        return [message.commit for message in member.take_sent(MessageType.APP)]

    member.settle()
    member.lead()
    acknowledged()
    end_of_deferral()
    for _ in range(2):  # the second carries the commit of the first
        propose(member, [])
        member.settle()
        acknowledged()
    last = member.raft.commit_index
    assert end_of_deferral() == []
    assert member.calls == ["schedule_commit_broadcast"]
    assert end_of_deferral() == [last, last]
    assert member.calls == []


# --- stopped


def test_requests_to_a_stopped_member_fail_at_once() -> None:
    """A stopped member does not tick, so an accepted request would never end."""
    member = started()
    member.replica.stop()
    outcomes: list[object] = []
    with pytest.raises(StatusError, match="server stopped"):
        propose(member, outcomes)
    with pytest.raises(StatusError, match="server stopped"):
        member.replica.propose_conf_change(ConfChange(ConfChangeType.REMOVE_NODE, node_id=OTHER, id=7), outcomes.append)
    member.replica.read(outcomes.append)
    assert outcomes == [errors.STOPPED]


def test_stopping_fails_all_pending_requests() -> None:
    member = started()
    member.receive(heartbeat())
    member.settle()
    outcomes: list[object] = []
    propose(member, outcomes)
    member.replica.read(outcomes.append)
    member.settle()
    member.replica.stop()
    assert outcomes == [errors.STOPPED, errors.STOPPED]


# --- partitioned


def test_a_read_times_out_if_its_entries_never_arrive() -> None:
    """The leader has answered with an index and is then unreachable."""
    member = started()
    member.receive(heartbeat())
    member.settle()
    outcomes: list[StatusError | None] = []
    member.replica.read(outcomes.append)
    member.settle()
    (question,) = member.take_sent(MessageType.READ_INDEX)
    member.receive(Message(MessageType.READ_INDEX_RESP, to=SELF, from_=LEADER, term=2, index=50, entries=question.entries))
    member.settle()
    member.replica.tick()
    assert outcomes == []
    member.now += 60
    member.replica.tick()
    member.settle()
    assert outcomes == [errors.TIMEOUT]


def test_an_unused_view_is_closed() -> None:
    """Its follower may never request it again, and pages pinned by a view are not reused."""
    member = started()
    member.backend.commit_now()
    assert member.raft.snapshot_source() is not None
    assert len(member.backend.open_view_seconds()) == 1
    member.now += VIEW_SECONDS_MAX + 1
    member.replica.tick()
    assert member.backend.open_view_seconds() == []


# --- a database ahead of its snapshot


def ahead(by: int) -> tuple[Message, Content, int]:
    """A snapshot whose sender continued to apply: its database has more entries than the snapshot describes."""
    leader = started()
    leader.follow([put_entry(2, index, b"k%d" % index) for index in range(4, 9)], commit=8)
    leader.backend.commit_now()
    message, _ = snapshot_of(leader, term=2)
    leader.follow([put_entry(2, index, b"k%d" % index) for index in range(9, 9 + by)], commit=8 + by)
    leader.backend.commit_now()
    return message, snapshot_of(leader, term=2)[1], 8 + by


def test_entries_of_a_newer_database_are_applied_once_and_not_sent_before_their_commit() -> None:
    member = started()
    message, database, reached = ahead(3)
    member.receive_database(message, database)
    member.settle()
    revision = member.replica.revision
    assert (member.replica.applied_index, member.raft.commit_index) == (8, 8)
    assert member.raft.snapshot_source() is None, "its later entries may be uncommitted here"

    member.follow([put_entry(2, index, b"k%d" % index) for index in range(9, reached + 1)], commit=reached)
    assert member.replica.revision == revision
    offered = member.raft.snapshot_source()
    assert offered is not None
    assert offered.index == reached


def test_members_from_the_snapshots_v2_json_are_durable() -> None:
    """Members of 3.5 send the names of members only in this JSON."""
    leader = started()
    leader.replica.membership.set_attributes(OTHER, "three", ["http://three:2379"])
    leader.backend.applied(3, 1)
    leader.backend.commit_now()
    leader.follow([put_entry(2, index, b"k") for index in range(4, 9)], commit=8)
    leader.backend.commit_now()
    message, database = snapshot_of(leader, term=2)
    content = [(bucket, key, value) for bucket, key, value in database if b"three" not in value]
    member = started()
    member.receive_database(message, content)
    member.settle()
    member = member.after_power_cut()
    assert member.replica.membership.members[OTHER].name == "three"


def conf_change(index: int, kind: ConfChangeType, member: Member) -> Entry:
    context = b"" if kind is ConfChangeType.REMOVE_NODE else change_context(member)
    change = ConfChange(kind, node_id=member.id, id=index, context=context)
    return Entry(2, index, encode_conf_change(change), EntryType.CONF_CHANGE)


def test_changes_in_a_newer_database_reach_raft_but_not_the_membership_again() -> None:
    """Applied again, an addition or a removal would be refused, and raft would keep the old configuration."""
    leader, member = started(), started()
    leader.follow([put_entry(2, index, b"k") for index in range(4, 9)], commit=8)
    leader.backend.commit_now()
    message, _ = snapshot_of(leader, term=2)
    moved = Member(4, ("http://moved:2380",))
    changes = [
        conf_change(9, ConfChangeType.ADD_NODE, Member(4, ("http://4:2380",))),
        conf_change(10, ConfChangeType.UPDATE_NODE, Member(4, ("http://elsewhere:2380",))),
        conf_change(11, ConfChangeType.UPDATE_NODE, moved),
        conf_change(12, ConfChangeType.REMOVE_NODE, Member(OTHER, ())),
    ]
    leader.follow(changes, commit=12)
    leader.backend.commit_now()
    database = snapshot_of(leader, term=2)[1]
    member.receive_database(message, database)
    member.settle()
    assert member.raft.conf_state.voters == (1, 2, 3)
    for index, change in enumerate(changes, 9):
        member.follow([change], commit=index)
        assert member.replica.membership.members[4] == moved
    assert member.raft.conf_state.voters == (1, 2, 4)
    assert member.replica.membership.members.keys() == {1, 2, 4}
    member.backend.commit_now()
    assert member.after_power_cut().raft.conf_state.voters == (1, 2, 4)


@pytest.mark.parametrize(
    ("changes", "voters", "learners"),
    [
        # The same URLs added twice in a second make the same id.
        ([ConfChangeType.ADD_NODE, ConfChangeType.ADD_LEARNER_NODE], (1, 2, 3, 4), ()),
        ([ConfChangeType.ADD_LEARNER_NODE, ConfChangeType.ADD_NODE], (1, 2, 3), (4,)),
    ],
)
def test_a_refused_change_in_a_newer_database_does_not_reach_raft(
    changes: list[ConfChangeType], voters: tuple[int, ...], learners: tuple[int, ...]
) -> None:
    leader, member = started(), started()
    leader.follow([put_entry(2, index, b"k") for index in range(4, 9)], commit=8)
    leader.backend.commit_now()
    message, _ = snapshot_of(leader, term=2)
    entries = [conf_change(index, kind, Member(4, ("http://4:2380",))) for index, kind in enumerate(changes, 9)]
    leader.follow(entries, commit=10)
    leader.backend.commit_now()
    member.receive_database(message, snapshot_of(leader, term=2)[1])
    member.settle()
    member.follow(entries, commit=10)
    for one in (leader, member, member.after_power_cut()):
        assert (one.raft.conf_state.voters, one.raft.conf_state.learners) == (voters, learners)


def test_a_snapshot_older_than_the_state_is_not_installed() -> None:
    leader, member = started(), started()
    leader.follow([put_entry(2, index, b"old") for index in range(4, 7)], commit=6)
    leader.backend.commit_now()
    message, database = snapshot_of(leader, term=2)
    member.follow([put_entry(2, index, b"new") for index in range(4, 9)], commit=8)
    revision = member.replica.revision
    member.receive_database(message, database)
    member.settle()
    assert (member.replica.applied_index, member.replica.revision) == (8, revision)
    assert [ack.index for ack in member.take_sent(MessageType.APP_RESP)][-1] == 8


# --- log compaction


def test_the_log_is_compacted_over_many_short_runs() -> None:
    member = started(Options(snapshot_entries=10, catch_up_entries=2))
    index = 4
    for _ in range(5):
        member.follow([put_entry(2, at, b"k") for at in range(index, index + 6)], commit=index + 5)
        index += 6
        member.backend.commit_now()
        member = LoneMember(member.backend, member.files, options=Options(snapshot_entries=10, catch_up_entries=2))
        member.settle()
    assert index - member.raft.log.first_index < 20


def test_entries_kept_for_followers_are_bounded_in_bytes() -> None:
    """A limit in entries alone would keep 5000 entries of 1 MB in memory."""
    member = started(Options(snapshot_entries=10_000, catch_up_entries=5_000, catch_up_bytes=10_000))
    for index in range(4, 200):
        member.follow([put_entry(2, index, b"k" * 100, b"v" * 100)], commit=index)
        member.settle()
        assert member.raft.log.size_bytes < 2 * 10_000 + 500
    assert member.raft.log.last_index == 199
    assert member.raft.log.size_bytes == sum(
        len(entry.wire) for entry in member.raft.log.entries(member.raft.log.first_index, 200)
    )


# --- listeners


def test_listeners_follow_the_store_that_a_snapshot_installs() -> None:
    member = started()
    replaced: list[int] = []
    client = Client(member.replica.watches)
    member.replica.watches.create(client.stream, 0, b"k", b"", 0, 0)
    member.replica.state_machine.replaced_listeners.append(lambda: replaced.append(member.replica.revision))
    member.follow([put_entry(2, 4, b"k")], commit=4)
    while member.replica.watches.step(Budget(1000)):
        pass
    assert ([change.revision for change in client.got(0)], replaced) == ([2], [])

    message, database, reached = ahead(1)
    member.receive_database(message, database)
    member.settle()
    assert (member.replica.applied_index, reached, replaced) == (8, 9, [7])
    member.follow([put_entry(2, 9, b"k"), put_entry(2, 10, b"k")], commit=10)
    while member.replica.watches.step(Budget(1000)):
        pass
    assert [change.revision for change in client.got(0)] == [2, 8]


def test_every_leader_listener_is_called_for_a_new_leader_and_for_its_loss() -> None:
    member = started()
    first: list[int] = []
    second: list[int] = []
    member.replica.leader_listeners += [first.append, second.append]
    member.receive(heartbeat())
    member.settle()
    for _ in range(20):
        member.replica.tick()
    member.settle()
    assert first == second == [LEADER, 0]


def test_a_snapshot_is_sent_with_the_view_that_describes_it() -> None:
    """The transport gets message and view; the view's index is the snapshot's."""
    member = started(Options(snapshot_entries=5, catch_up_entries=1))
    member.lead()
    for _ in range(30):
        propose(member, [])
        member.settle()
        last = member.raft.log.last_index
        member.receive(Message(MessageType.APP_RESP, to=SELF, from_=LEADER, term=member.raft.term, index=last))
        member.settle()
        member.backend.commit_now()
    assert member.raft.log.first_index > 4
    sent: list[tuple[int, int]] = []

    def send_snapshot(message: Message, view: ReadView) -> None:
        assert message.snapshot is not None
        sent.append((message.snapshot.index, int.from_bytes(view.get(Bucket.META, b"consistent_index") or b"", "big")))
        view.close()

    member.send_snapshot = send_snapshot  # type: ignore[method-assign]
    behind = Message(MessageType.APP_RESP, to=SELF, from_=OTHER, term=member.raft.term, index=3, reject=True, reject_hint=1)
    member.receive(behind)
    member.settle()
    assert [described == contained for described, contained in sent] == [True]
