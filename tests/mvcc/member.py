"""A minimal member without Raft: checks a request, applies it to the store, and adds the response header."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message

from tercet.errors import RequestError
from tercet.lease import Lessor
from tercet.mvcc import (
    Answer,
    Apply,
    Budget,
    Store,
    check_delete,
    check_put,
    check_range,
    check_txn,
    is_read_only,
    read_small_put,
    read_small_range,
    read_small_txn,
)
from tercet.proto import rpc_pb2
from tercet.proto.wire import paste_field, varint
from tests.mvcc.dict_backend import DictBackend

MAX_TXN_OPS = 128
ANSWERS: dict[type[Message], type[Any]] = {
    rpc_pb2.PutRequest: rpc_pb2.PutResponse,
    rpc_pb2.RangeRequest: rpc_pb2.RangeResponse,
    rpc_pb2.DeleteRangeRequest: rpc_pb2.DeleteRangeResponse,
    rpc_pb2.TxnRequest: rpc_pb2.TxnResponse,
    rpc_pb2.CompactionRequest: rpc_pb2.CompactionResponse,
    rpc_pb2.LeaseGrantRequest: rpc_pb2.LeaseGrantResponse,
    rpc_pb2.LeaseRevokeRequest: rpc_pb2.LeaseRevokeResponse,
}


class Member:
    """work: returns the budget of the next slice."""

    def __init__(self, backend: DictBackend | None = None, work: Callable[[], int] = lambda: 1 << 30) -> None:
        self._work = work
        self.backend = backend or DictBackend()
        self.lessor = Lessor(self.backend, ttl_seconds_min=2)
        self.store = Store(self.backend, leases=self.lessor)

    def call(self, request: Message) -> Any:
        """The response, or (code, text) of the error."""
        try:
            body = self._body(request)
        except RequestError as error:
            return int(error.code), error.message
        header = paste_field(1, b"\x18" + varint(self.store.revision))
        return ANSWERS[type(request)].FromString(header + body)

    def _body(self, request: Any) -> bytes:
        handlers: dict[type[Message], Callable[[Any], bytes]] = {
            rpc_pb2.PutRequest: lambda it: check_put(it) or self._put(it),
            rpc_pb2.RangeRequest: lambda it: check_range(it) or self._answer(self._range(it)),
            rpc_pb2.DeleteRangeRequest: lambda it: check_delete(it) or self._apply(self.store.delete_range(it)),
            rpc_pb2.TxnRequest: lambda it: check_txn(it, MAX_TXN_OPS) or self._txn(it),
            rpc_pb2.CompactionRequest: lambda it: self.store.compact(it.revision) or b"",
            rpc_pb2.LeaseGrantRequest: self._grant,
            rpc_pb2.LeaseRevokeRequest: self._revoke,
        }
        return handlers[type(request)](request)

    def _range(self, request: rpc_pb2.RangeRequest) -> bytes | Answer:
        small = read_small_range(request.SerializeToString())
        return self.store.range(request) if small is None else self.store.small_range(small)

    def _put(self, request: rpc_pb2.PutRequest) -> bytes:
        small = read_small_put(request.SerializeToString())
        if small is None:
            return self.store.put(request)
        self.store.small_put(small)
        return b""

    def _txn(self, request: rpc_pb2.TxnRequest) -> bytes:
        if is_read_only(request):
            return self._answer(self.store.read_txn(request))
        small = read_small_txn(request.SerializeToString())
        if small is not None and (response := self.store.small_txn(small)) is not None:
            return response
        return self._apply(self.store.txn(request))

    def _revoke(self, request: rpc_pb2.LeaseRevokeRequest) -> bytes:
        self._apply(self.store.delete_keys(self.lessor.keys_of(request.ID)))
        self.lessor.revoke(request.ID)
        return b""

    def _answer(self, answer: bytes | Answer) -> bytes:
        if isinstance(answer, bytes):
            return answer
        while answer.step(Budget(self._work())):
            pass
        return b"".join(answer.parts)

    def _apply(self, apply: Apply) -> bytes:
        apply.is_awaited = True
        while apply.step(Budget(self._work())):
            pass
        return self._answer(apply.outcome())

    def _grant(self, request: rpc_pb2.LeaseGrantRequest) -> bytes:
        lease = self.lessor.grant(request.ID, request.TTL)
        return rpc_pb2.LeaseGrantResponse(ID=lease.id, TTL=lease.ttl_seconds).SerializeToString()
