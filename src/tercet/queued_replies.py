"""Replies that wait for slow clients to read them, of all connections of a server together.

Above `full_bytes`, a connection that holds much gets no further large reply, and streams may queue less; the others are still
answered. So that clients that read nothing do not take this room for ever, their connections are closed: of those that have
taken almost nothing for UNREAD_SECONDS, the largest first, until half of `full_bytes` is free. Above `bytes_max`, no large
reply is given over HTTP/2, and connections are closed at once, those first that have taken nothing for the longest time.
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
UNREAD_SECONDS: Final = 5.0
COUNTED_BYTES: Final = 64 << 10  # less is not counted
_PROGRESS_BYTES: Final = 256 << 10  # a client that takes a byte now and then does not read
_CLOSED_AT_ONCE: Final = 100
_LOOK_SECONDS: Final = 0.1  # between two looks at all queues: there may be thousands


class Queue(Protocol):
    """Replies to one client."""

    def close_unread(self) -> str:
        """Close the connection: its client does not read. Returns the client's address. It may call `forget`."""


class QueuedReplies:
    """bytes: of all queues that are counted."""

    def __init__(self, loop: AbstractEventLoop, *, full_bytes: int = FULL_BYTES, bytes_max: int = BYTES_MAX) -> None:
        self.bytes = 0
        self._loop = loop
        self._full_bytes = full_bytes
        self._bytes_max = bytes_max
        self._counts: dict[Queue, _Count] = {}
        self._look_at = 0.0

    @property
    def is_full(self) -> bool:
        return self.bytes > self._full_bytes

    @property
    def is_over(self) -> bool:
        return self.bytes > self._bytes_max

    def count(self, queue: Queue, size: int) -> None:
        """The queue holds this many bytes now. Where they are fewer than before, the client has taken the difference."""
        counts = self._counts
        count = counts.get(queue)
        if count is None:
            if size < COUNTED_BYTES:
                return
            count = counts[queue] = _Count(self._loop.time())
        self.bytes += size - count.size
        if size < count.size:
            self.taken(queue, count.size - size)
        count.size = size
        if size < COUNTED_BYTES:
            self.forget(queue)
        elif self.is_full:
            self.make_room()

    def taken(self, queue: Queue, size: int) -> None:
        """The client has taken this many bytes. Called alone where that does not make the queue smaller."""
        count = self._counts.get(queue)
        if count is not None:
            count.taken += size
            if count.taken >= _PROGRESS_BYTES:
                count.taken = 0
                count.read_at = self._loop.time()

    def forget(self, queue: Queue) -> None:
        """The queue is empty, or the connection is lost, and its replies with it."""
        count = self._counts.pop(queue, None)
        if count is not None:
            self.bytes -= count.size

    def make_room(self) -> None:
        """Close the connections of clients that do not read. Called where replies are queued while `is_full`."""
        now = self._loop.time()
        if now < self._look_at:
            return
        self._look_at = now + _LOOK_SECONDS
        is_over = self.is_over
        unread = [
            (now - count.read_at if is_over else count.size, number, queue)
            for number, (queue, count) in enumerate(self._counts.items())
            if is_over or now - count.read_at >= UNREAD_SECONDS
        ]
        address = ""
        closed = 0
        for _, _, queue in nlargest(_CLOSED_AT_ONCE, unread):
            if self.bytes <= self._full_bytes // 2:
                break
            closed += 1
            closed_address = queue.close_unread()
            address = address or closed_address
            self.forget(queue)
        if closed:
            shown = fields(connections=closed, first_remote_addr=address)
            logger.warning("closed connections of clients that do not read their replies", extra=shown)


class TransportQueue:
    """Replies that are written to a transport in parts."""

    __slots__ = ("_transport",)

    def __init__(self, transport: Transport | None) -> None:
        self._transport = transport

    def close_unread(self) -> str:
        """See `Queue`."""
        if self._transport is None:
            return ""
        name = self._transport.get_extra_info("peername")
        self._transport.abort()
        return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else str(name or "@")


class _Count:
    """taken: by the client since `read_at`, when that was last _PROGRESS_BYTES."""

    __slots__ = ("read_at", "size", "taken")

    def __init__(self, now: float) -> None:
        self.size = 0
        self.taken = 0
        self.read_at = now
