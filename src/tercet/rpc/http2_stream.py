"""A streaming call over HTTP/2.

Both directions are bounded: requests that the handler has not taken close the stream's window, answers that the client has
not read make `send` wait. What has arrived of an incomplete message counts for the connection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from tercet.errors import Code, StatusError
from tercet.rpc.bounded_connection import BoundedConnection
from tercet.rpc.call import Peer, ServerStream, StreamOver
from tercet.rpc.flow import Inbox, Outlet
from tercet.rpc.headers import RESPONSE
from tercet.rpc.http2 import Headers, HTTP2Error
from tercet.rpc.http2_unary import QUEUE_IS_FULL, TOO_MANY_INCOMPLETE
from tercet.rpc.method import Method
from tercet.rpc.wire import Compressed, Decompress, MessageReader, frame, prefix

_MESSAGES_SHIFT: Final = 3  # one unit of a turn's work for each 8 messages: 16 KiB of a DATA frame can hold 3,276


class Http2Stream(ServerStream):
    __slots__ = (
        "_decompress",
        "_headers_sent",
        "_held_bytes",
        "_inbox",
        "_outlet",
        "_reader",
        "connection",
        "request_ended",
        "stream_id",
    )

    def __init__(
        self,
        connection: BoundedConnection,
        stream_id: int,
        method: Method,
        headers: Headers,
        decompress: Decompress | None,
    ) -> None:
        super().__init__(method, headers)
        self.connection = connection
        self.stream_id = stream_id
        self.request_ended = False
        self._headers_sent = False
        self._held_bytes = 0  # as counted for the connection
        self._decompress = decompress
        self._reader = MessageReader(connection.max_message_bytes, decompress)
        self._inbox = Inbox(partial(connection.throttle, stream_id))
        self._outlet = Outlet(connection, stream_id)

    # For handlers

    @property
    def peer(self) -> Peer:
        return self.connection.peer

    async def receive(self) -> bytes | None:
        message = await self._inbox.take()
        if message is None and self.finished:
            raise StreamOver
        return message

    def handle_at_once(self, handle: Callable[[bytes], bool]) -> None:
        self._inbox.at_once = handle

    @property
    def has_room(self) -> bool:
        return self._outlet.has_room

    def send_headers(self) -> None:
        if not self._headers_sent and not self.finished:
            self._headers_sent = True
            try:
                self.connection.session.send_response(self.stream_id, RESPONSE)
            except HTTP2Error:
                return  # the stream is closed; its StreamClosed event is to come
            self.connection.mark_dirty()

    def send_now(self, message: bytes) -> bool:
        return self._queue(frame(message), (), 1)

    def allow_queue(self, bytes_max: int) -> None:
        self._outlet.queue_bytes_max = bytes_max

    def send_all(self, messages: list[bytes]) -> bool:
        return self._queue(b"".join([frame(message) for message in messages]), (), len(messages))

    @property
    def shares_parts(self) -> bool:
        return True

    def send_parts(self, head: bytes, body: list[bytes]) -> bool:
        return self._queue(prefix(len(head) + sum(map(len, body))) + head, body, 1)

    def _queue(self, data: bytes, more: Sequence[bytes], count: int) -> bool:
        """Queue `count` messages in pieces, which the session keeps by reference."""
        if self.finished:
            return False
        if not self._headers_sent:
            self.send_headers()
        connection = self.connection
        try:
            connection.session.send_data(self.stream_id, data)
            for piece in more:
                connection.session.send_data(self.stream_id, piece)
        except HTTP2Error:
            return False
        self.method.sent += count
        connection.sent_data = True
        if not connection.dirty:
            connection.mark_dirty()
        return self._outlet.has_room

    async def drained(self) -> None:
        await self._outlet.wait_for_room()
        if self.finished:
            raise StreamOver

    def is_backlogged(self) -> bool:
        return self.connection.is_backlogged()

    async def wait_until_read(self) -> None:
        await self.connection.wait_until_read()
        if self.finished:
            raise StreamOver

    async def send_large(self, message: bytes) -> None:
        if not self.connection.has_room_for_replies():
            raise StatusError(Code.RESOURCE_EXHAUSTED, QUEUE_IS_FULL)
        has_room = self.send_now(message)
        self.connection.has_room_for_replies()  # counts it
        if not has_room:
            await self.drained()

    # For the connection

    def feed(self, data: bytes, ended: bool) -> None:
        if self.finished:
            return
        try:
            self._take(data)
            if not self._hold(self._reader.buffered_bytes):
                raise TOO_MANY_INCOMPLETE
            if ended and self._reader.is_cut_short:
                raise StatusError(Code.INTERNAL, "unexpected EOF")
        except StatusError as error:
            self.request_ended = ended
            self.fail_with(error)
            self.cancel_handler()
            return
        self.request_ended = ended
        if ended:
            self._inbox.end()

    def _take(self, data: bytes) -> None:
        """Queue the messages that `data` completes. Raises StatusError for an invalid frame."""
        if self._decompress is None:
            messages = self._reader.feed(data)
            self.method.received += len(messages)
            self.connection.intake.spend(len(messages) >> _MESSAGES_SHIFT)
            self._inbox.put(messages)
            return
        compressed = self._reader.feed_compressed(data)
        self.connection.intake.spend(len(compressed) >> _MESSAGES_SHIFT)
        for message in compressed:
            self.method.received += 1
            if isinstance(message, Compressed):
                self._inbox.put_compressed(message)
            else:
                self._inbox.put([message])

    def _hold(self, size: int) -> bool:
        """Account for what has arrived of an incomplete message."""
        change, self._held_bytes = size - self._held_bytes, size
        return self.connection.hold(change)

    def finish(self, code: int) -> None:
        self._hold(0)
        super().finish(code)
        if self.deadline is not None:
            self.connection.deadlines.discard(self)
        if not self.request_ended:
            self.connection.reset_when_sent(self.stream_id)
        self._inbox.drop()
        self._outlet.close()

    def stop_handler(self) -> None:
        """In a turn that allows it, as for unary calls."""
        if self._task is not None or self.on_cancel is not None:
            self.connection.intake.run(self.cancel_handler)

    def send_status(self, code: int, text: str) -> None:
        self.connection.send_status(self.stream_id, code, text, headers_sent=self._headers_sent)
