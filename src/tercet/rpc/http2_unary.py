"""A unary call over HTTP/2: one message in, one message out, no coroutine, no task.

This is the hot path of the whole program: a call computes nothing that its handler may not need. server_connection.py takes
requests of one HEADERS and one DATA frame apart itself; `feed` is for all others.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Final

from tercet.errors import Code, StatusError
from tercet.intake import BYTES_SHIFT
from tercet.rpc.bounded_connection import BoundedConnection
from tercet.rpc.call import UNREAD, Peer, UnaryCall
from tercet.rpc.headers import OK_TRAILERS, RESPONSE
from tercet.rpc.http2 import Headers, HTTP2Error
from tercet.rpc.method import Method
from tercet.rpc.wire import Compressed, Decompress, MessageReader, frame, prefix

# Smaller replies cannot fill memory within one loop turn; they skip the check of the reply queue.
_SMALL_REPLY_BYTES: Final = 4096

# Larger messages are not copied.
_LARGE_BYTES: Final = 64 << 10

QUEUE_IS_FULL: Final = "too many replies wait for clients to read them"

_NO_MESSAGE = StatusError(Code.UNKNOWN, "EOF")
_CUT_SHORT = StatusError(Code.UNKNOWN, "unexpected EOF")
TOO_MANY_INCOMPLETE = StatusError(Code.RESOURCE_EXHAUSTED, "too many incomplete requests on one connection")


class Http2UnaryCall(UnaryCall):
    """request: the message of a complete request, for the log; b"" before."""

    __slots__ = ("_held_bytes", "_message", "connection", "decompress", "reader", "request", "request_ended", "stream_id")

    def __init__(self, connection: BoundedConnection, stream_id: int, method: Method, headers: Headers) -> None:
        # Sets the fields of Call itself: one function call less for every request.
        self.method = method
        self.headers = headers
        self.deadline: float | None = None
        self.on_cancel: Callable[[], object] | None = None
        self.finished = False
        self.token: bytes | None = UNREAD
        self.connection = connection
        self.stream_id = stream_id
        self.request_ended = False
        self.request = b""
        self.reader: MessageReader | None = None
        self.decompress: Decompress | None = None

    @property
    def peer(self) -> Peer:
        return self.connection.peer

    def is_backlogged(self) -> bool:
        return self.connection.is_backlogged()

    def reply(self, message: bytes) -> None:
        if self.finished:
            return
        if len(message) > _LARGE_BYTES:
            self.reply_parts([message])
            return
        connection = self.connection
        if len(message) > _SMALL_REPLY_BYTES and not connection.has_room_for_replies():
            self.fail(Code.RESOURCE_EXHAUSTED, QUEUE_IS_FULL)
            return
        # `finish`, inlined. The request is complete: only then was the handler called.
        self.finished = True
        connection.unread_replies += 1
        method = self.method
        method.handled[0] += 1
        if self.deadline is not None:
            connection.deadlines.discard(self)
        if method.duration_counts is not None:
            method.observe(monotonic() - self._began)
        session = connection.session
        stream_id = self.stream_id
        try:
            session.send_response(stream_id, RESPONSE)
            session.send_data(stream_id, frame(message))
            session.send_trailers(stream_id, OK_TRAILERS)
        except HTTP2Error:
            return  # the client has reset the stream, or the connection is closing
        connection.sent_data = True
        if not connection.dirty:
            connection.mark_dirty()

    def reply_parts(self, parts: list[bytes]) -> None:
        if self.finished:
            return
        size = sum(map(len, parts))
        if size <= _LARGE_BYTES:
            self.reply(b"".join(parts))
            return
        connection = self.connection
        if not connection.has_room_for_replies():
            self.fail(Code.RESOURCE_EXHAUSTED, QUEUE_IS_FULL)
            return
        self.finish(0)
        session, stream_id = connection.session, self.stream_id
        try:
            session.send_response(stream_id, RESPONSE)
            small, small_bytes = [prefix(size)], 0
            for part in parts:  # the session keeps large parts by reference; small ones are joined, up to that size
                if len(part) <= _LARGE_BYTES:
                    small.append(part)
                    small_bytes += len(part)
                if small and (len(part) > _LARGE_BYTES or small_bytes > _LARGE_BYTES):
                    session.send_data(stream_id, b"".join(small))
                    small, small_bytes = [], 0
                if len(part) > _LARGE_BYTES:
                    session.send_data(stream_id, part)
            if small:
                session.send_data(stream_id, b"".join(small))
            session.send_trailers(stream_id, OK_TRAILERS)
        except HTTP2Error:
            return  # the client has reset the stream, or the connection is closing
        connection.sent_data = True
        connection.mark_dirty()

    def feed(self, data: bytes, ended: bool) -> None:
        """Take bytes of a request that is split over frames, compressed, empty, too large or malformed."""
        if self.finished:
            return
        try:
            message = self._collect(data, ended)
        except StatusError as error:
            self.fail_with(error)
            return
        if message is None:
            return
        self.request_ended = True
        if isinstance(message, Compressed):
            self.connection.intake.run(partial(self._expand, message))
        else:
            self._release()
            self.request = message
            self.connection.dispatch(self, message)

    def _expand(self, packed: Compressed) -> None:
        """Decompress the request and call the handler, in a turn that allows it."""
        if self.finished:
            return
        self._release()
        try:
            message = packed.expand()
        except StatusError as error:
            self.fail(error.code, error.message)
            return
        connection = self.connection
        connection.intake.spend(len(message) >> BYTES_SHIFT)
        self.request = message
        connection.dispatch(self, message)

    def _collect(self, data: bytes, ended: bool) -> bytes | Compressed | None:
        reader = self.reader
        if reader is None:
            reader = self.reader = MessageReader(self.connection.max_message_bytes, self.decompress)
            self._message: bytes | Compressed | None = None
            self._held_bytes = 0
        if self._message is None:
            self._hold(len(data))
            self._message = reader.feed_first(data)
        if not ended:
            return None
        if self._message is None:
            raise _CUT_SHORT if reader.is_cut_short else _NO_MESSAGE
        return self._message

    def _release(self) -> None:
        self._hold(-self._held_bytes)

    def _hold(self, size: int) -> None:
        """Account for the memory of the connection's incomplete requests. Raises StatusError above the limit."""
        self._held_bytes += size
        if not self.connection.hold(size):
            raise TOO_MANY_INCOMPLETE

    def finish(self, code: int) -> None:
        if self.reader is not None:
            self._release()
        super().finish(code)
        self.connection.unread_replies += 1
        if self.deadline is not None:
            self.connection.deadlines.discard(self)
        if not self.request_ended:
            self.connection.reset_when_sent(self.stream_id)

    def stop_handler(self) -> None:
        """In a turn that allows it: a client may cancel thousands of calls at once, and each may have a task that resumes."""
        if self.on_cancel is not None:
            self.connection.intake.run(self.cancel_handler)

    def send_status(self, code: int, text: str) -> None:
        self.connection.send_status(self.stream_id, code, text, headers_sent=False)
