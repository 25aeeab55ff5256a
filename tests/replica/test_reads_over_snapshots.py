"""A snapshot is installed while a request waits: the response is made from the new state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from tercet.mvcc import hash_kv
from tercet.proto import rpc_pb2
from tercet.raft.types import Message, MessageType
from tercet.rpc import UnaryCall
from tercet.services.authorization import Authorization
from tercet.services.headers import Headers
from tercet.services.kv import KvService
from tercet.services.maintenance import MaintenanceService
from tercet.services.scheduler import Scheduler
from tests.replica.lone_member import LEADER, SELF, LoneMember, put_entry, snapshot_of
from tests.support.fakes import uses_fakes


class Call:
    def __init__(self) -> None:
        self.replies: list[bytes] = []

    def reply(self, message: bytes) -> None:
        self.replies.append(message)

    def reply_parts(self, parts: list[bytes]) -> None:
        self.replies.append(b"".join(parts))

    def fail_with(self, error: BaseException) -> None:
        raise error

    @property
    def unary(self) -> UnaryCall:
        return cast(UnaryCall, self)


def member_behind() -> tuple[LoneMember, LoneMember]:
    """A leader with key=new, and a member that still has key=old."""
    leader, member = LoneMember(), LoneMember()
    for one in (leader, member):
        one.settle()
        one.follow([put_entry(2, 4, b"key", b"old")], commit=4)
    leader.follow([put_entry(2, at, b"key", b"new") for at in range(5, 20)], commit=19)
    return leader, member


def service(member: LoneMember) -> KvService:
    headers = Headers(member.replica, cluster_id=1, member_id=SELF)
    scheduler = Scheduler(asyncio.new_event_loop())
    return KvService(
        member.replica, headers, scheduler, Authorization(member.replica), txn_ops_max=128, request_bytes_max=1 << 20
    )


def value_in(reply: bytes) -> bytes:
    return rpc_pb2.RangeResponse.FromString(reply).kvs[0].value


def value_in_txn(reply: bytes) -> bytes:
    return rpc_pb2.TxnResponse.FromString(reply).responses[0].response_range.kvs[0].value


_RANGE = rpc_pb2.RangeRequest(key=b"key")
_TXN = rpc_pb2.TxnRequest(success=[rpc_pb2.RequestOp(request_range=_RANGE)])


@pytest.mark.parametrize(
    ("method", "request_bytes", "value"),
    [("range", _RANGE.SerializeToString(), value_in), ("txn", _TXN.SerializeToString(), value_in_txn)],
)
@uses_fakes
def test_a_linearizable_read_is_answered_from_the_installed_state(
    method: str, request_bytes: bytes, value: Callable[[bytes], bytes]
) -> None:
    leader, member = member_behind()
    call = Call()
    getattr(service(member), method)(call.unary, request_bytes)
    member.settle()
    (question,) = member.take_sent(MessageType.READ_INDEX)
    answer = Message(MessageType.READ_INDEX_RESP, to=SELF, from_=LEADER, term=2, index=19, commit=19, entries=question.entries)
    member.receive(answer)
    member.settle()
    assert call.replies == []
    leader.backend.commit_now()
    message, content = snapshot_of(leader, term=2)
    member.receive_database(message, content)
    member.settle()
    assert [value(reply) for reply in call.replies] == [b"new"]


def test_a_hash_reports_the_compaction_of_its_view() -> None:
    """The compaction is applied after the request and before the view opens."""
    member = LoneMember()
    member.settle()
    member.follow([put_entry(2, at, b"key", b"%d" % at) for at in range(4, 20)], commit=19)
    state_machine = member.replica.state_machine
    at = state_machine.store.revision
    headers = Headers(member.replica, cluster_id=1, member_id=SELF)
    open_now = member.backend.view

    def open_later(then: Callable[[Any], None]) -> None:
        state_machine.store.compact(at - 2)
        while state_machine.store.compaction_step(100):
            pass
        member.backend.applied(20, 2)
        open_now(then)

    member.backend.view = open_later  # type: ignore[method-assign]

    async def hash_now() -> rpc_pb2.HashKVResponse:
        authorization = Authorization(member.replica)
        service = MaintenanceService(member.replica, headers, authorization, version="3.7.0", timeout_seconds=1)
        return await service.hash_at(0)

    found = asyncio.run(hash_now())
    views: list[Any] = []
    open_now(views.append)
    expected = hash_kv(views[0], at, at - 2)
    assert (found.hash, found.compact_revision, found.hash_revision) == tuple(expected[:1] + expected[:0:-1])
