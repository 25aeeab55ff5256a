"""Memory that clients make a server hold: replies that they do not read, requests that they do not complete.

Above `full_bytes`, a connection that holds much gets no further large reply, and streams may queue less; the others are still
answered. So that nobody takes this room for ever, connections are closed: of those whose memory has not become less for
STUCK_SECONDS, the largest first, until half of `full_bytes` is free. Above `bytes_max`, incomplete requests and, over HTTP/2,
large replies are refused, and connections are closed at once, those first that have been stuck for the longest time.
"""

from __future__ import annotations

import logging
from asyncio import AbstractEventLoop, Transport
from heapq import nlargest
from typing import Final, Protocol

from tercet.log_fields import fields

logger = logging.getLogger(__name__)

FULL_BYTES: Final = 512 << 20
BYTES_MAX: Final = 1 << 30
STUCK_SECONDS: Final = 5.0
COUNTED_BYTES: Final = 64 << 10  # less is not counted
_PROGRESS_BYTES: Final = 256 << 10  # a client that takes a byte now and then is stuck
_CLOSED_AT_ONCE: Final = 100
_LOOK_SECONDS: Final = 0.1  # between two looks at all holders: there may be thousands


class Holder(Protocol):
    """A connection, or one exchange on it."""

    def close_stuck(self) -> str:
        """Close the connection. Returns the client's address. It may call `forget`."""


class ClientMemory:
    """bytes: of all holders that are counted."""

    def __init__(self, loop: AbstractEventLoop, *, full_bytes: int = FULL_BYTES, bytes_max: int = BYTES_MAX) -> None:
        self.bytes = 0
        self._loop = loop
        self._full_bytes = full_bytes
        self._bytes_max = bytes_max
        self._counts: dict[Holder, _Count] = {}
        self._look_at = 0.0

    @property
    def is_full(self) -> bool:
        return self.bytes > self._full_bytes

    @property
    def is_over(self) -> bool:
        return self.bytes > self._bytes_max

    def count(self, holder: Holder, size: int) -> None:
        """It holds this many bytes now. Where they are fewer than before, the client has taken or completed the difference."""
        counts = self._counts
        count = counts.get(holder)
        if count is None:
            if size < COUNTED_BYTES:
                return
            count = counts[holder] = _Count(self._loop.time())
        self.bytes += size - count.size
        if size < count.size:
            self.taken(holder, count.size - size)
        count.size = size
        if size < COUNTED_BYTES:
            self.forget(holder)
        elif self.is_full:
            self.make_room()

    def taken(self, holder: Holder, size: int) -> None:
        """The client has taken this many bytes. Called alone where as much is held as before."""
        count = self._counts.get(holder)
        if count is not None:
            count.taken += size
            if count.taken >= _PROGRESS_BYTES:
                count.taken = 0
                count.less_at = self._loop.time()

    def forget(self, holder: Holder) -> None:
        """Nothing is held, or the connection is lost."""
        count = self._counts.pop(holder, None)
        if count is not None:
            self.bytes -= count.size

    def make_room(self) -> None:
        """Close connections that are stuck. Called where more is to be held while `is_full`."""
        now = self._loop.time()
        if now < self._look_at:
            return
        self._look_at = now + _LOOK_SECONDS
        is_over = self.is_over
        stuck = [
            (now - count.less_at if is_over else count.size, number, holder)
            for number, (holder, count) in enumerate(self._counts.items())
            if is_over or now - count.less_at >= STUCK_SECONDS
        ]
        address = ""
        closed = 0
        for _, _, holder in nlargest(_CLOSED_AT_ONCE, stuck):
            if self.bytes <= self._full_bytes // 2:
                break
            closed += 1
            closed_address = holder.close_stuck()
            address = address or closed_address
            self.forget(holder)
        if closed:
            shown = fields(connections=closed, first_remote_addr=address)
            logger.warning("closed connections of clients that do not read replies or complete requests", extra=shown)


class TransportHolder:
    """A connection of HTTP/1.1."""

    __slots__ = ("transport",)

    def __init__(self) -> None:
        self.transport: Transport | None = None

    def close_stuck(self) -> str:
        """See `Holder`."""
        transport = self.transport
        if transport is None:
            return ""
        name = transport.get_extra_info("peername")
        transport.abort()
        return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else str(name or "@")


class _Count:
    """taken: by the client since `less_at`, when it had last taken _PROGRESS_BYTES."""

    __slots__ = ("less_at", "size", "taken")

    def __init__(self, now: float) -> None:
        self.size = 0
        self.taken = 0
        self.less_at = now
