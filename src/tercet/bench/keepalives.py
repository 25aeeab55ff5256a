"""Load on LeaseKeepAlive: each slot is a stream with a lease of its own, and one renewal in flight."""

from __future__ import annotations

import asyncio
import time

from tercet.bench.load import Extent, Load
from tercet.bench.requests import GRANT_PATH, KEEPALIVE_PATH, REVOKE_PATH
from tercet.proto import rpc_pb2
from tercet.rpc import Channel, RpcError

_TTL_SECONDS = 600


class KeepAlives(Load):
    """One run."""

    def __init__(self, extent: Extent) -> None:
        super().__init__(KEEPALIVE_PATH, iter(()), extent)
        self._tasks: list[asyncio.Task[None]] = []

    def begin_slot(self, channel: Channel) -> None:
        self.in_flight += 1
        self._tasks.append(asyncio.get_running_loop().create_task(self._slot(channel)))

    async def _slot(self, channel: Channel) -> None:
        try:
            await self._renew(channel)
        except RpcError as error:
            self.errors[error.message] += 1
        finally:
            self.in_flight -= 1
            if not self.in_flight:
                self.idle.set()

    async def _renew(self, channel: Channel) -> None:
        clock = time.perf_counter
        granted = await channel.unary(GRANT_PATH, rpc_pb2.LeaseGrantRequest(TTL=_TTL_SECONDS).SerializeToString())
        lease_id = rpc_pb2.LeaseGrantResponse.FromString(granted).ID
        request = rpc_pb2.LeaseKeepAliveRequest(ID=lease_id).SerializeToString()
        async with channel.stream(self.path) as stream:
            while self.left and not self.stopped:
                self.left -= 1
                began = clock()
                stream.send_now(request)
                answer = await stream.receive()
                seconds = clock() - began
                if answer is None or rpc_pb2.LeaseKeepAliveResponse.FromString(answer).TTL != _TTL_SECONDS:
                    self.errors["the lease was not renewed"] += 1
                    return
                self.latencies.append(seconds)
        await channel.unary(REVOKE_PATH, rpc_pb2.LeaseRevokeRequest(ID=lease_id).SerializeToString())
