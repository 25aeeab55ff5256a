"""Streams that were answered before their request was complete: once the answer has been sent, the client is asked to stop.

They are looked at a few at a time, in turn: a client that takes no answer may have 100,000 of them.
Source: RFC 9113 §8.1.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from tercet.rpc import http2
from tercet.rpc.connection import Connection
from tercet.rpc.http2 import HTTP2Error

_LOOKED_AT_PER_TURN: Final = 64


class HalfOpenStreams:
    """Those of one connection, which is an argument: a reference to it would be a cycle."""

    __slots__ = ("_ids", "_is_scheduled", "_queue", "_unseen")

    def __init__(self) -> None:
        self._ids: set[int] = set()
        self._queue: deque[int] = deque()  # these, and some that have ended
        self._unseen = 0  # how many have not been looked at since the last flush
        self._is_scheduled = False

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, stream_id: int) -> bool:
        return stream_id in self._ids

    def add(self, stream_id: int) -> None:
        self._ids.add(stream_id)
        self._queue.append(stream_id)

    def discard(self, stream_id: int) -> None:
        self._ids.discard(stream_id)

    def flushed(self, connection: Connection) -> None:
        """Something may have been sent: look at all of them, from now on."""
        self._unseen = len(self._queue)
        if not self._is_scheduled:
            self._reset_some(connection)

    def _reset_some(self, connection: Connection) -> None:
        session = connection.session
        try:
            if connection.write_paused or session.remote_window_size <= 0:
                return
        except HTTP2Error:
            return  # the session has ended; its ConnectionClosed event is to come
        for _ in range(min(_LOOKED_AT_PER_TURN, self._unseen)):
            self._unseen -= 1
            stream_id = self._queue.popleft()
            if stream_id not in self._ids:
                continue
            try:
                sent = not session.queued_body_size(stream_id) and session.stream_remote_window_size(stream_id) > 0
            except HTTP2Error:
                sent = True
            if sent:
                self._ids.discard(stream_id)
                connection.reset(stream_id, http2.NO_ERROR)
            else:
                self._queue.append(stream_id)
        if self._unseen:
            self._is_scheduled = True
            connection.loop.call_soon(self._go_on, connection)

    def _go_on(self, connection: Connection) -> None:
        self._is_scheduled = False
        if not connection.closing:
            self._reset_some(connection)
