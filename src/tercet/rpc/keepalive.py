"""Keepalive by HTTP/2 PING.

`Pinger` sends a PING after `interval_seconds` without a byte from the peer, and declares the peer dead if nothing arrives
within `timeout_seconds`. `PingPolicy` limits a client's own pings: one that pings more often than allowed loses its
connection with GOAWAY ENHANCE_YOUR_CALM `too_many_pings`. Source: grpc-go internal/transport/http2_server.go (handlePing,
keepalive), and its defaults.
"""

from __future__ import annotations

import asyncio
from typing import Protocol


class Pinged(Protocol):
    """What a Pinger needs of its connection."""

    loop: asyncio.AbstractEventLoop
    last_heard: float

    def wants_ping(self) -> bool: ...
    def ping(self) -> None: ...
    def peer_is_dead(self) -> None: ...


class Pinger:
    """Pings a silent peer. Its timer is set to the earliest moment of a full silent interval, so a busy peer costs nothing.

    Only the timer refers to the connection: one that is lost, and what it had queued, must not wait for a garbage collection.
    """

    __slots__ = ("_interval_seconds", "_timeout_seconds", "_timer")

    def __init__(self, interval_seconds: float, timeout_seconds: float) -> None:
        self._interval_seconds = interval_seconds
        self._timeout_seconds = timeout_seconds
        self._timer: asyncio.TimerHandle | None = None

    def start(self, connection: Pinged) -> None:
        self._timer = connection.loop.call_later(self._interval_seconds, self._ask, connection)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ask(self, connection: Pinged) -> None:
        quiet_since = connection.last_heard
        due = quiet_since + self._interval_seconds
        # 1 ms of grace: a timer may fire early by the clock's resolution, and would then be set to fire again at once.
        if due > connection.loop.time() + 0.001:
            self._timer = connection.loop.call_at(due, self._ask, connection)
            return
        if not connection.wants_ping():
            self._timer = connection.loop.call_later(self._interval_seconds, self._ask, connection)
            return
        connection.ping()
        self._judge_after(connection, quiet_since, self._timeout_seconds)

    def _judge_after(self, connection: Pinged, quiet_since: float, left_seconds: float) -> None:
        # In steps of the interval, since the timeout may be longer: a peer that answers is pinged again after the interval.
        step = min(left_seconds, self._interval_seconds)
        self._timer = connection.loop.call_later(step, self._judge, connection, quiet_since, left_seconds - step)

    def _judge(self, connection: Pinged, quiet_since: float, left_seconds: float) -> None:
        if connection.last_heard != quiet_since:
            self._timer = connection.loop.call_at(connection.last_heard + self._interval_seconds, self._ask, connection)
        elif left_seconds > 0:
            self._judge_after(connection, quiet_since, left_seconds)
        else:
            self._timer = None
            connection.peer_is_dead()


_STRIKES_MAX = 2
_IDLE_SECONDS = 2 * 3600.0


class PingPolicy:
    """Counts a client's pings that come too early; data sent to it since the last ping resets the count."""

    __slots__ = ("last_ping", "min_interval_seconds", "permit_without_calls", "strikes")

    def __init__(self, min_interval_seconds: float, permit_without_calls: bool) -> None:
        self.min_interval_seconds = min_interval_seconds
        self.permit_without_calls = permit_without_calls
        self.strikes = 0
        self.last_ping = float("-inf")

    def is_abuse(self, now: float, *, has_calls: bool, sent_data: bool) -> bool:
        """Count one ping. `sent_data`: an answer was sent since the last ping; clients then use pings to measure bandwidth."""
        since_last, self.last_ping = now - self.last_ping, now
        if sent_data:
            self.strikes = 0
            return False
        allowed_after = self.min_interval_seconds if has_calls or self.permit_without_calls else _IDLE_SECONDS
        if since_last < allowed_after:
            self.strikes += 1
        return self.strikes > _STRIKES_MAX
