"""A unary call: one message in, one message out, no coroutine, no task.

    handler(call, message)                          when the request is complete
    call.reply(bytes)   or   call.fail(code, text)  then or later, from anywhere on the loop

This is the hot path of the whole program: nothing is computed for a call that its handler may not need. A request that
arrives as one HEADERS and one DATA frame is taken apart in server_connection.py and comes here only for its reply; `feed`
is for all others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from tercet.errors import Code, StatusError
from tercet.rpc.headers import OK_TRAILERS, RESPONSE
from tercet.rpc.http2 import Headers, HTTP2Error
from tercet.rpc.methods import Method
from tercet.rpc.server_call import ServerCall
from tercet.rpc.wire import Decompress, MessageReader, frame

if TYPE_CHECKING:
    from tercet.rpc.server_connection import ServerConnection

# Replies below this are too small to fill memory within one loop turn, and are spared the question whether they may.
_SMALL_REPLY_BYTES: Final = 4096

_INCOMPLETE_BYTES_MAX: Final = 64 << 20

_NO_MESSAGE = StatusError(Code.INTERNAL, "cardinality violation: received no request message from non-client-streaming RPC")
_TWO_MESSAGES = StatusError(
    Code.INTERNAL, "cardinality violation: received multiple request messages for non-client-streaming RPC"
)
_CUT_SHORT = StatusError(Code.INTERNAL, "unexpected EOF")
_TOO_MANY_INCOMPLETE = StatusError(Code.RESOURCE_EXHAUSTED, "too many incomplete requests on one connection")


class UnaryCall(ServerCall):
    __slots__ = ("_held_bytes", "_message", "decompress", "reader")

    def __init__(self, connection: ServerConnection, stream_id: int, method: Method, headers: Headers) -> None:
        # Sets the fields of ServerCall itself: a call less for every request.
        self.connection = connection
        self.stream_id = stream_id
        self.method = method
        self.headers = headers
        self.deadline: float | None = None
        self.on_cancel: Callable[[], object] | None = None
        self.finished = False
        self.request_ended = False
        self._headers_sent = False
        self.reader: MessageReader | None = None
        self.decompress: Decompress | None = None

    def reply(self, message: bytes) -> None:
        """Answer with one encoded message, and OK."""
        if self.finished:
            return
        connection = self.connection
        if len(message) > _SMALL_REPLY_BYTES and not connection.has_room_for_replies():
            self.fail(Code.RESOURCE_EXHAUSTED, "too many replies wait for this client to read them")
            return
        # What `finish` does, without the calls: the request is complete here, or nobody would answer it.
        self.finished = True
        method = self.method
        method.handled[0] += 1
        if self.deadline is not None:
            connection.server.deadlines.discard(self)
        if method.duration_counts is not None:
            method.observe(connection.loop.time() - self._began)
        session = connection.session
        stream_id = self.stream_id
        try:
            session.send_response(stream_id, RESPONSE)
            session.send_data(stream_id, frame(message))
            session.send_trailers(stream_id, OK_TRAILERS)
        except HTTP2Error:
            return  # the client has reset the stream, or the connection is going down
        connection.sent_data = True
        if not connection.touched:
            connection.mark_dirty()

    def feed(self, data: bytes, ended: bool) -> None:
        """Any request but the simple one: in several frames, compressed, empty, too large, malformed."""
        if self.finished:
            return
        try:
            message = self._collect(data, ended)
        except StatusError as error:
            self.fail(error.code, error.message)
            return
        if message is not None:
            self.request_ended = True
            self.connection.dispatch(self, message)

    def _collect(self, data: bytes, ended: bool) -> bytes | None:
        reader = self.reader
        if reader is None:
            reader = self.reader = MessageReader(self.connection.server.options.max_message_bytes, self.decompress)
            self._message: bytes | None = None
            self._held_bytes = 0
        self._hold(len(data))
        for message in reader.feed(data):
            if self._message is not None:
                raise _TWO_MESSAGES
            self._message = message
        if not ended:
            return None
        if reader.buffered_bytes:
            raise _CUT_SHORT
        if self._message is None:
            raise _NO_MESSAGE
        self._hold(-self._held_bytes)
        return self._message

    def finish(self, code: int) -> None:
        if self.reader is not None:
            self._hold(-self._held_bytes)
        super().finish(code)

    def _hold(self, size: int) -> None:
        """Account for what incomplete requests keep in memory, over all calls of the connection."""
        connection = self.connection
        self._held_bytes += size
        connection.incomplete_bytes += size
        if size > 0 and connection.incomplete_bytes > _INCOMPLETE_BYTES_MAX:
            raise _TOO_MANY_INCOMPLETE
