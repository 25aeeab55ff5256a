"""Between one transport and one HTTP/2 session: what the peer says goes in, what we say leaves once per loop turn.

Whoever gives the session something to send calls `mark_dirty()`. All that was said in a turn leaves in one write at its end:
answers that were given while data came in leave when that data has been worked off, all others by one `call_soon`.

Memory is bounded on the way out in three steps: the transport holds at most `_WRITE_BUFFER_BYTES` and then pauses us; what the
session cannot frame yet (transport paused, or the peer grants no window) stays in its queue; and those who feed that queue
wait for `has_room` (streams) or are not started at all (unary calls, see server_connection.py).

Never raises into the event loop: a peer that breaks HTTP/2 loses its connection, and nobody else's.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, cast

from tercet.rpc import http2
from tercet.rpc.deadlines import Deadlines
from tercet.rpc.http2 import Event, HTTP2Error, Session

_FLUSH_BYTES = 256 << 10
_ACKNOWLEDGEMENT_BYTES = 64  # what three pings in one go are answered with, and no data
_WRITE_BUFFER_BYTES = 512 << 10

# What a read fills, and the session has understood and copied before the next: one for all connections of a thread's loop.
# Without it uvloop makes a new buffer of this size for every read under TLS, and a lone call costs 75 us of CPU instead of
# 38.
_READ_BYTES = 256 << 10
_thread = threading.local()

# A stream may have this much queued before its sender has to wait, and goes on when half of it has left.
SEND_QUEUE_BYTES = 256 << 10


@dataclass(slots=True)
class TrafficCount:
    """Bytes to and from the transport, below TLS; all connections of a server share one count."""

    bytes_in: int = 0
    bytes_out: int = 0


class Waiting(Protocol):
    """A stream whose sender waits for room."""

    stream_id: int

    def wake(self) -> None: ...


class Connection(asyncio.BufferedProtocol):
    """The part of a connection that servers and clients share."""

    __slots__ = (
        "_buffer",
        "_senders",
        "closing",
        "deadlines",
        "dirty",
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
        self.dirty = False  # something waits to be flushed, and a flush is on its way
        self.write_paused = False
        self.last_heard = 0.0
        self.closing = False
        self._buffer = _reading_buffer()
        self._senders: set[Waiting] = set()

    # What subclasses say.

    def handle(self, events: Iterable[Event]) -> None:
        """React to what the session understood of the peer's bytes, or of our own having left."""
        raise NotImplementedError

    def flushed(self) -> None:
        """All that can leave now has left."""

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
        session = self.session
        self.dirty = True  # answers given below leave with the flush below
        try:
            session.receive_data(data)
        except (HTTP2Error, ValueError):
            # What the session understood before it gave up is not acted on: the connection is lost to all its streams alike.
            self.abort()
            return
        self.handle(session.events())
        self.flush()

    def eof_received(self) -> bool:
        return False  # the peer will not read answers to come either: no client of gRPC half-closes a connection

    def pause_writing(self) -> None:
        self.write_paused = True

    def resume_writing(self) -> None:
        self.write_paused = False
        self.flush()

    # Sending

    def mark_dirty(self) -> None:
        """Something waits in the session: let it leave at the end of this turn."""
        if not self.dirty:
            self.dirty = True
            self.loop.call_soon(self.flush)

    def flush(self) -> None:
        """Hand the transport what the session can send, and tell those who waited for it."""
        if self.closing or self.transport.is_closing():
            return
        session = self.session
        try:
            while not self.write_paused:
                out = session.data_to_send(_FLUSH_BYTES)
                if not out:
                    break
                self.traffic.bytes_out += len(out)
                if len(out) > _ACKNOWLEDGEMENT_BYTES:  # a large answer is many pieces, and grpc-go pings once for each
                    self.sent_data = True
                self.transport.write(out)
                if len(out) < _FLUSH_BYTES:
                    break
            events = session.events()
        except HTTP2Error:
            self.abort()
            return
        self.dirty = False
        if events:
            self.handle(events)
        if self._senders:
            self._wake_senders()
        self.flushed()

    def has_room(self, stream_id: int) -> bool:
        return self.session.queued_body_size(stream_id) < SEND_QUEUE_BYTES

    def wait_for_room(self, sender: Waiting) -> None:
        """Call `sender.wake()` once half of its queue has left."""
        self._senders.add(sender)

    def forget_sender(self, sender: Waiting) -> None:
        self._senders.discard(sender)

    def _wake_senders(self) -> None:
        queued = self.session.queued_body_size
        for sender in [sender for sender in self._senders if queued(sender.stream_id) <= SEND_QUEUE_BYTES // 2]:
            self._senders.discard(sender)
            sender.wake()

    # Receiving

    def throttle(self, stream_id: int, shut: bool) -> None:
        """Grant a stream no more window until its reader has caught up; what the peer may send already is still accepted."""
        try:
            self.session.set_local_window_size(0 if shut else http2.STREAM_WINDOW_BYTES, stream_id=stream_id)
        except HTTP2Error:
            return  # the stream is gone, and with it the need
        self.mark_dirty()

    # Ending

    def reset(self, stream_id: int, error_code: int = http2.CANCEL) -> None:
        try:
            self.session.reset_stream(stream_id, error_code)
        except HTTP2Error:
            return  # gone already
        self.mark_dirty()

    def goaway(self, error_code: int, text: bytes) -> None:
        """Tell the peer why, and close once that has been written."""
        if self.closing:
            return
        try:
            self.session.send_goaway(error_code, debug_data=text)
        except HTTP2Error:
            self.abort()
            return
        self.flush()
        self.close()

    def close(self) -> None:
        """Close after what was handed to the transport."""
        if not self.closing:
            self.closing = True
            self.transport.close()

    def abort(self) -> None:
        if not self.closing:
            self.closing = True
            self.transport.abort()


def _reading_buffer() -> memoryview:
    # A view, not the bytearray itself: asyncio's TLS fills what is left of a buffer by `buffer[offset:]`, which of a
    # bytearray is a copy.
    buffer: memoryview | None = getattr(_thread, "buffer", None)
    if buffer is None:
        buffer = _thread.buffer = memoryview(bytearray(_READ_BYTES))
    return buffer
