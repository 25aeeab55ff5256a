"""Finds a member that has stopped answering while calls wait: a paused process, a lost host. Its connection stays open.

    0.5 s without a byte while a call waits    send PING
    0.5 s without an answer to it              use the next endpoint; repeat reads there, open streams again

At most one PING in 5 s, which etcd allows while streams are open. A write stays where it is, since its outcome is unknown: it
is answered if the member goes on, and fails with its timeout, or when the keepalive ends the connection. On a slow network
both times are at least four times what connecting took. Without another endpoint nothing happens.

Source: grpc-go's keepalive enforcement; etcd's --grpc-keepalive-min-time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

_PATIENCE_SECONDS = 0.5
_LOOK_SECONDS = 0.25
_PROBE_INTERVAL_SECONDS = 5.0


class Probed(Protocol):
    """What is asked of a channel. last_heard: on the loop's clock."""

    @property
    def is_usable(self) -> bool: ...
    @property
    def waiting_calls(self) -> int: ...
    @property
    def last_heard(self) -> float: ...
    def ping(self) -> None: ...


class Silence:
    """Watches one channel while calls wait on it. `found()` is called once for each silence, from the event loop.

    Without waiting calls there is no timer.
    """

    __slots__ = ("_channel", "_due", "_found", "_loop", "_patience", "_pinged", "_since", "_timer")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, channel: Probed, connecting_seconds: float, found: Callable[[], object]
    ) -> None:
        self._channel = channel
        self._found = found
        self._loop = loop
        self._patience = max(_PATIENCE_SECONDS, 4 * connecting_seconds)
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._since = 0.0
        self._pinged = float("-inf")

    def call_begins(self) -> None:
        """To be called before each call."""
        if self._timer is None:
            self._since = self._loop.time()
            self._look_later()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_later(self) -> None:
        self._due = self._loop.time() + _LOOK_SECONDS
        self._timer = self._loop.call_at(self._due, self._look)

    def _look(self) -> None:
        channel, now = self._channel, self._loop.time()
        if not channel.waiting_calls or not channel.is_usable:
            self._timer = None
            return
        quiet_since = max(self._since, channel.last_heard)
        if now > self._due + _LOOK_SECONDS:
            self._since = now  # this process was busy, or paused: answers may wait to be read
        elif self._pinged >= quiet_since:
            if now - self._pinged >= self._patience:
                self._timer = None
                self._found()
                return
        elif now - quiet_since >= self._patience and now - self._pinged >= _PROBE_INTERVAL_SECONDS:
            self._pinged = now
            channel.ping()
        self._look_later()
