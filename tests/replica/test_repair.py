"""A member whose database is damaged replaces it by the leader's, and applies on as if nothing had happened."""

from __future__ import annotations

import pytest

from tercet.errors import TIMEOUT, CorruptRecord
from tercet.mvcc import whole_answer
from tercet.proto import internal_pb2, rpc_pb2
from tercet.raft.types import Entry, Message, MessageType
from tercet.replica.membership import Member
from tercet.replica.repair import ASK_SECONDS, HELD_SECONDS_MAX, PAUSE_SECONDS
from tercet.replica.requests import RequestIds, encode_request
from tercet.storage.interfaces import Bucket
from tercet.storage.memory_backend import MemoryBackend
from tests.replica.lone_member import LEADER, SELF, LoneMember, put_entry, snapshot_of


class RottenBackend(MemoryBackend):
    """`rotten`: the revision key of a record with a wrong checksum, until another content is installed."""

    rotten = b""

    def get(self, bucket: Bucket, key: bytes) -> bytes | None:
        if self.rotten and (bucket, key) == (Bucket.KEY, self.rotten):
            raise CorruptRecord("wrong checksum", key)
        return super().get(bucket, key)

    def install(self, staged: object) -> tuple[int, int]:
        self.rotten = b""
        return super().install(staged)  # type: ignore[arg-type]


def follower(last: int, backend: MemoryBackend | None = None) -> LoneMember:
    member = LoneMember(backend)
    member.settle()
    member.follow([put_entry(2, index, b"k%d" % index) for index in range(4, last + 1)], commit=last)
    assert member.replica.applied_index == last
    return member


def follow(member: LoneMember, last: int) -> None:
    first = member.raft.log.last_index + 1
    member.follow([put_entry(2, index, b"k%d" % index) for index in range(first, last + 1)], commit=last)


def tick(member: LoneMember, seconds: float = 0.1) -> None:
    member.now += seconds
    member.receive(Message(MessageType.HEARTBEAT, to=SELF, from_=LEADER, term=2, commit=member.raft.commit_index))
    member.replica.tick()
    member.settle()


def value_keys(member: LoneMember) -> list[bytes]:
    answer = whole_answer(member.replica.store.range(rpc_pb2.RangeRequest(key=b"\0", range_end=b"\0")))
    return sorted(kv.key for kv in rpc_pb2.RangeResponse.FromString(answer).kvs)


def test_a_follower_asks_until_a_database_comes_and_applies_nothing_meanwhile() -> None:
    member = follower(10)
    member.replica.repair.begin()
    for _ in range(2):
        tick(member, ASK_SECONDS)
        assert [(one.to, one.term, one.reject) for one in member.take_sent(MessageType.SNAP_STATUS)] == [(LEADER, 2, True)]
    tick(member, ASK_SECONDS / 2)
    assert member.take_sent(MessageType.SNAP_STATUS) == []
    follow(member, 15)
    assert (member.raft.commit_index, member.replica.applied_index) == (15, 10)


@pytest.mark.parametrize("reached", [10, 12, 15, 18])
def test_the_database_of_the_leader_replaces_the_damaged_one(reached: int) -> None:
    """Whether it is level with this member's log, behind or ahead of it: each entry takes effect once."""
    backend = RottenBackend()
    member = follower(10, backend)
    backend.rotten = member.replica.store.index.entry(b"k7")[:17]
    with pytest.raises(CorruptRecord):
        value_keys(member)
    member.replica.repair.begin()
    tick(member)
    follow(member, 15)
    member.receive_database(*snapshot_of(follower(reached), term=2))
    member.settle()
    follow(member, 20)
    assert member.replica.applied_index == 20
    assert value_keys(member) == sorted(b"k%d" % index for index in range(4, 21))
    assert member.replica.revision == follower(20).replica.revision
    assert len(member.take_sent(MessageType.SNAP_STATUS)) == 1
    tick(member, ASK_SECONDS)
    assert member.take_sent(MessageType.SNAP_STATUS) == []
    restarted = member.after_power_cut()
    assert restarted.replica.revision <= member.replica.revision


def test_a_database_that_is_behind_is_not_installed() -> None:
    member = follower(10)
    member.replica.repair.begin()
    tick(member)
    member.receive_database(*snapshot_of(follower(9), term=2))
    member.settle()
    assert value_keys(member) == sorted(b"k%d" % index for index in range(4, 11))
    member.take_sent(MessageType.SNAP_STATUS)
    tick(member, ASK_SECONDS)
    assert len(member.take_sent(MessageType.SNAP_STATUS)) == 1


def test_a_member_goes_on_if_no_database_comes() -> None:
    """etcd's leaders ignore the question."""
    member = follower(10)
    member.replica.repair.begin()
    tick(member)
    follow(member, 12)
    tick(member, HELD_SECONDS_MAX + 1)
    assert member.replica.applied_index == 12
    member.take_sent(MessageType.SNAP_STATUS)
    tick(member, 1.0)
    assert member.take_sent(MessageType.SNAP_STATUS) == []
    tick(member, PAUSE_SECONDS)
    assert len(member.take_sent(MessageType.SNAP_STATUS)) == 1


def test_a_member_without_a_leader_applies_so_that_it_can_be_elected() -> None:
    """A change of membership that is committed and not applied forbids to campaign; a seed of the simulator found no leader."""
    member = follower(10)
    member.replica.repair.begin()
    tick(member)
    follow(member, 12)
    assert member.replica.applied_index == 10
    for _ in range(2 * member.raft.config.election_ticks):
        member.now += 0.1
        member.replica.tick()
        member.settle()
    assert member.replica.applied_index == 12
    assert member.take_sent(MessageType.PRE_VOTE)


def alarm(action: int) -> bytes:
    request = rpc_pb2.AlarmRequest(action=action, memberID=SELF, alarm=rpc_pb2.CORRUPT)  # type: ignore[arg-type]
    return encode_request("alarm", request.SerializeToString(), RequestIds(LEADER, 5000))


def proposed_alarms(member: LoneMember) -> list[int]:
    entries = [entry for message in member.take_sent(MessageType.PROP) for entry in message.entries]
    return [internal_pb2.InternalRaftRequest.FromString(entry.data).alarm.action for entry in entries]


def test_the_alarm_is_raised_and_withdrawn() -> None:
    """Also if the alarm is applied only after the database has been replaced."""
    member = follower(10)
    member.replica.repair.begin()
    tick(member)
    assert proposed_alarms(member) == [rpc_pb2.AlarmRequest.ACTIVATE]
    member.receive_database(*snapshot_of(follower(10), term=2))
    member.settle()
    tick(member)
    assert proposed_alarms(member) == []
    member.follow([Entry(2, 11, alarm(rpc_pb2.AlarmRequest.ACTIVATE))], commit=11)
    tick(member)
    assert proposed_alarms(member) == [rpc_pb2.AlarmRequest.DEACTIVATE]
    member.follow([Entry(2, 12, alarm(rpc_pb2.AlarmRequest.DEACTIVATE))], commit=12)
    for _ in range(4):
        tick(member, 10.0)
    assert proposed_alarms(member) == []
    member.follow([Entry(2, 13, alarm(rpc_pb2.AlarmRequest.ACTIVATE))], commit=13)  # by a check of hashes, or by hand
    tick(member, 10.0)
    assert proposed_alarms(member) == []


COMPARE = rpc_pb2.Compare(key=b"k7", target=rpc_pb2.Compare.VALUE, result=rpc_pb2.Compare.EQUAL, value=b"")
NEW = rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=b"new"))


@pytest.mark.parametrize(
    ("field", "request_"),
    [
        ("txn", rpc_pb2.TxnRequest(compare=[COMPARE], success=[NEW])),
        ("put", rpc_pb2.PutRequest(key=b"k7", value=b"v", prev_kv=True)),
        ("put", rpc_pb2.PutRequest(key=b"k7", lease=0, ignore_value=True)),
    ],
)
@pytest.mark.parametrize("reached", [10, 11, 12])
def test_an_entry_that_reads_a_damaged_record_waits_for_the_database(
    field: str, request_: rpc_pb2.TxnRequest | rpc_pb2.PutRequest, reached: int
) -> None:
    """The record decides what the entry does, so the member can neither apply nor skip it."""
    entries = [
        Entry(2, 11, encode_request(field, request_.SerializeToString(), RequestIds(LEADER, 5000))),
        put_entry(2, 12, b"after"),
    ]
    healthy = follower(10)
    healthy.follow(entries[: reached - 10] or [put_entry(2, 11, b"later")], commit=reached)
    backend = RottenBackend()
    member = follower(10, backend)
    backend.rotten = member.replica.store.index.entry(b"k7")[:17]
    member.follow(entries, commit=12)
    member.backend.commit()
    assert member.replica.applied_index == 10
    assert member.backend.applied_index <= 10
    assert member.replica.revision == follower(10).replica.revision
    member.replica.repair.begin()
    tick(member)
    member.receive_database(*snapshot_of(healthy, term=2))
    member.settle()
    assert member.replica.applied_index == 12
    expected = follower(10)
    expected.follow(entries, commit=12)
    assert list(member.backend.scan(Bucket.KEY)) == list(expected.backend.scan(Bucket.KEY))


def test_a_clusters_only_member_stops_at_such_an_entry() -> None:
    backend = RottenBackend()
    member = LoneMember(backend, initial_members=[Member(SELF, ("http://1:2380",))])
    member.lead()
    put = rpc_pb2.PutRequest(key=b"k", prev_kv=True)
    member.replica.propose("put", put.SerializeToString(), put, lambda outcome: None)
    member.settle()
    backend.rotten = member.replica.store.index.entry(b"k")[:17]
    member.replica.propose("put", put.SerializeToString(), put, lambda outcome: None)
    with pytest.raises(CorruptRecord):
        member.settle()


def test_the_client_of_such_an_entry_does_not_wait_for_the_database() -> None:
    backend = RottenBackend()
    member = leading(backend)
    put = rpc_pb2.PutRequest(key=b"k", prev_kv=True)
    outcomes: list[object] = []

    def propose() -> None:
        member.replica.propose("put", put.SerializeToString(), put, outcomes.append)
        member.settle()
        acknowledged = Message(
            MessageType.APP_RESP, to=SELF, from_=LEADER, term=member.raft.term, index=member.raft.log.last_index
        )
        member.receive(acknowledged)
        member.settle()

    propose()
    backend.rotten = member.replica.store.index.entry(b"k")[:17]
    propose()
    assert outcomes == [b"", TIMEOUT]
    member.replica.stop()
    assert len(outcomes) == 2


def leading(backend: MemoryBackend | None = None) -> LoneMember:
    member = LoneMember(backend)
    member.lead()
    raft = member.raft
    member.receive(Message(MessageType.APP_RESP, to=SELF, from_=LEADER, term=raft.term, index=raft.log.last_index))
    member.settle()
    return member


def test_a_leader_sends_its_database_to_a_follower_that_asks() -> None:
    leader = LoneMember()
    leader.lead()
    leader.receive(
        Message(MessageType.APP_RESP, to=SELF, from_=LEADER, term=leader.raft.term, index=leader.raft.log.last_index)
    )
    leader.settle()
    question = Message(MessageType.SNAP_STATUS, to=SELF, from_=LEADER, term=leader.raft.term, reject=True)
    for _ in range(3):  # the first one opens the view; while the snapshot is on its way, no other is sent
        leader.receive(question)
        leader.settle()
    (sent,) = leader.take_sent(MessageType.SNAP)
    assert sent.to == LEADER
    assert sent.snapshot is not None
    assert sent.snapshot.index == leader.replica.applied_index
    leader.replica.report_snapshot(LEADER, True)
    leader.receive(question)
    leader.settle()
    leader.receive(question)
    leader.settle()
    assert len(leader.take_sent(MessageType.SNAP)) == 1


def test_a_damaged_leader_hands_over() -> None:
    leader = LoneMember()
    leader.lead()
    leader.receive(
        Message(MessageType.APP_RESP, to=SELF, from_=LEADER, term=leader.raft.term, index=leader.raft.log.last_index)
    )
    leader.settle()
    leader.replica.repair.begin()
    leader.replica.tick()
    leader.settle()
    assert [message.to for message in leader.take_sent(MessageType.TIMEOUT_NOW)] == [LEADER]
