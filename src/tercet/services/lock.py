"""The Lock service: Lock, Unlock. See queue_of_keys.py for the keys.

Source: etcd server/etcdserver/api/v3lock, client/v3/concurrency/mutex.go. Departs in: whoever gives up leaves the queue with
authentication, too; etcd deletes the key without the caller's identity, is refused, and the key waits for the end of its lease.
So does in etcd the key of whoever gives up while the key is written; here it is deleted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from typing import Any

from tercet.errors import Code, StatusError
from tercet.intake import TASK_WORK, intake_of_running_loop
from tercet.proto import lock_pb2, rpc_pb2
from tercet.rpc import Handler, Method, UnaryCall, unary_async, unmarshal
from tercet.services.own_client import OwnClient
from tercet.services.queue_of_keys import created_at, first_created, get_op, key_of, kv_in, put_op, session_of, wait_for_turn
from tercet.slots import Slots

SESSION_EXPIRED = StatusError(Code.UNKNOWN, "mutex: session is expired")


class Cleanups:
    """Deletions for calls that have been cancelled, which nobody waits for. Thousands of calls may be cancelled at once."""

    def __init__(self) -> None:
        self._intake = intake_of_running_loop()
        self._tasks: set[asyncio.Task[Any]] = set()

    def run(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(self._in_its_turn(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _in_its_turn(self, work: Coroutine[Any, Any, Any]) -> None:
        try:
            await self._intake.admitted(TASK_WORK)
        except asyncio.CancelledError:
            work.close()
            raise
        await _quietly(work)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()


async def _quietly(work: Coroutine[Any, Any, Any]) -> None:
    with suppress(StatusError):  # the key goes away with its lease
        await work


class LockService:
    """v3lockpb.Lock on one member. methods: of this member, those that clients call. searches: limits its searches."""

    def __init__(self, methods: Mapping[bytes, Method], cleanups: Cleanups, searches: Slots) -> None:
        self._methods = methods
        self._cleanups = cleanups
        self._searches = searches

    def handlers(self) -> dict[str, Handler]:
        return {"/v3lockpb.Lock/Lock": unary_async(self.lock), "/v3lockpb.Lock/Unlock": unary_async(self.unlock)}

    async def lock(self, call: UnaryCall, body: bytes) -> bytes:
        """Answers when the lock is held. Whoever gives up waiting leaves the queue."""
        request = unmarshal(lock_pb2.LockRequest.FromString, body)
        client = OwnClient(self._methods, call)
        name = request.name
        lease_id = await session_of(client, request.lease)
        key = key_of(name, lease_id)
        async with self._searches:
            entered = await self._enter(client, name, key, lease_id)
        revision = entered.header.revision
        if not entered.succeeded:
            own = kv_in(entered.responses[0])
            assert own is not None
            revision = own.create_revision
        if _is_owner(entered, revision):
            return _response(entered.header, key)
        try:
            await wait_for_turn(client, name, revision, self._searches)
            held = await client.range(rpc_pb2.RangeRequest(key=key))
        except StatusError:
            await _quietly(client.delete(key))
            raise
        except asyncio.CancelledError:
            self._cleanups.run(client.delete(key))
            raise
        if not held.kvs:
            raise SESSION_EXPIRED
        return _response(held.header, key)

    async def _enter(self, client: OwnClient, name: bytes, key: bytes, lease_id: int) -> rpc_pb2.TxnResponse:
        """Join the queue with this key, unless it is there already, and see who owns the lock."""
        owner = rpc_pb2.RequestOp(request_range=first_created(name))
        request = rpc_pb2.TxnRequest(
            compare=[created_at(key, 0)],
            success=[put_op(key, b"", lease_id), owner],
            failure=[get_op(key), owner],
        )
        entering = asyncio.ensure_future(client.txn(request))
        try:
            return await asyncio.shield(entering)
        except asyncio.CancelledError:
            self._cleanups.run(_leave(client, key, entering))
            raise

    async def unlock(self, call: UnaryCall, body: bytes) -> bytes:
        request = unmarshal(lock_pb2.UnlockRequest.FromString, body)
        deleted = await OwnClient(self._methods, call).delete(request.key)
        return lock_pb2.UnlockResponse(header=deleted.header).SerializeToString()


def _is_owner(entered: rpc_pb2.TxnResponse, revision: int) -> bool:
    first = kv_in(entered.responses[1])
    return first is None or first.create_revision == revision


async def _leave(client: OwnClient, key: bytes, entering: asyncio.Future[rpc_pb2.TxnResponse]) -> None:
    """Leave the queue that a call may have entered when its client gave up.

    A key that owns the lock stays, as in etcd: the same session may have asked again, and have been told that it owns it.
    """
    entered = await entering
    if entered.succeeded and not _is_owner(entered, entered.header.revision):
        await client.delete(key)


def _response(header: rpc_pb2.ResponseHeader, key: bytes) -> bytes:
    return lock_pb2.LockResponse(header=header, key=key).SerializeToString()
