"""The KV service: Range, RangeStream, Put, DeleteRange, Txn, Compact.

Each method decodes, checks what can be checked without state (mvcc/check.py, in the order in which etcd finds fault), and
hands on: a write to the log, a read to the read index or, serializable, straight to the store. Answers are pasted from
encoded parts.

Source: etcd server/etcdserver/api/v3rpc/key.go and v3_server.go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from google.protobuf.message import DecodeError

from tercet import errors
from tercet.errors import InvariantViolation, RequestError, StatusError, StorageFailure, Unavailable
from tercet.mvcc.check import check_delete, check_put, check_range, check_range_stream, check_txn, is_read_only, is_serializable
from tercet.proto import rpc_pb2
from tercet.replica.proposals import Outcome
from tercet.replica.quota import put_cost, txn_cost
from tercet.replica.replica import Replica
from tercet.replica.requests import canonical_encoding, put_proposal
from tercet.rpc import Handler, ServerStream, UnaryCall, malformed_request, server_stream, unary, unmarshal
from tercet.services import chunked_range
from tercet.services.awaitables import read_index
from tercet.services.headers import Headers

_PutRequest: Final = rpc_pb2.PutRequest
_RangeRequest: Final = rpc_pb2.RangeRequest


class KvService:
    """etcdserverpb.KV on one member."""

    def __init__(self, replica: Replica, headers: Headers, *, txn_ops_max: int, request_bytes_max: int) -> None:
        self._replica = replica
        self._headers = headers
        self._txn_ops_max = txn_ops_max
        self._chunk_bytes = request_bytes_max

    def handlers(self) -> dict[str, Handler]:
        return {
            "/etcdserverpb.KV/Range": unary(self.range),
            "/etcdserverpb.KV/RangeStream": server_stream(self.range_stream),
            "/etcdserverpb.KV/Put": unary(self.put),
            "/etcdserverpb.KV/DeleteRange": unary(self.delete_range),
            "/etcdserverpb.KV/Txn": unary(self.txn),
            "/etcdserverpb.KV/Compact": unary(self.compact),
        }

    # --- writes

    def put(self, call: UnaryCall, body: bytes) -> None:
        try:
            request = _PutRequest.FromString(body)
            if not self._replica.quota.allows(put_cost(request)):
                self._replica.raise_no_space()
                raise errors.NO_SPACE
            check_put(request)
            self._replica.propose("put", put_proposal(body, request), request, partial(self._written, call))
        except (DecodeError, RequestError, Unavailable) as error:
            refuse(call, error)

    def delete_range(self, call: UnaryCall, body: bytes) -> None:
        try:
            request = rpc_pb2.DeleteRangeRequest.FromString(body)
            check_delete(request)
            self._replica.propose("delete_range", canonical_encoding(request), request, partial(self._written, call))
        except (DecodeError, RequestError, Unavailable) as error:
            refuse(call, error)

    def txn(self, call: UnaryCall, body: bytes) -> None:
        try:
            request = rpc_pb2.TxnRequest.FromString(body)
            if not self._replica.quota.allows(txn_cost(request)):
                self._replica.raise_no_space()
                raise errors.NO_SPACE
            check_txn(request, self._txn_ops_max)
            if is_read_only(request):
                self._read(call, partial(self._txn_now, request), serializable=is_serializable(request))
            else:
                self._replica.propose("txn", canonical_encoding(request), request, partial(self._written, call))
        except (DecodeError, RequestError, Unavailable) as error:
            refuse(call, error)

    def compact(self, call: UnaryCall, body: bytes) -> None:
        try:
            request = rpc_pb2.CompactionRequest.FromString(body)
            then = self._compacted if request.physical else self._written
            self._replica.propose("compaction", canonical_encoding(request), request, partial(then, call))
        except (DecodeError, RequestError, Unavailable) as error:
            refuse(call, error)

    def _written(self, call: UnaryCall, outcome: Outcome) -> None:
        if isinstance(outcome, bytes):
            call.reply(self._headers.current() + outcome)
        else:
            call.fail(outcome.code, outcome.message)

    def _compacted(self, call: UnaryCall, outcome: Outcome) -> None:
        """`physical` asks for an answer only when the space is free again."""
        self._replica.compaction.when_finished(partial(self._written, call, outcome))

    # --- reads

    def range(self, call: UnaryCall, body: bytes) -> None:
        try:
            request = _RangeRequest.FromString(body)
            check_range(request)
        except (DecodeError, RequestError) as error:
            refuse(call, error)
            return
        store = self._replica.store
        if request.range_end and chunked_range.is_long(store, request):
            self._read_long(call, request)
        else:
            self._read(call, partial(self._range_now, request), serializable=request.serializable)

    # A read waits for its turn, and a snapshot may meanwhile put another store in the place of the one that was there when it
    # came; so the store is looked up only when the read is answered (tests/mixed: a frozen leader wakes).

    def _range_now(self, request: rpc_pb2.RangeRequest) -> bytes:
        return self._replica.store.range(request)

    def _txn_now(self, request: rpc_pb2.TxnRequest) -> bytes:
        return self._replica.store.txn(request)

    def _read(self, call: UnaryCall, read: Callable[[], bytes], *, serializable: bool) -> None:
        if serializable:
            self._answer(call, read, None)
        else:
            self._replica.read(partial(self._answer, call, read))

    def _read_long(self, call: UnaryCall, request: rpc_pb2.RangeRequest) -> None:
        def begin(error: StatusError | None) -> None:
            if error is not None:
                call.fail(error.code, error.message)
            else:
                answering = chunked_range.answer(call, self._replica.store, self._headers, request)
                call.on_cancel = asyncio.get_running_loop().create_task(answering).cancel  # which also keeps the task alive

        if request.serializable:
            begin(None)
        else:
            self._replica.read(begin)

    def _answer(self, call: UnaryCall, read: Callable[[], bytes], error: StatusError | None) -> None:
        try:
            if error is not None:
                raise error
            call.reply(self._headers.current() + read())
        except (InvariantViolation, StorageFailure):
            raise
        except Exception as refusal:
            # A read changes nothing: what goes wrong in it concerns this client alone, and must not stop the member.
            call.fail_with(refusal)

    async def range_stream(self, stream: ServerStream) -> None:
        """KV.RangeStream (3.7): a Range in chunks, all read at the revision of the first."""
        request = unmarshal(_RangeRequest.FromString, await stream.receive_one())
        check_range_stream(request)
        if not request.serializable:
            await read_index(self._replica)
        header = self._headers.current()
        for chunk in self._replica.store.range_stream(request, header=header, bytes_max=self._chunk_bytes):
            await stream.send(chunk)


def refuse(call: UnaryCall, error: Exception) -> None:
    """Answer with the status that `error` stands for."""
    call.fail_with(malformed_request(error) if isinstance(error, DecodeError) else error)
