"""Keeping all leases of a client alive over one stream.

    keeper = LeaseKeeper(channel)
    keeper.keep(lease_id, ttl_seconds=10, sent_at=sent_at, on_lost=callback)
    keeper.forget(lease_id)

Renewals are sent by a timer, not by the tasks of the application: no consumer, however slow, delays them. lease_schedule.py
decides when. A broken or stalled stream is opened again, on another member if necessary; meanwhile the timer still finds the
leases that are lost.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING

from tercet.client import methods
from tercet.client.lease_schedule import LeaseSchedule
from tercet.client.watch import REQUIRE_LEADER
from tercet.errors import StatusError
from tercet.proto import rpc_pb2

if TYPE_CHECKING:
    from tercet.client.cluster_channel import ClusterChannel
    from tercet.client.connections import Stream

logger = logging.getLogger(__name__)
_PAUSE_SECONDS = 0.05
_PAUSE_SECONDS_MAX = 1.0
_TICK_SECONDS_MAX = 60.0
_LAST_SECONDS = 0.2
"""That `close` waits for requests to revoke what was granted to nobody."""


def lease_clock() -> float:
    """Seconds on a monotonic clock that, where the system has one, goes on while the machine sleeps: leases expire then too."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot is None else time.clock_gettime(boot)


class LeaseKeeper:
    """The leases kept alive by one client. Bound to the event loop in which `keep` is first called."""

    def __init__(self, channel: ClusterChannel, clock: Callable[[], float] = lease_clock) -> None:
        self.clock = clock
        self._channel = channel
        self._schedule = LeaseSchedule()
        self._on_lost: dict[int, Callable[[], object]] = {}
        self._stream: Stream | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._pump: asyncio.Task[None] | None = None
        self._revoking: set[asyncio.Task[None]] = set()

    def keep(self, lease_id: int, *, ttl_seconds: int, sent_at: float, on_lost: Callable[[], object]) -> None:
        """Keep a lease alive that a request sent at `sent_at` (on `clock`) granted. `on_lost` is called at most once."""
        self._schedule.add(lease_id, ttl_seconds=ttl_seconds, sent_at=sent_at)
        self._on_lost[lease_id] = on_lost
        if self._pump is None or self._pump.done():
            self._pump = asyncio.get_running_loop().create_task(self._run())
        self._set_timer()

    def forget(self, lease_id: int) -> None:
        """Stop keeping a lease alive: it expires a TTL after its last renewal."""
        self._schedule.remove(lease_id)
        self._on_lost.pop(lease_id, None)
        if not self._schedule:
            self._stop()

    def revoke_later(self, request: Coroutine[None, None, None]) -> None:
        """Make a request that nobody waits for."""
        task = asyncio.get_running_loop().create_task(request)
        self._revoking.add(task)
        task.add_done_callback(self._revoking.discard)

    def remaining_seconds(self, lease_id: int) -> float:
        """Until the lease counts as lost unless it is renewed; 0 if it is not kept alive."""
        return self._schedule.remaining_seconds(lease_id, self.clock())

    async def close(self) -> None:
        """Stop. All leases count as lost, as nobody will renew them."""
        pump = self._pump
        self._stop()
        for lease_id in tuple(self._on_lost):
            self._lose(lease_id)
        if pump is not None:
            await asyncio.wait((pump,))
        if self._revoking:
            _, late = await asyncio.wait(self._revoking, timeout=_LAST_SECONDS)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pump is not None:
            self._pump.cancel()
            self._pump = None

    def _lose(self, lease_id: int) -> None:
        self._schedule.remove(lease_id)
        on_lost = self._on_lost.pop(lease_id, None)
        if on_lost is not None:
            on_lost()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at = self._schedule.next_at(connected=self._stream is not None)
        if at is not None:
            delay = min(max(0.0, at - self.clock()), _TICK_SECONDS_MAX)
            self._timer = asyncio.get_running_loop().call_later(delay, self._tick)

    def _tick(self) -> None:
        """Find what is lost, then send what is due: a lost lease is not renewed, as its owner has been told."""
        self._timer = None
        now = self.clock()
        for lease_id in self._schedule.take_lost(now):
            logger.warning("lease %x is lost: no renewal was acknowledged for its TTL", lease_id)
            self._lose(lease_id)
        if not self._schedule:
            self._stop()
            return
        if self._stream is not None:
            if self._schedule.is_stalled(now):
                self._stream.cancel()
                self._stream = None
            else:
                self._send(self._stream, now)
        self._set_timer()

    def _send(self, stream: Stream, now: float) -> None:
        try:
            for lease_id in self._schedule.take_due(now):
                stream.send_now(rpc_pb2.LeaseKeepAliveRequest(ID=lease_id).SerializeToString())
        except StatusError:
            self._stream = None  # its reader gets the same error, and opens another

    async def _run(self) -> None:
        pause = _PAUSE_SECONDS
        while self._schedule:
            try:
                stream = await self._channel.open_stream(methods.LEASE_KEEP_ALIVE, metadata=REQUIRE_LEADER)
            except StatusError as error:
                logger.info("cannot renew leases: %s", error.message)
            else:
                if await self._follow(stream):
                    pause = _PAUSE_SECONDS
                await self._channel.leave_member(stream)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _PAUSE_SECONDS_MAX)

    async def _follow(self, stream: Stream) -> bool:
        """Renew over this stream until it ends. Returns whether it has answered."""
        count = 0
        try:
            async with stream:
                self._stream = stream
                self._tick()
                async for message in stream:
                    self._answered(methods.LEASE_KEEP_ALIVE.decode(message))
                    count += 1
        except StatusError as error:
            logger.info("the stream that renews leases has ended: %s", error.message)
        finally:
            if self._stream is stream:
                self._stream = None
            self._schedule.stream_lost(self.clock())
            self._set_timer()
        return count > 0

    def _answered(self, answer: rpc_pb2.LeaseKeepAliveResponse) -> None:
        if not self._schedule.answered(answer.ID, answer.TTL, self.clock()):
            logger.warning("lease %x is lost: it has expired or was revoked", answer.ID)
            self._lose(answer.ID)
        self._set_timer()
