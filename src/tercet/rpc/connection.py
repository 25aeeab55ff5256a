"""Joins one transport to one HTTP/2 session: feeds received bytes in, and writes what is to be sent once per loop turn.

Code that queues something in the session calls `mark_dirty()`. All that is queued in a turn leaves in one write at its end:
answers of a server given while received data is handled leave right after that data (bounded_connection.py), all others by one
`call_soon`.

Outgoing memory is bounded in three steps: the transport holds at most `_WRITE_BUFFER_BYTES`, then pauses writing; what cannot
be framed yet (writing paused, or no window from the peer) stays in the session's queue; those who fill that queue wait for
`has_room` (streams) or are not started (unary calls, see bounded_connection.py).

Raises nothing into the event loop: a peer that violates HTTP/2 loses its connection, without effect on others.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from typing import Protocol, cast

from tercet.rpc import http2
from tercet.rpc.client_traffic import TrafficCount
from tercet.rpc.deadlines import Deadlines
from tercet.rpc.http2 import Event, HTTP2Error, Session

FLUSH_BYTES = 256 << 10
_PIECES_PER_FLUSH = 2  # a client that reads fast takes a large answer in many turns, so that none is long
_SENT_SHIFT = 12  # one unit of a turn's work for each 4 KiB that is sent
_SMALL_BYTES = 1 << 10
_HEAD_SHIFT = 5  # and for each 32 bytes that are not of bodies: the heads of 3 frames, 2 us each
_ACKNOWLEDGEMENT_BYTES = 64  # enough for the answers to three pings, too little for data
_WRITE_BUFFER_BYTES = 512 << 10

# Reads fill this buffer, and the session parses and copies it before the next read: one serves all connections of a thread's
# loop. Without it uvloop allocates a buffer of this size for every read under TLS, and a lone call costs 75 us of processor
# time instead of 38.
_READ_BYTES = 256 << 10
_thread = threading.local()

# The session parses this much at a time, and what it finds is handled before the next piece is parsed.
PARSE_BYTES = 16 << 10

# A stream may have this much queued before its sender has to wait, unless it sets another limit; it continues when half of that
# has left.
SEND_QUEUE_BYTES = 256 << 10


class Waiting(Protocol):
    """A stream whose sender waits for room."""

    stream_id: int
    queue_bytes_max: int

    def wake(self) -> None: ...


class Connection(asyncio.BufferedProtocol):
    """What connections of servers and of clients share."""

    __slots__ = (
        "_buffer",
        "_senders",
        "closing",
        "deadlines",
        "dirty",
        "flush_bytes",
        "last_heard",
        "loop",
        "max_message_bytes",
        "sent_data",
        "session",
        "traffic",
        "transport",
        "write_paused",
    )

    transport: asyncio.Transport

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        session: Session,
        traffic: TrafficCount,
        deadlines: Deadlines,
        max_message_bytes: int,
    ) -> None:
        self.loop = loop
        self.session = session
        self.traffic = traffic
        self.deadlines = deadlines
        self.max_message_bytes = max_message_bytes
        self.sent_data = False  # more than acknowledgements was sent since the peer's last ping
        self.dirty = False  # something waits to be flushed, and a flush is scheduled
        self.flush_bytes = FLUSH_BYTES  # framed at a time
        self.write_paused = False
        self.last_heard = 0.0
        self.closing = False
        self._buffer = _reading_buffer()
        self._senders: set[Waiting] = set()

    # Implemented by subclasses

    def handle(self, events: Iterable[Event]) -> None:
        """React to events that the session produced from received bytes, or while sending."""
        raise NotImplementedError

    def flushed(self) -> None:
        """Called after each flush: all that can be sent now was handed to the transport."""

    # asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES)
        self.last_heard = self.loop.time()
        self.flush()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(self._buffer[:nbytes])

    def data_received(self, data: bytes | memoryview) -> None:
        if self.closing:
            return
        self.traffic.bytes_in += len(data)
        self.last_heard = self.loop.time()
        for start in range(0, len(data), PARSE_BYTES):
            if self.take(data if len(data) <= PARSE_BYTES else data[start : start + PARSE_BYTES]) < 0:
                return
        # After the tasks that this has woken: their requests, and the answer to the ping that etcd sends with each response to
        # a lone call, leave in one write. Two writes cost two wakes of the server, and a tenth of a lone get.
        self.mark_dirty()

    def take(self, piece: bytes | memoryview) -> int:
        """Handle up to PARSE_BYTES of what was received. Returns the number of events; -1: the connection is lost."""
        try:
            self.session.receive_data(piece)
        except (HTTP2Error, ValueError):
            # Events from before the error are not handled: the connection is lost for all its streams alike.
            if not self.closing:  # by the events of an earlier piece, which ended the session
                self.abort()
            return -1
        events = self.session.events()
        self.handle(events)
        return len(events)

    def eof_received(self) -> bool:
        return False  # close: no gRPC client half-closes a connection and then still reads

    def pause_writing(self) -> None:
        self.write_paused = True

    def resume_writing(self) -> None:
        self.write_paused = False
        self.flush()

    # Sending

    def mark_dirty(self) -> None:
        """Something waits in the session: flush at the end of this turn."""
        if not self.dirty:
            self.dirty = True
            self.loop.call_soon(self.flush)

    def flush(self) -> int:
        """Hand the transport what the session can send, then wake senders that waited for room.

        Returns the work that it took, in units of intake.py.
        """
        if self.closing or self.transport.is_closing():
            return 0
        session = self.session
        size = self.flush_bytes
        pieces = sent = 0
        try:
            queued = session.queued_body_size()
            while not self.write_paused and pieces < _PIECES_PER_FLUSH:
                out = session.data_to_send(size)
                if not out:
                    break
                pieces += 1
                sent += len(out)
                if len(out) > _ACKNOWLEDGEMENT_BYTES:  # set for each piece of a large answer: grpc-go pings once per piece
                    self.sent_data = True
                self.transport.write(out)
                if len(out) < size:
                    break
            heads = sent if sent < _SMALL_BYTES else sent - queued + session.queued_body_size()
            events = session.events()
        except HTTP2Error:
            self.abort()
            return 0
        self.traffic.bytes_out += sent
        self.dirty = False
        if pieces == _PIECES_PER_FLUSH:
            self.mark_dirty()  # there may be more
        if events:
            self.handle(events)
        if self._senders:
            self._wake_senders()
        self.flushed()
        return (sent >> _SENT_SHIFT) + (max(0, heads) >> _HEAD_SHIFT)

    def has_room(self, stream_id: int, queue_bytes_max: int) -> bool:
        return self.session.queued_body_size(stream_id) < queue_bytes_max

    def wait_for_room(self, sender: Waiting) -> None:
        """Call `sender.wake()` once half of its queue has left."""
        self._senders.add(sender)

    def forget_sender(self, sender: Waiting) -> None:
        self._senders.discard(sender)

    def _wake_senders(self) -> None:
        queued = self.session.queued_body_size
        for sender in [sender for sender in self._senders if queued(sender.stream_id) <= sender.queue_bytes_max // 2]:
            self._senders.discard(sender)
            sender.wake()

    # Receiving

    def throttle(self, stream_id: int, shut: bool) -> None:
        """Grant a stream no more window, or grant it again; what the peer was already allowed to send is still accepted."""
        try:
            self.session.set_local_window_size(0 if shut else http2.STREAM_WINDOW_BYTES, stream_id=stream_id)
        except HTTP2Error:
            return  # the stream is closed
        self.mark_dirty()

    # Ending

    def reset(self, stream_id: int, error_code: int = http2.CANCEL) -> None:
        try:
            self.session.reset_stream(stream_id, error_code)
        except HTTP2Error:
            return  # the stream is closed already
        self.mark_dirty()

    def goaway(self, error_code: int, text: bytes) -> None:
        """Send GOAWAY with a reason, then close."""
        if self.closing:
            return
        try:
            self.session.send_goaway(error_code, debug_data=text)
        except HTTP2Error:
            self.close()  # the session has ended, and said why
            return
        self.flush()
        self.close()

    def close(self) -> None:
        """Close after the transport has sent what it holds."""
        if not self.closing:
            self.closing = True
            self.transport.close()

    def abort(self) -> None:
        if not self.closing:
            self.closing = True
            self.transport.abort()


def _reading_buffer() -> memoryview:
    # A view, not the bytearray itself: asyncio's TLS fills the rest of a buffer through `buffer[offset:]`, which for a
    # bytearray is a copy.
    buffer: memoryview | None = getattr(_thread, "buffer", None)
    if buffer is None:
        buffer = _thread.buffer = memoryview(bytearray(_READ_BYTES))
    return buffer
