"""The calls of each service, with their types."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from tercet.client import methods
from tercet.client.methods import AnswerT, EncodableT, Method
from tercet.proto import rpc_pb2


class Caller(Protocol):
    """What a service needs of the client. timeout: seconds, None for the client's default."""

    async def call(
        self, method: Method[EncodableT, AnswerT], request: EncodableT, *, timeout: float | None = None, wait: bool = False
    ) -> AnswerT: ...

    async def range_stream(self, request: rpc_pb2.RangeRequest, *, timeout: float | None = None) -> rpc_pb2.RangeResponse: ...


class StreamCaller(Caller, Protocol):
    """A caller that also makes server-streaming calls."""

    def stream(
        self, method: Method[EncodableT, AnswerT], request: EncodableT, *, timeout: float | None = None
    ) -> AsyncGenerator[AnswerT]: ...


class KV:
    """Keys and values. Source: rpc.proto, service KV."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def range(self, request: rpc_pb2.RangeRequest, *, timeout: float | None = None) -> rpc_pb2.RangeResponse:
        return await self._caller.call(methods.RANGE, request, timeout=timeout)

    async def range_stream(self, request: rpc_pb2.RangeRequest, *, timeout: float | None = None) -> rpc_pb2.RangeResponse:
        """The same response, received in parts: for ranges too large for one message."""
        return await self._caller.range_stream(request, timeout=timeout)

    async def put(self, request: rpc_pb2.PutRequest, *, timeout: float | None = None) -> rpc_pb2.PutResponse:
        return await self._caller.call(methods.PUT, request, timeout=timeout)

    async def delete_range(
        self, request: rpc_pb2.DeleteRangeRequest, *, timeout: float | None = None
    ) -> rpc_pb2.DeleteRangeResponse:
        return await self._caller.call(methods.DELETE_RANGE, request, timeout=timeout)

    async def txn(self, request: rpc_pb2.TxnRequest, *, timeout: float | None = None) -> rpc_pb2.TxnResponse:
        return await self._caller.call(methods.TXN, request, timeout=timeout)

    async def compact(self, request: rpc_pb2.CompactionRequest, *, timeout: float | None = None) -> rpc_pb2.CompactionResponse:
        """With `physical` the response arrives when the space is free, and `timeout` is for connecting only."""
        return await self._caller.call(methods.COMPACT, request, timeout=timeout, wait=request.physical)


class Cluster:
    """Membership. Source: rpc.proto, service Cluster."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def member_list(
        self, request: rpc_pb2.MemberListRequest, *, timeout: float | None = None
    ) -> rpc_pb2.MemberListResponse:
        return await self._caller.call(methods.MEMBER_LIST, request, timeout=timeout)


class Maintenance:
    """Calls for the one member that is connected, except alarms, which are the cluster's. Source: rpc.proto, Maintenance."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def alarm(self, request: rpc_pb2.AlarmRequest, *, timeout: float | None = None) -> rpc_pb2.AlarmResponse:
        is_get = request.action == rpc_pb2.AlarmRequest.GET
        return await self._caller.call(methods.ALARM_GET if is_get else methods.ALARM_SET, request, timeout=timeout)

    async def status(self, request: rpc_pb2.StatusRequest, *, timeout: float | None = None) -> rpc_pb2.StatusResponse:
        return await self._caller.call(methods.STATUS, request, timeout=timeout)

    async def hash_kv(self, request: rpc_pb2.HashKVRequest, *, timeout: float | None = None) -> rpc_pb2.HashKVResponse:
        return await self._caller.call(methods.HASH_KV, request, timeout=timeout)

    async def defragment(
        self, request: rpc_pb2.DefragmentRequest, *, timeout: float | None = None
    ) -> rpc_pb2.DefragmentResponse:
        return await self._caller.call(methods.DEFRAGMENT, request, timeout=timeout)

    async def move_leader(
        self, request: rpc_pb2.MoveLeaderRequest, *, timeout: float | None = None
    ) -> rpc_pb2.MoveLeaderResponse:
        return await self._caller.call(methods.MOVE_LEADER, request, timeout=timeout)


class StreamingMaintenance(Maintenance):
    """Maintenance with its streaming calls."""

    def __init__(self, caller: StreamCaller) -> None:
        super().__init__(caller)
        self._streams = caller

    def snapshot(
        self, request: rpc_pb2.SnapshotRequest, *, timeout: float | None = None
    ) -> AsyncGenerator[rpc_pb2.SnapshotResponse]:
        """The member's database as a file, in pieces; its last 32 bytes are the SHA-256 of those before them.

        timeout: seconds for the whole stream; None: no limit.
        """
        return self._streams.stream(methods.SNAPSHOT, request, timeout=timeout)
