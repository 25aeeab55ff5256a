"""KV between the arrival of a read and its response, with a fake replica that pauses there."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from google.protobuf.message import Message

from tercet.auth import AuthStore
from tercet.proto import rpc_pb2
from tercet.replica.reads import ReadCallback
from tercet.replica.replica import Replica
from tercet.rpc import UnaryCall
from tercet.services.authorization import Authorization
from tercet.services.headers import Headers
from tercet.services.kv import KvService
from tercet.services.scheduler import Scheduler
from tercet.storage.interfaces import Bucket
from tercet.storage.memory_backend import MemoryBackend
from tests.mvcc.member import Member
from tests.support.fakes import uses_fakes


class PausedReplica:
    """A replica whose linearizable reads wait for the test."""

    def __init__(self) -> None:
        self.store = Member().store
        self.term = 1
        self.auth = AuthStore(MemoryBackend())
        self.quota = SimpleNamespace(allows=lambda cost: True)
        self.waiting: list[ReadCallback] = []

    @property
    def revision(self) -> int:
        return self.store.revision

    def read(self, then: ReadCallback) -> None:
        self.waiting.append(then)


class Call:
    """Records what the service does with a call."""

    def __init__(self) -> None:
        self.replies: list[bytes] = []
        self.failures: list[BaseException] = []

    def reply(self, body: bytes) -> None:
        self.replies.append(body)

    def reply_parts(self, parts: list[bytes]) -> None:
        self.replies.append(b"".join(parts))

    def fail_with(self, error: BaseException) -> None:
        self.failures.append(error)

    def is_backlogged(self) -> bool:
        return False


def make_service(replica: PausedReplica) -> KvService:
    there = cast(Replica, replica)
    headers, scheduler = Headers(there, cluster_id=1, member_id=1), Scheduler(asyncio.new_event_loop())
    return KvService(there, headers, scheduler, Authorization(there), txn_ops_max=128, request_bytes_max=1 << 20)


RANGE = rpc_pb2.RangeRequest(key=b"a")
TXN = rpc_pb2.TxnRequest(success=[rpc_pb2.RequestOp(request_range=RANGE)])


@uses_fakes
@pytest.mark.parametrize("request_", [RANGE, TXN], ids=["range", "txn"])
def test_a_read_uses_the_store_installed_by_a_snapshot_while_it_waits(request_: Message) -> None:
    """The member is behind when the read arrives, and a snapshot replaces its store before the read index is reached."""
    replica = PausedReplica()
    replica.store.put(rpc_pb2.PutRequest(key=b"a", value=b"old"))
    service, call = make_service(replica), Call()
    method: Any = service.range if request_ is RANGE else service.txn
    method(cast(UnaryCall, call), request_.SerializeToString())

    after = Member().store
    for value in (b"newer", b"newest"):
        after.put(rpc_pb2.PutRequest(key=b"a", value=value))
    replica.store = after
    replica.waiting.pop()(None)

    if request_ is RANGE:
        answer = found = rpc_pb2.RangeResponse.FromString(call.replies[0])
    else:
        answer = rpc_pb2.TxnResponse.FromString(call.replies[0])
        found = answer.responses[0].response_range
    assert answer.header.revision == 3
    assert found.kvs[0].value == b"newest"


@uses_fakes
def test_an_exception_in_a_read_reaches_only_its_client() -> None:
    """Reads are completed while the replica flushes a turn, where an exception would stop the member."""
    replica = PausedReplica()
    service, call = make_service(replica), Call()
    service.range(cast(UnaryCall, call), RANGE.SerializeToString())
    replica.store = cast(Any, SimpleNamespace(revision=1))  # every read of it fails
    replica.waiting.pop()(None)
    assert [type(error) for error in call.failures] == [AttributeError]
    assert not call.replies


@uses_fakes
def test_few_large_values_are_read_in_one_turn() -> None:
    """400 connections that each read a value of 1 MB took 0.6 s of a turn: each was read to learn that it is large."""
    replica = PausedReplica()
    replica.store.put(rpc_pb2.PutRequest(key=b"a", value=bytes(1 << 20)))
    reads = 0
    get = replica.store.backend.get

    def counted(bucket: Bucket, key: bytes) -> bytes | None:
        nonlocal reads
        reads += 1
        return get(bucket, key)

    replica.store.backend.get = counted  # type: ignore[method-assign]
    loop = asyncio.new_event_loop()
    there = cast(Replica, replica)
    headers = Headers(there, cluster_id=1, member_id=1)
    service = KvService(there, headers, Scheduler(loop), Authorization(there), txn_ops_max=128, request_bytes_max=1 << 20)
    calls = [Call() for _ in range(60)]
    odd = rpc_pb2.RangeRequest(key=b"a", serializable=True, sort_order=rpc_pb2.RangeRequest.ASCEND)
    for number, call in enumerate(calls):
        request = odd if number % 2 else rpc_pb2.RangeRequest(key=b"a", serializable=True)
        service.range(cast(UnaryCall, call), request.SerializeToString())
    most = reads
    while not all(call.replies for call in calls):
        before = reads
        loop.call_soon(loop.stop)
        loop.run_forever()
        most = max(most, reads - before)
    loop.close()
    assert most <= 12
    assert {len(call.replies[0]) > 1 << 20 for call in calls} == {True}
    assert not any(call.failures for call in calls)
