"""Replies that wait for slow clients to read them, of all connections of a server together.

Above `full_bytes`, a connection that holds much gets no further large reply, and streams may queue less; the others are still
answered. So that clients that read nothing do not take this room for ever, their connections are closed: of those that have
taken almost nothing for UNREAD_SECONDS, the largest first, until half of `full_bytes` is free. Above `bytes_max`, no large
reply is given, and the largest connections are closed whether they read or not.
"""

from __future__ import annotations

import logging
from asyncio import AbstractEventLoop
from heapq import nlargest
from typing import Final, Protocol

from tercet.log_fields import fields
from tercet.rpc.call import Peer

logger = logging.getLogger(__name__)

FULL_BYTES: Final = 512 << 20
BYTES_MAX: Final = 1 << 30
UNREAD_SECONDS: Final = 5.0
COUNTED_BYTES: Final = 64 << 10  # a queue below this is not counted
_PROGRESS_BYTES: Final = 256 << 10  # a client that takes a byte now and then does not read
_CLOSED_AT_ONCE: Final = 100
_LOOK_SECONDS: Final = 0.1  # between two looks at all connections: there may be thousands


class Queue(Protocol):
    """The replies of one connection."""

    def close_unread(self) -> None:
        """Close the connection: its client does not read. It may call `forget`."""

    @property
    def peer(self) -> Peer: ...


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
        """The queue holds this many bytes now."""
        counts = self._counts
        count = counts.get(queue)
        if count is None:
            if size < COUNTED_BYTES:
                return
            count = counts[queue] = _Count(self._loop.time())
        self.bytes += size - count.size
        if size > count.size:
            count.mark += size - count.size
        count.size = size
        if size <= count.mark - _PROGRESS_BYTES or size < COUNTED_BYTES:
            count.mark = size
            count.read_at = self._loop.time()
        if size < COUNTED_BYTES:
            self.bytes -= size
            del counts[queue]
        elif self.bytes > self._full_bytes:
            self.make_room()

    def forget(self, queue: Queue) -> None:
        """The connection is lost, and its replies with it."""
        count = self._counts.pop(queue, None)
        if count is not None:
            self.bytes -= count.size

    def make_room(self) -> None:
        """Close the connections of clients that do not read. Called where replies are queued while `is_full`."""
        now = self._loop.time()
        if now < self._look_at:
            return
        self._look_at = now + _LOOK_SECONDS
        unread = [
            (count.size, number, queue)
            for number, (queue, count) in enumerate(self._counts.items())
            if self.is_over or now - count.read_at >= UNREAD_SECONDS
        ]
        left = self.bytes - self._full_bytes // 2
        closed = 0
        address = ""
        for size, _, queue in nlargest(_CLOSED_AT_ONCE, unread):
            if left <= 0:
                break
            left -= size
            closed += 1
            address = address or queue.peer.address
            queue.close_unread()
            self.forget(queue)
        if closed:
            shown = fields(connections=closed, largest_remote_addr=address)
            logger.warning("closed connections of clients that do not read their replies", extra=shown)


class _Count:
    """mark: the size, and what the client has taken since `read_at`. When that is _PROGRESS_BYTES, the client reads."""

    __slots__ = ("mark", "read_at", "size")

    def __init__(self, now: float) -> None:
        self.size = 0
        self.mark = 0
        self.read_at = now
