"""Load on LeaseKeepAlive: each slot is a stream with a lease of its own, and one renewal in flight.

As in load.py, the answer to one request sends the next in a plain function; the task of a stream wakes for a few of them only.
"""

from __future__ import annotations

import asyncio
import time

from tercet.bench.load import Extent, Load
from tercet.bench.requests import GRANT_PATH, KEEPALIVE_PATH, REVOKE_PATH
from tercet.proto import rpc_pb2
from tercet.proto.wire import varint
from tercet.rpc import Channel, ClientStream, RpcError

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
        granted = await channel.unary(GRANT_PATH, rpc_pb2.LeaseGrantRequest(TTL=_TTL_SECONDS).SerializeToString())
        lease_id = rpc_pb2.LeaseGrantResponse.FromString(granted).ID
        async with channel.stream(self.path) as stream:
            renewals = _Renewals(self, stream, lease_id)
            stream.handle_at_once(renewals.answered_at_once)
            while renewals.send_next():
                answer = await stream.receive()
                if answer is None or not renewals.answered(answer):
                    self.errors["the lease was not renewed"] += 1
                    return
        await channel.unary(REVOKE_PATH, rpc_pb2.LeaseRevokeRequest(ID=lease_id).SerializeToString())


class _Renewals:
    """The renewals of one lease on one stream."""

    __slots__ = ("_began", "_load", "_renewed", "_request", "_stream")

    def __init__(self, load: KeepAlives, stream: ClientStream, lease_id: int) -> None:
        self._load = load
        self._stream = stream
        self._request = rpc_pb2.LeaseKeepAliveRequest(ID=lease_id).SerializeToString()
        self._renewed = b"\x10" + varint(lease_id) + b"\x18" + varint(_TTL_SECONDS)  # id and TTL, after the header
        self._began = 0.0

    def send_next(self) -> bool:
        """Send a request. False, and nothing sent, at the end of the run."""
        load = self._load
        if not load.left or load.stopped:
            return False
        load.left -= 1
        self._began = time.perf_counter()
        self._stream.send_now(self._request)
        return True

    def answered(self, answer: bytes) -> bool:
        """Note how long the answer took. False if the lease was not renewed."""
        if not answer.endswith(self._renewed):
            return False
        self._load.latencies.append(time.perf_counter() - self._began)
        return True

    def answered_at_once(self, answer: bytes) -> bool:
        """Take an answer and send the next request. False for the last answer and for an error, which `answered` must take."""
        load = self._load
        return bool(load.left) and not load.stopped and self.answered(answer) and self.send_next()
