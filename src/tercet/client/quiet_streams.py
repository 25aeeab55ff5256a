"""Asks a member for its health while its streams bring nothing, so that a client that only watches finds a frozen one.

    3 s without a byte while a stream is open    call grpc.health.v1.Health/Check
    that call waits                              silence.py sends a PING, and uses the next endpoint

The call is an ordinary one: servers limit PINGs, and answers to calls forgive them (grpc's keepalive enforcement). Every member
of etcd and tercet answers it without a token or a leader; any other answer is a sign of life too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

_CHECK: Final = "/grpc.health.v1.Health/Check"
_CHECK_SECONDS_MAX: Final = 10.0


class Abandoned(Protocol):
    is_repeatable: bool


class Asked(Protocol):
    """What is asked of a channel. last_heard: on the loop's clock."""

    @property
    def is_usable(self) -> bool: ...
    @property
    def open_calls(self) -> int: ...
    @property
    def last_heard(self) -> float: ...
    def start_unary(
        self, path: str, message: bytes, callback: Callable[[int, str, bytes], object], timeout: float | None = None
    ) -> Abandoned: ...


class QuietStreams:
    """Of one channel. Without open calls there is no timer."""

    __slots__ = ("_ask_begins", "_channel", "_interval", "_is_asking", "_loop", "_timer")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, channel: Asked, interval_seconds: float, ask_begins: Callable[[], object]
    ) -> None:
        """ask_begins: called before each check, as before any call."""
        self._loop = loop
        self._channel = channel
        self._interval = interval_seconds
        self._ask_begins = ask_begins
        self._is_asking = False
        self._timer: asyncio.TimerHandle | None = None

    def stream_begins(self) -> None:
        """To be called before each stream."""
        if self._timer is None:
            self._timer = self._loop.call_at(self._loop.time() + self._interval, self._look)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        channel, now = self._channel, self._loop.time()
        self._timer = None
        if not channel.open_calls or not channel.is_usable:
            return
        due = channel.last_heard + self._interval
        if now >= due:
            self._ask()
            due = now + self._interval
        self._timer = self._loop.call_at(due, self._look)

    def _ask(self) -> None:
        if self._is_asking:
            return
        self._is_asking = True
        self._ask_begins()
        self._channel.start_unary(_CHECK, b"", self._answered, _CHECK_SECONDS_MAX).is_repeatable = True

    def _answered(self, code: int, text: str, message: bytes) -> None:
        """Whatever the answer is, or the end of the connection."""
        self._is_asking = False
