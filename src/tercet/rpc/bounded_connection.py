"""A server's connection whose memory is bounded, also for a client that sends requests and does not read the replies.

While more than `_REPLY_QUEUE_BYTES` of replies wait, requests are not dispatched (`_deferred`); when too many of those wait,
they are refused; a transport that is stuck is not read from at all. A reply that would take the queue over
`_REPLY_QUEUE_BYTES_MAX` is replaced by an error. All connections together are bounded by client_memory.py.

What it takes of a turn of the loop is bounded too (intake.py): the rest of what was received waits (`_unparsed`).

A stream that was answered before its request was complete is reset once the answer has been sent (half_open.py), or the client
could go on sending for as long as it likes.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from typing import Final, cast

from tercet.client_memory import COUNTED_BYTES, ClientMemory
from tercet.errors import Code
from tercet.intake import BYTES_SHIFT, Intake
from tercet.rpc import headers as hdr
from tercet.rpc.call import Peer, UnaryCall
from tercet.rpc.client_traffic import TrafficCount
from tercet.rpc.connection import FLUSH_BYTES, PARSE_BYTES, Connection
from tercet.rpc.deadlines import Deadlines
from tercet.rpc.frame_walk import FrameWalk
from tercet.rpc.half_open import HalfOpenStreams
from tercet.rpc.http2 import ENHANCE_YOUR_CALM, HTTP2Error, Session

_REPLY_QUEUE_BYTES: Final = 8 << 20
_REPLY_QUEUE_BYTES_MAX: Final = 256 << 20
_STREAM_QUEUE_BYTES: Final = 64 << 10  # of a stream, while clients make the server hold much
_REPLY_SHIFT: Final = 9  # what a reply counts as, beside its bytes: the engine looks at 100,000 that wait in 80 ms
_DEFERRED_BYTES_MAX: Final = 16 << 20
_DEFERRED_OVERHEAD_BYTES: Final = 1 << 10
_DEFERRED_PER_TURN: Final = 64
_WOKEN_PER_FLUSH: Final = 32  # replies, each of which may add 64 KiB
_INCOMPLETE_BYTES_MAX: Final = 64 << 20
_END_WORK: Final = 4  # of a turn: to free a connection takes 25 us
# The engine adjusts the window of each open stream for each SETTINGS frame, 15 bytes: 1 ms for 100,000 streams. What it parses
# of them at a time gets smaller with their number, and each such frame counts.
_STREAM_BYTES: Final = 6 << 20
# A byte of HPACK can stand for a header of 4 KiB, which takes 10 us: what is parsed at a time can become 8 MiB of headers.
_OTHERS_BYTES: Final = 2 << 10
_OTHERS_BYTES_MIN: Final = 64
# Each stream may get a frame of one byte when the client opens its window, 2 us. For many streams little is framed at a time.
_MANY_STREAMS: Final = 2000
_FLUSH_BYTES_OF_MANY: Final = 32 << 10
_STREAMS_SHIFT: Final = 8  # one unit of a turn's work for each 256 streams, 5 to 10 us


class BoundedConnection(Connection):
    """What the calls of a server see of their connection."""

    __slots__ = (
        "_deferred",
        "_deferred_bytes",
        "_frames",
        "_half_open",
        "_is_counted",
        "_peer",
        "_reading_paused",
        "_unparsed",
        "_waiting_replies",
        "backlogged",
        "incomplete_bytes",
        "intake",
        "memory",
        "unread_replies",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        session: Session,
        memory: ClientMemory,
        deadlines: Deadlines,
        max_message_bytes: int,
        intake: Intake,
    ) -> None:
        super().__init__(loop, session, TrafficCount(), deadlines, max_message_bytes)
        self.intake = intake
        self.memory = memory
        self.backlogged = False  # replies wait for the client to read them: defer requests
        self.incomplete_bytes = 0  # of requests that have not arrived in full
        self.unread_replies = 0  # of unary calls, as long as their streams are open
        self._peer: Peer | None = None
        self._deferred: deque[tuple[UnaryCall, bytes]] = deque()
        self._deferred_bytes = 0
        self._is_counted = False  # in the memory of the server's clients
        self._reading_paused = False  # the client reads nothing
        self._unparsed = b""  # arrived in a turn whose work was used up; nothing more is read before it is parsed
        self._frames = FrameWalk()
        self._half_open = HalfOpenStreams()
        self._waiting_replies: deque[asyncio.Future[None]] = deque()

    @property
    def peer(self) -> Peer:
        if self._peer is None:
            self._peer = Peer(_address(self.transport.get_extra_info("peername")), _common_name(self.transport))
        return self._peer

    def drain(self) -> None:
        """Ask the client to go elsewhere, finish the open calls, close."""
        raise NotImplementedError

    def open_calls(self) -> int:
        raise NotImplementedError

    # Receiving within the limits of a turn

    def data_received(self, data: bytes | memoryview) -> None:
        if self.closing:
            return
        self.traffic.bytes_in += len(data)
        self.last_heard = self.loop.time()
        is_admitted = self.intake.admits()
        rest = self._take_some(data) if is_admitted else data
        if rest and not self.closing and not self.transport.is_closing():
            self._unparsed = bytes(rest)  # `data` is overwritten by the next read
            self.transport.pause_reading()
            self.intake.wait(self, has_begun=is_admitted)

    def take_piece(self) -> bool:
        rest = self._unparsed
        if not self.closing:
            piece = rest[:PARSE_BYTES]
            rest = rest[len(piece) - len(self._take_some(piece)) :]
        if rest and not self.closing:
            self._unparsed = rest
            return True
        self._unparsed = b""
        if not self._reading_paused and not self.transport.is_closing():
            self.transport.resume_reading()
        return False

    def _take_some(self, data: bytes | memoryview) -> bytes | memoryview:
        """Take what this turn allows, one piece at least. Returns the rest."""
        intake = self.intake
        self.dirty = True  # answers given below leave with the flush below
        start = 0
        while True:
            end = self._frames.next_piece(data, start, PARSE_BYTES, self._adapt_to_streams())
            events = self.take(data if end - start == len(data) else data[start:end])
            if events < 0:
                return b""
            intake.spend(max(1, events) + ((end - start) >> BYTES_SHIFT))
            start = end
            if start >= len(data) or intake.left <= 0:
                break
        intake.spend(self.flush())
        return data[start:]

    def _adapt_to_streams(self) -> int:
        """Take and send less at a time where there are many streams.

        Returns how much of frames without content may be parsed at a time.
        """
        streams = self.open_calls() + len(self._half_open)
        self.flush_bytes = FLUSH_BYTES if streams <= _MANY_STREAMS else _FLUSH_BYTES_OF_MANY
        return _OTHERS_BYTES if streams * _OTHERS_BYTES <= _STREAM_BYTES else max(_OTHERS_BYTES_MIN, _STREAM_BYTES // streams)

    def spend_settings(self) -> None:
        """Account for what the engine does with the client's settings."""
        self.intake.spend((self.open_calls() + len(self._half_open)) >> _STREAMS_SHIFT)

    def eof_received(self) -> bool:
        """End the connection, in a turn that allows it: thousands of clients may leave at once. True: not yet."""
        if self.intake.admits():
            self.intake.spend(_END_WORK)
            return super().eof_received()
        self.intake.run(self.transport.close, _END_WORK)
        return True

    def hold(self, size: int) -> bool:
        """Account for bytes of requests that have not arrived in full. False: they are above the limit."""
        self.incomplete_bytes += size
        if self.incomplete_bytes >= COUNTED_BYTES or self._is_counted:
            self._count(self.session.queued_body_size())
        return size <= 0 or (self.incomplete_bytes <= _INCOMPLETE_BYTES_MAX and not self.memory.is_over)

    # Dispatching complete unary requests

    def dispatch(self, call: UnaryCall, message: bytes) -> None:
        """Call the handler, now or when there is room for its reply."""
        if self.backlogged:
            self.defer(call, message)
            return
        try:
            call.method.call(call, message)
        except Exception as error:
            call.fail_with(error)

    def defer(self, call: UnaryCall, message: bytes) -> None:
        if self._deferred_bytes > _DEFERRED_BYTES_MAX:
            call.fail(Code.RESOURCE_EXHAUSTED, "too many requests wait for this client to read its replies")
            return
        self._deferred.append((call, message))
        self._deferred_bytes += len(message) + _DEFERRED_OVERHEAD_BYTES

    def drop_deferred(self) -> None:
        """The connection is lost, and its replies with it."""
        self._deferred.clear()
        if self._is_counted:
            self._is_counted = False
            self.memory.forget(self)

    def is_backlogged(self) -> bool:
        """Do many replies wait for the client to read them, those of this turn included?"""
        return self.backlogged or self.session.queued_body_size() > _REPLY_QUEUE_BYTES

    async def wait_until_read(self) -> None:
        """Return when few replies wait for the client to read them: for what can wait in pieces of up to 64 KiB."""
        while self.is_backlogged():
            future = self.loop.create_future()
            self._waiting_replies.append(future)
            await future

    def has_room_for_replies(self) -> bool:
        """Checked before a large reply is queued: a flush comes too late to notice what one turn has queued."""
        queued = self.session.queued_body_size()
        is_large = queued > _REPLY_QUEUE_BYTES
        if is_large:
            self.backlogged = True
        self._count(queued)
        memory = self.memory
        if memory.is_full:
            memory.make_room()
        if self.closing:  # to make room: its calls have ended
            return False
        return queued <= _REPLY_QUEUE_BYTES_MAX and not memory.is_over and not (is_large and memory.is_full)

    def has_room(self, stream_id: int, queue_bytes_max: int) -> bool:
        if self.memory.is_full:
            queue_bytes_max = min(queue_bytes_max, _STREAM_QUEUE_BYTES)
        return super().has_room(stream_id, queue_bytes_max)

    def _count(self, queued: int) -> None:
        """Account for this connection's replies and requests in the count of the server."""
        held = queued + self.incomplete_bytes
        if (held >= COUNTED_BYTES or self._is_counted) and not self.closing:
            self._is_counted = held >= COUNTED_BYTES
            self.memory.count(self, held)

    def close_stuck(self) -> str:
        """See `client_memory.Holder`."""
        if self.write_paused:
            self.abort()
        else:
            self.goaway(ENHANCE_YOUR_CALM, b"this client does not read its replies or complete its requests")
        return self.peer.address

    def _dispatch_deferred(self) -> None:
        """Dispatch some of the deferred requests; the flush of their replies continues."""
        self.backlogged = False
        for _ in range(min(_DEFERRED_PER_TURN, len(self._deferred))):
            if self.backlogged:
                break  # by a reply just given
            call, message = self._deferred.popleft()
            self._deferred_bytes -= len(message) + _DEFERRED_OVERHEAD_BYTES
            if not call.finished:
                self.dispatch(call, message)
        if self._deferred:
            self.backlogged = True  # newer requests must not overtake the deferred ones
            self.mark_dirty()

    def flushed(self) -> None:
        queued = self.session.queued_body_size()
        self._count(queued)
        if self.closing:
            return
        queued += self.unread_replies << _REPLY_SHIFT
        if queued > _REPLY_QUEUE_BYTES:
            self.backlogged = True
            if self.write_paused and not self._reading_paused:
                # The client reads nothing at all: stop reading too, so that TCP slows it down. (While only HTTP/2 windows are
                # shut we must read, to receive WINDOW_UPDATE.)
                self._reading_paused = True
                self.transport.pause_reading()
        elif self.backlogged and queued <= _REPLY_QUEUE_BYTES // 2:
            self._dispatch_deferred()
        if self._waiting_replies and queued <= _REPLY_QUEUE_BYTES // 2:
            _wake_some(self._waiting_replies)
        if self._half_open:
            self._half_open.flushed(self)

    def resume_writing(self) -> None:
        if self._reading_paused and not self.transport.is_closing():
            self._reading_paused = False
            if not self._unparsed:
                self.transport.resume_reading()
        self.write_paused = False
        self.mark_dirty()  # not at once: thousands of clients may read in one turn

    # Ending streams

    def send_status(self, stream_id: int, code: int, text: str, *, headers_sent: bool) -> None:
        """End a stream with a status; without `headers_sent` the response is this one header block."""
        trailers = hdr.OK_TRAILERS if code == 0 else hdr.status_trailers(code, text)
        try:
            if headers_sent:
                self.session.send_trailers(stream_id, trailers)
            else:
                self.session.send_response(stream_id, hdr.RESPONSE + trailers, end_stream=True)
        except HTTP2Error:
            return  # the stream is closed; its StreamClosed event is to come
        self.sent_data = True
        self.mark_dirty()

    def reset_when_sent(self, stream_id: int) -> None:
        """The answer is complete, the request is not: once the answer has been sent, ask the client to stop (RFC 9113 §8.1)."""
        self._half_open.add(stream_id)


def _wake_some(waiting: deque[asyncio.Future[None]]) -> None:
    """Each sends something, and the flush after it wakes more."""
    woken = 0
    while waiting and woken < _WOKEN_PER_FLUSH:
        future = waiting.popleft()
        if not future.done():
            future.set_result(None)
            woken += 1


def _address(peername: object) -> str:
    """host:port, or the path of a Unix socket."""
    if isinstance(peername, tuple):
        host, port = peername[0], peername[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return str(peername or "@")


def _common_name(transport: asyncio.BaseTransport) -> str | None:
    """Of the client certificate: the last of several, as in Go; "" without any. None without a verified certificate."""
    tls = transport.get_extra_info("ssl_object")
    if not isinstance(tls, ssl.SSLObject | ssl.SSLSocket):
        return None
    certificate = tls.getpeercert()
    if not certificate:  # what the TLS layer has not verified, it shows as empty
        return None
    subject = cast(tuple[tuple[tuple[str, str], ...], ...], certificate.get("subject", ()))
    names = [value for attributes in subject for name, value in attributes if name == "commonName"]
    return names[-1] if names else ""
