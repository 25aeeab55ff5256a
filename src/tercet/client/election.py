"""Watching the leader of an election: its proposal, each new one, and each new leader.

Source: Observe of etcd's client/v3/concurrency/election.go.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from tercet.client.prefix import prefix_end
from tercet.client.queue import oldest
from tercet.client.watch import WatchStream
from tercet.proto import kv_pb2, rpc_pb2

if TYPE_CHECKING:
    from tercet.client.cluster_channel import ClusterChannel

_Found = tuple[kv_pb2.KeyValue, rpc_pb2.ResponseHeader]


async def observe(client: ClusterChannel, name: bytes) -> AsyncGenerator[rpc_pb2.RangeResponse]:
    """Yield the leader's key whenever it changes, one in each response. Ends when a watch is lost. Raises StatusError."""
    while True:
        leader, header = await oldest(client, name)
        if leader is None:
            found = await _first_put(client, name + b"/", header.revision)
            if found is None:
                return
            leader, header = found
        yield rpc_pb2.RangeResponse(header=header, kvs=[leader])
        changes = _changes(client, leader.key, header.revision)
        async with contextlib.aclosing(changes):
            async for change in changes:
                if change is None:
                    return
                yield change


async def _first_put(client: ClusterChannel, prefix: bytes, revision: int) -> _Found | None:
    """Wait for a key under `prefix`. None if the watch is lost."""
    request = rpc_pb2.WatchCreateRequest(key=prefix, range_end=prefix_end(prefix), start_revision=revision)
    async with WatchStream(client) as stream:
        async for response in await stream.watch(request):
            for event in response.events:
                if event.type == kv_pb2.Event.PUT:
                    header = rpc_pb2.ResponseHeader()
                    header.CopyFrom(response.header)
                    header.revision = event.kv.mod_revision  # the events after it are still to come
                    return event.kv, header
    return None


async def _changes(client: ClusterChannel, key: bytes, revision: int) -> AsyncGenerator[rpc_pb2.RangeResponse | None]:
    """The leader's further proposals. Ends when the key is deleted; None if the watch is lost."""
    async with WatchStream(client) as stream:
        async for response in await stream.watch(rpc_pb2.WatchCreateRequest(key=key, start_revision=revision + 1)):
            if response.canceled:
                break
            for event in response.events:
                if event.type == kv_pb2.Event.DELETE:
                    return
                yield rpc_pb2.RangeResponse(header=response.header, kvs=[event.kv])
    yield None
