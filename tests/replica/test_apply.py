"""Entries that take several turns to apply: Raft continues in the meantime, and no reader or commit includes part of one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from google.protobuf.message import Message

from tercet.errors import NO_SPACE, STOPPED, TIMEOUT, StorageFailure
from tercet.mvcc import Answer, whole_answer
from tercet.proto import auth_pb2, rpc_pb2
from tercet.raft.types import Entry, MessageType
from tercet.raft.types import Message as RaftMessage
from tercet.replica.proposals import Outcome
from tercet.replica.quota import FILE_OVERHEAD_BYTES, KEY_OVERHEAD_BYTES
from tercet.replica.replica import Options
from tercet.replica.requests import RequestIds, encode_request
from tercet.storage.interfaces import Bucket, ReadView
from tests.replica.lone_member import LEADER, SELF, LoneMember, append, put_entry, snapshot_of

KEYS = 50
ALL = {"key": b"\0", "range_end": b"\0"}


def entry(index: int, field: str, request: Message) -> Entry:
    return Entry(2, index, encode_request(field, request.SerializeToString(), RequestIds(LEADER, 1000 + index)))


DELETE = rpc_pb2.DeleteRangeRequest(**ALL)
TXN = rpc_pb2.TxnRequest(
    compare=[rpc_pb2.Compare(**ALL, target=rpc_pb2.Compare.VALUE, result=rpc_pb2.Compare.NOT_EQUAL, value=b"x")],
    success=[
        rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=b"new")),
        rpc_pb2.RequestOp(request_delete_range=rpc_pb2.DeleteRangeRequest(key=b"k00", range_end=b"k99")),
    ],
)


def busy(request: Message = DELETE) -> LoneMember:
    """A follower that has applied part of a large entry; another entry follows."""
    member = LoneMember(options=Options(apply_work=20))
    member.settle()
    member.follow([put_entry(2, 4 + number, b"k%02d" % number) for number in range(KEYS)], commit=3 + KEYS)
    field = "txn" if isinstance(request, rpc_pb2.TxnRequest) else "delete_range"
    index = 4 + KEYS
    entries = [entry(index, field, request), put_entry(2, index + 1, b"after")]
    member.receive(append(index - 1, 2, entries, commit=index + 1))
    member.replica.flush()
    member.disk.finish()
    member.replica.flush()
    for _ in range(3):
        assert apply_once(member)
    assert member.replica.applied_index == index - 1
    return member


def apply_once(member: LoneMember) -> bool:
    """Apply for one turn. Returns whether another turn is needed."""
    if "schedule_apply" in member.calls:
        member.calls.remove("schedule_apply")
        member.replica.apply()
    return "schedule_apply" in member.calls


def apply_rest(member: LoneMember, between: Callable[[], object] = lambda: None) -> None:
    while apply_once(member):
        between()


def count(member: LoneMember, **options: object) -> int:
    request = rpc_pb2.RangeRequest(**(ALL | options))  # type: ignore[arg-type]
    return rpc_pb2.RangeResponse.FromString(whole_answer(member.replica.store.range(request))).count


@pytest.mark.parametrize("request_", [DELETE, TXN], ids=["delete_range", "txn"])
def test_a_partly_applied_entry_is_invisible_and_blocks_later_ones(request_: Message) -> None:
    member = busy(request_)
    revision = member.replica.revision
    seen = set()

    def look() -> None:
        if member.replica.applied_index == 3 + KEYS:
            assert (member.replica.revision, count(member), count(member, keys_only=True)) == (revision, KEYS, KEYS)
            assert not count(member, key=b"after", range_end=b"")
            seen.add(len(member.replica.store.index))

    apply_rest(member, look)
    assert len(seen) > 5, "the entry took several turns"
    assert member.replica.applied_index == 5 + KEYS
    assert member.replica.revision == revision + 2
    assert count(member) == (1 if request_ is DELETE else 2)
    member.replica.store.index.check()


def test_heartbeats_and_votes_are_answered_while_an_entry_is_applied() -> None:
    member = busy()
    applied = member.replica.applied_index
    member.take_sent(MessageType.HEARTBEAT_RESP)
    member.receive(RaftMessage(MessageType.HEARTBEAT, to=SELF, from_=LEADER, term=2))
    member.replica.flush()
    assert member.take_sent(MessageType.HEARTBEAT_RESP)
    entries = [put_entry(2, 6 + KEYS, b"more")]
    member.receive(append(5 + KEYS, 2, entries, commit=6 + KEYS))
    member.replica.flush()
    member.disk.finish()
    member.replica.flush()
    assert [message.index for message in member.take_sent(MessageType.APP_RESP)][-1] == 6 + KEYS
    assert member.replica.applied_index == applied
    apply_rest(member)
    assert member.replica.applied_index == 6 + KEYS
    assert count(member, key=b"more", range_end=b"") == 1


def test_a_backend_commit_excludes_a_partly_applied_entry() -> None:
    member = busy()
    committed: list[str] = []
    member.backend.commit(lambda: committed.append("done"))
    assert not committed, "the commit waits for the end of the entry"
    member.replica.compaction.step(10)
    assert not committed
    views: list[ReadView] = []
    member.backend.view(views.append)
    assert not views
    apply_rest(member)
    assert committed
    tombstones = [key for key, _ in views[0].scan(Bucket.KEY) if key.endswith(b"t")]
    assert len(tombstones) == KEYS


def test_a_crash_during_an_entry_keeps_earlier_entries_and_applies_it_again() -> None:
    member = busy()
    for _ in range(4):
        assert apply_once(member)
    member.backend.commit()
    again = member.after_power_cut()
    assert again.backend.applied_index < 4 + KEYS
    again.follow([put_entry(2, 6 + KEYS, b"more")], commit=6 + KEYS)
    assert again.replica.applied_index == 6 + KEYS
    assert count(again) == 2
    again.replica.store.index.check()


def test_a_lease_is_revoked_over_several_turns() -> None:
    member = LoneMember(options=Options(apply_work=20))
    member.settle()
    member.replica.state_machine.lessor.grant(7, 100)
    for number in range(KEYS):
        member.replica.store.put(rpc_pb2.PutRequest(key=b"k%02d" % number, lease=7))
    revision = member.replica.revision
    revoke = entry(4, "lease_revoke", rpc_pb2.LeaseRevokeRequest(ID=7))
    member.receive(append(3, 1, [revoke], commit=4))
    member.replica.flush()
    member.disk.finish()
    member.replica.flush()
    turns = 1
    while apply_once(member):
        turns += 1
        assert member.replica.revision == revision
    assert turns > 10
    assert (member.replica.revision, count(member), len(member.replica.state_machine.lessor)) == (revision + 1, 0, 0)


def test_a_snapshot_discards_a_partly_applied_entry() -> None:
    leader = LoneMember()
    leader.settle()
    leader.follow([put_entry(2, index, b"s%d" % index) for index in range(4, 90)], commit=89)
    member = busy()
    message, content = snapshot_of(leader, term=2)
    member.receive_database(message, content)
    member.settle()
    assert member.replica.applied_index == 89
    assert count(member) == 86
    member.follow([put_entry(2, 90, b"more")], commit=90)
    assert count(member) == 87
    assert member.backend.applied_index <= 90


def within_own_entry(outcomes: list[Outcome]) -> LoneMember:
    """A member that has applied a part of its own client's request."""
    member = LoneMember(options=Options(apply_work=20))
    member.settle()
    member.follow([put_entry(2, 4 + number, b"k%02d" % number) for number in range(KEYS)], commit=3 + KEYS)
    member.replica.propose("delete_range", DELETE.SerializeToString(), DELETE, outcomes.append)
    data = next(iter(member.replica._proposals.waiting))
    member.receive(append(3 + KEYS, 2, [Entry(2, 4 + KEYS, data)], commit=4 + KEYS))
    member.replica.flush()
    member.disk.finish()
    member.replica.flush()
    assert apply_once(member)
    return member


def test_the_client_of_an_entry_covered_by_a_snapshot_gets_a_timeout() -> None:
    outcomes: list[Outcome] = []
    member = within_own_entry(outcomes)
    leader = LoneMember()
    leader.settle()
    leader.follow([put_entry(2, index, b"s%d" % index) for index in range(4, 90)], commit=89)
    member.receive_database(*snapshot_of(leader, term=2))
    member.settle()
    assert outcomes == [TIMEOUT]


def test_the_client_of_a_partly_applied_entry_hears_that_the_member_stops() -> None:
    outcomes: list[Outcome] = []
    within_own_entry(outcomes).replica.stop()
    assert outcomes == [STOPPED]


def test_the_reads_of_a_txn_are_made_only_for_a_waiting_client() -> None:
    member = LoneMember(options=Options(apply_work=20))
    member.settle()
    member.follow([put_entry(2, 4 + number, b"k%02d" % number) for number in range(KEYS)], commit=3 + KEYS)
    request = rpc_pb2.TxnRequest(
        success=[
            rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=b"new")),
            rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(**ALL)),
        ]
    )
    outcomes: list[Outcome] = []
    member.replica.propose("txn", request.SerializeToString(), request, outcomes.append)
    data = next(iter(member.replica._proposals.waiting))
    member.follow([Entry(2, 4 + KEYS, data), put_entry(2, 5 + KEYS, b"later")], commit=5 + KEYS)
    (outcome,) = outcomes
    assert isinstance(outcome, Answer)
    response = rpc_pb2.TxnResponse.FromString(whole_answer(outcome))
    assert response.responses[1].response_range.count == KEYS + 1
    assert b"later" not in [kv.key for kv in response.responses[1].response_range.kvs]


READ = rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=b"k"))
PUT = rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=b"new"))


def large_txn(last: rpc_pb2.RequestOp) -> rpc_pb2.TxnRequest:
    """3,000 ranges in nested txns, and an operation after them."""
    nested = rpc_pb2.RequestOp(request_txn=rpc_pb2.TxnRequest(success=[READ] * 100))
    return rpc_pb2.TxnRequest(success=[*([nested] * 30), last])


@pytest.mark.parametrize("alarm", [False, True], ids=["no alarm", "NOSPACE"])
@pytest.mark.parametrize("last", [PUT, READ], ids=["a put", "reads only"])
def test_a_large_txn_of_another_member_is_read_over_several_turns(last: rpc_pb2.RequestOp, alarm: bool) -> None:
    """Parsing it, and looking for puts in it, are work like any other."""
    member = LoneMember(options=Options(apply_work=500, quota_bytes=1 if alarm else 0))
    member.settle()
    raise_alarm = rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.ACTIVATE, memberID=9, alarm=rpc_pb2.NOSPACE)
    first = entry(4, "alarm", raise_alarm) if alarm else put_entry(2, 4, b"k")
    member.follow([first], commit=4)
    before, revision = member.replica._applier.steps, member.replica.revision
    member.follow([entry(5, "txn", large_txn(last)), put_entry(2, 6, b"after")], commit=6)
    assert member.replica.applied_index == 6
    assert member.replica.revision - revision == ((last is PUT) + 1 if not alarm else 0)
    assert member.replica._applier.steps - before > (15 if alarm else 30)


def test_a_full_member_looks_for_puts_over_several_turns() -> None:
    """Whether the answer is an error for lack of space depends on all operations, in both branches."""
    for last in (PUT, READ):
        member = LoneMember(options=Options(apply_work=500, quota_bytes=1))
        member.settle()
        member.follow([entry(4, "put", rpc_pb2.PutRequest(key=b"k", value=bytes(FILE_OVERHEAD_BYTES)))], commit=4)
        request = rpc_pb2.TxnRequest(success=large_txn(READ).success, failure=[last])
        outcomes: list[Outcome] = []
        member.replica.propose("txn", request.SerializeToString(), request, outcomes.append)
        data = list(member.replica._proposals.waiting)[-1]  # the alarm's is before it
        before = member.replica._applier.steps
        member.follow([Entry(2, 5, data), put_entry(2, 6, b"later")], commit=6)
        assert member.replica.applied_index == 6
        assert member.replica._applier.steps - before > 60  # 49 without the search
        (outcome,) = outcomes
        assert (outcome is NO_SPACE) == (last is PUT)


def test_the_put_that_exceeds_the_quota_raises_the_alarm_at_a_follower() -> None:
    """Not the next one, which may not come: etcd counts what a request takes."""
    member = LoneMember(options=Options(quota_bytes=64 << 10))
    member.settle()
    member.follow([entry(4, "put", rpc_pb2.PutRequest(key=b"k", value=bytes(1024)))], commit=4)
    assert member.take_sent(MessageType.PROP) == []
    member.follow([entry(5, "put", rpc_pb2.PutRequest(key=b"k", value=bytes(100 << 10)))], commit=5)
    assert len(member.take_sent(MessageType.PROP)) == 1


def test_a_large_entry_that_is_no_txn_stops_the_member() -> None:
    for body in (b"\x12\x7f" * 10_000, b"\x12\x80\x40" + b"\xff" * 8192 + b"\x7b" * 9000):
        member = LoneMember()
        member.settle()
        with pytest.raises(StorageFailure, match="cannot apply log entry 4: it holds neither form of request"):
            member.follow([Entry(2, 4, encode_request("txn", body, RequestIds(LEADER, 1000)))], commit=4)


def test_large_answers_of_entries_count_as_work() -> None:
    """Lists of users go through the log: hundreds of megabytes could be made in one turn."""
    member = LoneMember()
    member.settle()
    for number in range(20):
        name = f"{number:02d}" + "u" * 50_000
        member.replica.auth.add_user(rpc_pb2.AuthUserAddRequest(name=name, options=auth_pb2.UserAddOptions(no_password=True)))
    member.follow([put_entry(2, 4, b"k")], commit=4)
    lists = [entry(5 + number, "auth_user_list", rpc_pb2.AuthUserListRequest()) for number in range(10)]
    member.receive(append(4, 2, lists, commit=14))
    member.replica.flush()
    member.disk.finish()
    member.replica.flush()
    before = member.replica.applied_index
    while apply_once(member):
        assert member.replica.applied_index - before <= 1
        before = member.replica.applied_index
    assert member.replica.applied_index == 14


@pytest.mark.parametrize(("spare", "is_refused"), [(0, True), (1, False)])
def test_a_txn_that_is_applied_over_several_turns_counts_against_the_room_before_it(spare: int, is_refused: bool) -> None:
    """It is written in any case, because members with free space have applied it."""
    value = bytes(1 << 20)
    member = LoneMember(options=Options(apply_work=500, quota_bytes=1 << 30))
    member.settle()
    quota = member.replica.quota
    quota.limit_bytes += KEY_OVERHEAD_BYTES + len(b"last") + len(value) + spare - quota.room_bytes()
    put = rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=b"last", value=value))
    request = large_txn(READ)
    request.success.append(put)
    outcomes: list[Outcome] = []
    member.replica.propose("txn", request.SerializeToString(), request, outcomes.append)
    data = list(member.replica._proposals.waiting)[-1]
    member.follow([Entry(2, 4, data)], commit=4)
    assert member.replica.applied_index == 4
    (outcome,) = outcomes
    assert (outcome is NO_SPACE) == is_refused
