"""Keeping leases alive. Source: etcd's client/v3/lease.go.

A lease is renewed at a third of its TTL, over one stream, which is opened again when it breaks. When the lease is gone, or no
renewal has succeeded for a TTL, the iteration ends: its keys may be deleted from then on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from tercet.client import methods
from tercet.client.watch import REQUIRE_LEADER
from tercet.errors import Code, StatusError
from tercet.proto import rpc_pb2

if TYPE_CHECKING:
    from tercet.client.cluster_channel import ClusterChannel
    from tercet.client.connections import Stream

_REOPEN_PAUSE_SECONDS = 0.5
_FIRST_ANSWER_SECONDS = 3.0  # to connect and get the first answer


async def keep_alive_once(client: ClusterChannel, lease_id: int) -> rpc_pb2.LeaseKeepAliveResponse:
    """Renew a lease once. Raises StatusError: NOT_FOUND for a lease that does not exist."""
    while True:
        try:
            async with await client.open_stream(methods.LEASE_KEEP_ALIVE) as stream:
                answer = await _renew(stream, lease_id)
        except StatusError as error:
            if error.code in (Code.UNAVAILABLE, Code.INTERNAL):
                continue  # on another member; open_stream waits for one
            raise
        if answer.TTL <= 0:
            raise StatusError(Code.NOT_FOUND, "etcdserver: requested lease not found")
        return answer


async def keep_alive(client: ClusterChannel, lease_id: int) -> AsyncGenerator[rpc_pb2.LeaseKeepAliveResponse]:
    """Renew a lease until it is gone, and yield each answer. Raises StatusError for errors that another member would repeat."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _FIRST_ANSWER_SECONDS
    while loop.time() < deadline:
        try:
            async with asyncio.timeout_at(deadline):
                stream = await client.open_stream(methods.LEASE_KEEP_ALIVE, metadata=REQUIRE_LEADER)
            async with stream:
                while True:
                    async with asyncio.timeout_at(deadline):
                        answer = await _renew(stream, lease_id)
                    if answer.TTL <= 0:
                        return
                    deadline = loop.time() + answer.TTL
                    yield answer
                    await asyncio.sleep(answer.TTL / 3)
        except TimeoutError:
            return
        except StatusError as error:
            if error.code not in (Code.UNAVAILABLE, Code.INTERNAL, Code.DEADLINE_EXCEEDED):
                raise
        await asyncio.sleep(_REOPEN_PAUSE_SECONDS)


async def _renew(stream: Stream, lease_id: int) -> rpc_pb2.LeaseKeepAliveResponse:
    await stream.send(rpc_pb2.LeaseKeepAliveRequest(ID=lease_id).SerializeToString())
    message = await stream.receive()
    if message is None:
        raise StatusError(Code.UNAVAILABLE, "the server ended the stream")
    return methods.LEASE_KEEP_ALIVE.decode(message)
