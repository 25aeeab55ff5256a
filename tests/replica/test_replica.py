"""One replica: what it does when it is behind, cut off, or at its end."""

from __future__ import annotations

import pytest

from tercet import errors
from tercet.errors import StatusError
from tercet.proto import rpc_pb2
from tercet.raft.types import ConfChange, ConfChangeType, Message, MessageType
from tercet.replica.replica import Options
from tercet.replica.snapshots import VIEW_SECONDS_MAX
from tercet.storage.interfaces import Bucket, ReadView
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


def test_a_full_member_that_catches_up_survives_its_alarm() -> None:
    """It is too far behind to propose anything, the alarm included; that is no reason to stop."""
    member = started(Options(quota_bytes=1))
    count = 6000
    member.follow([put_entry(2, index, b"k") for index in range(4, 4 + count)], commit=3 + count)
    assert member.replica.applied_index == 3 + count


def test_a_backlog_is_applied_in_several_turns() -> None:
    """Between them the loop hears heartbeats, and its leader does not take it for dead."""
    member = started()
    last = 100_000
    member.hear(append(3, 1, [put_entry(2, index, b"k" * 100) for index in range(4, last + 1)], commit=last))
    member.replica.flush()
    member.disk.finish()
    turns = 0
    while member.replica.applied_index < last:
        before = member.replica.applied_index
        member.replica.flush()
        turns += 1
        assert before < member.replica.applied_index < before + 70_000
    assert turns > 1


# --- news of commits


def test_a_commit_younger_than_the_one_whose_moment_is_over_is_told_a_moment_later() -> None:
    member = LoneMember(defer_commit_broadcast=True)

    def acknowledged() -> None:
        for follower in (LEADER, OTHER):
            index = member.raft.log.last_index
            member.hear(Message(MessageType.APP_RESP, to=SELF, from_=follower, term=member.raft.term, index=index))
        member.settle()

    def moment_is_over() -> list[int]:
        """The commits that are told then."""
        member.told(MessageType.APP)
        member.calls.clear()
        member.replica.broadcast_commit()
        member.settle()
        return [message.commit for message in member.told(MessageType.APP)]

    member.settle()
    member.lead()
    acknowledged()
    moment_is_over()
    for _ in range(2):  # the second tells followers of the first
        propose(member, [])
        member.settle()
        acknowledged()
    last = member.raft.commit_index
    assert moment_is_over() == []
    assert member.calls == ["schedule_commit_broadcast"]
    assert moment_is_over() == [last, last]
    assert member.calls == []


# --- at its end


def test_who_asks_a_stopped_member_is_answered_at_once() -> None:
    """Nothing ticks there any more: what it accepted now would wait for ever."""
    member = started()
    member.replica.stop()
    heard: list[object] = []
    with pytest.raises(StatusError, match="server stopped"):
        propose(member, heard)
    with pytest.raises(StatusError, match="server stopped"):
        member.replica.propose_conf_change(ConfChange(ConfChangeType.REMOVE_NODE, node_id=OTHER, id=7), heard.append)
    member.replica.read(heard.append)
    assert heard == [errors.STOPPED]


def test_everybody_who_waits_hears_that_it_stops() -> None:
    member = started()
    member.hear(heartbeat())
    member.settle()
    heard: list[object] = []
    propose(member, heard)
    member.replica.read(heard.append)
    member.settle()
    member.replica.stop()
    assert heard == [errors.STOPPED, errors.STOPPED]


# --- cut off


def test_a_read_does_not_wait_for_ever_for_entries_that_never_come() -> None:
    """The leader has said which index to wait for, and was not heard of again."""
    member = started()
    member.hear(heartbeat())
    member.settle()
    heard: list[StatusError | None] = []
    member.replica.read(heard.append)
    member.settle()
    (question,) = member.told(MessageType.READ_INDEX)
    member.hear(Message(MessageType.READ_INDEX_RESP, to=SELF, from_=LEADER, term=2, index=50, entries=question.entries))
    member.settle()
    member.replica.tick()
    assert heard == []
    member.now += 60
    member.replica.tick()
    assert heard == [errors.TIMEOUT]


def test_a_view_that_nobody_came_for_is_closed() -> None:
    """The follower it was opened for may never ask again, and the pages it pins are never reused."""
    member = started()
    member.backend.commit_now()
    assert member.raft.snapshot_source() is not None
    assert len(member.backend.open_view_seconds()) == 1
    member.now += VIEW_SECONDS_MAX + 1
    member.replica.tick()
    assert member.backend.open_view_seconds() == []


# --- a database ahead of its description


def ahead(by: int) -> tuple[Message, Content, int]:
    """A snapshot whose sender went on applying: its database has more than it announces."""
    leader = started()
    leader.follow([put_entry(2, index, b"k%d" % index) for index in range(4, 9)], commit=8)
    leader.backend.commit_now()
    message, _ = snapshot_of(leader, term=2)
    leader.follow([put_entry(2, index, b"k%d" % index) for index in range(9, 9 + by)], commit=8 + by)
    leader.backend.commit_now()
    return message, snapshot_of(leader, term=2)[1], 8 + by


def test_it_is_applied_once_and_not_passed_on_too_early() -> None:
    member = started()
    message, database, reached = ahead(3)
    member.receive_database(message, database)
    member.settle()
    revision = member.replica.revision
    assert (member.replica.applied_index, member.raft.commit_index) == (8, 8)
    assert member.raft.snapshot_source() is None, "raft does not know yet that what it describes is committed"

    member.follow([put_entry(2, index, b"k%d" % index) for index in range(9, reached + 1)], commit=reached)
    assert member.replica.revision == revision
    offered = member.raft.snapshot_source()
    assert offered is not None
    assert offered.index == reached


def test_what_a_description_adds_is_as_durable_as_the_rest() -> None:
    """Members of 3.5 keep the names in the description only."""
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


# --- short lives


def test_the_log_is_trimmed_also_where_no_life_is_long() -> None:
    member = started(Options(snapshot_entries=10, catch_up_entries=2))
    index = 4
    for _ in range(5):
        member.follow([put_entry(2, at, b"k") for at in range(index, index + 6)], commit=index + 5)
        index += 6
        member.backend.commit_now()
        member = LoneMember(member.backend, member.files, options=Options(snapshot_entries=10, catch_up_entries=2))
        member.settle()
    assert index - member.raft.log.first_index < 20


# --- large entries


def test_entries_are_kept_by_their_bytes_too() -> None:
    """Five thousand entries of a megabyte each would fill any memory."""
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
    events: list[int] = []
    replaced: list[int] = []
    member.replica.state_machine.listen(lambda changes: events.extend(change.revision for change in changes))
    member.replica.state_machine.replaced_listeners.append(lambda: replaced.append(member.replica.revision))
    member.follow([put_entry(2, 4, b"k")], commit=4)
    assert (events, replaced) == ([2], [])

    message, database, reached = ahead(1)
    member.receive_database(message, database)
    member.settle()
    assert (member.replica.applied_index, reached, replaced) == (8, 9, [7])
    member.follow([put_entry(2, 9, b"k"), put_entry(2, 10, b"k")], commit=10)
    assert events == [2, 8]


def test_every_leader_listener_hears_of_leaders_and_of_their_loss() -> None:
    member = started()
    first: list[int] = []
    second: list[int] = []
    member.replica.leader_listeners += [first.append, second.append]
    member.hear(heartbeat())
    member.settle()
    for _ in range(20):
        member.replica.tick()
    member.settle()
    assert first == second == [LEADER, 0]


def test_a_snapshot_is_sent_with_the_view_that_describes_it() -> None:
    """And the log is kept for its receiver; a view that was closed in the meantime is a failed snapshot."""
    member = started(Options(snapshot_entries=5, catch_up_entries=1))
    member.lead()
    for _ in range(30):
        propose(member, [])
        member.settle()
        last = member.raft.log.last_index
        member.hear(Message(MessageType.APP_RESP, to=SELF, from_=LEADER, term=member.raft.term, index=last))
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
    member.hear(behind)
    member.settle()
    assert [described == contained for described, contained in sent] == [True]
