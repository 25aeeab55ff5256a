"""A client of this member inside it, for the services that are built on the others: Lock and Election.

Its calls carry what names the caller of the call that they serve, its certificate included, so the same user is checked. As in
etcd, an error of such a call reaches the client as UNKNOWN with the same text; but one that has waited in vain for a leader as
DEADLINE_EXCEEDED, and the end of the member as UNAVAILABLE, with which clients go on at another member.
Source: etcd server/etcdserver/api/v3client.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar

from google.protobuf.message import Message

from tercet.errors import STOPPED, Code, StatusError
from tercet.intake import intake_of_running_loop
from tercet.proto import kv_pb2, rpc_pb2
from tercet.rpc import Call, InProcessChannel, InProcessStream, Metadata, Method, RpcError
from tercet.services.authorization import CALLER_HEADERS

DELETE: Final = int(kv_pb2.Event.DELETE)

Response = TypeVar("Response", bound=Message)


class OwnCallFailed(StatusError):
    """A call of an OwnClient has failed, not the one that it serves."""


class OwnClient:
    """Calls for the sake of `call`, by the same user. All raise OwnCallFailed."""

    def __init__(self, methods: Mapping[bytes, Method], call: Call) -> None:
        self._channel = InProcessChannel(methods, peer=call.peer, intake=intake_of_running_loop())
        values = [(name, call.header(name)) for name in CALLER_HEADERS]
        self._metadata: Metadata = tuple((name, value) for name, value in values if value is not None)

    async def txn(self, request: rpc_pb2.TxnRequest) -> rpc_pb2.TxnResponse:
        return await self._unary("KV/Txn", request, rpc_pb2.TxnResponse)

    async def range(self, request: rpc_pb2.RangeRequest) -> rpc_pb2.RangeResponse:
        return await self._unary("KV/Range", request, rpc_pb2.RangeResponse)

    async def delete(self, key: bytes) -> rpc_pb2.DeleteRangeResponse:
        return await self._unary("KV/DeleteRange", rpc_pb2.DeleteRangeRequest(key=key), rpc_pb2.DeleteRangeResponse)

    async def grant(self, ttl_seconds: int) -> int:
        """A new lease."""
        request = rpc_pb2.LeaseGrantRequest(TTL=ttl_seconds)
        return (await self._unary("Lease/LeaseGrant", request, rpc_pb2.LeaseGrantResponse)).ID

    def watch(self, key: bytes, *, range_end: bytes = b"", start_revision: int) -> OwnWatch:
        request = rpc_pb2.WatchCreateRequest(key=key, range_end=range_end, start_revision=start_revision)
        return OwnWatch(self._channel.stream("/etcdserverpb.Watch/Watch", metadata=self._metadata), request)

    async def _unary(self, method: str, request: Message, response: type[Response]) -> Response:
        try:
            body = await self._channel.unary(f"/etcdserverpb.{method}", request.SerializeToString(), None, self._metadata)
        except RpcError as error:
            raise _as_seen(error) from error
        return response.FromString(body)


class OwnWatch:
    """One watch on a stream of its own: `async with client.watch(key, start_revision=5) as watch: await watch.next()`."""

    def __init__(self, stream: InProcessStream, request: rpc_pb2.WatchCreateRequest) -> None:
        self._stream = stream
        self._request = request

    async def __aenter__(self) -> OwnWatch:
        return self

    async def __aexit__(self, *exception: Any) -> None:
        self._stream.cancel()

    async def next(self) -> rpc_pb2.WatchResponse:
        """The next response with events. Raises OwnCallFailed when the watch or its stream has ended."""
        try:
            if self._request.key:
                await self._stream.send(rpc_pb2.WatchRequest(create_request=self._request).SerializeToString())
                self._request = rpc_pb2.WatchCreateRequest()
            while True:
                message = await self._stream.receive()
                if message is None:
                    raise OwnCallFailed(Code.UNKNOWN, "watch closed")
                response = rpc_pb2.WatchResponse.FromString(message)
                if response.compact_revision:
                    raise OwnCallFailed(Code.UNKNOWN, "etcdserver: mvcc: required revision has been compacted")
                if response.canceled:
                    raise OwnCallFailed(Code.UNKNOWN, response.cancel_reason)
                if response.events:
                    return response
        except RpcError as error:
            raise _as_seen(error) from error


def _as_seen(error: RpcError) -> OwnCallFailed:
    """The error as the client of the call that is served gets it."""
    code = error.code
    if error.message == STOPPED.message:
        code = STOPPED.code
    elif code is not Code.DEADLINE_EXCEEDED:
        code = Code.UNKNOWN
    return OwnCallFailed(code, error.message)
