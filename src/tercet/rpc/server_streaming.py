"""A streaming call as its handler sees it: `async for message in stream`, `await stream.send(message)`, return or raise.

    async def watch(stream: ServerStream) -> None:
        async for message in stream:               # ends when the client has said all
            await stream.send(answer(message))     # waits while the client does not read

The handler runs as one task. Returning ends the call with OK, raising ends it with an error; the task is cancelled if the
client goes away or the deadline comes. A callback that must not wait uses `send_now` and asks `drained` to be awaited by
somebody else.

Both directions are bounded: requests that the handler has not taken close the stream's window, answers that the client has
not taken make `send` wait.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tercet.errors import Code, StatusError
from tercet.rpc.flow import Inbox, Outlet
from tercet.rpc.headers import RESPONSE
from tercet.rpc.http2 import Headers, HTTP2Error
from tercet.rpc.methods import Method
from tercet.rpc.server_call import ServerCall
from tercet.rpc.wire import Decompress, MessageReader, frame

if TYPE_CHECKING:
    from tercet.rpc.server_connection import ServerConnection

_NO_MESSAGE = "cardinality violation: received no request message from non-client-streaming RPC"


class StreamOver(StatusError):
    """The call has ended, by its deadline, its client or its own handler: nothing more can be sent or received."""

    def __init__(self) -> None:
        super().__init__(Code.CANCELLED, "context canceled")


class ServerStream(ServerCall):
    __slots__ = ("_inbox", "_outlet", "_reader", "_task")

    def __init__(
        self, connection: ServerConnection, stream_id: int, method: Method, headers: Headers, decompress: Decompress | None
    ) -> None:
        super().__init__(connection, stream_id, method, headers)
        self._reader = MessageReader(connection.server.options.max_message_bytes, decompress)
        self._inbox = Inbox(connection, stream_id)
        self._outlet = Outlet(connection, stream_id)
        self._task: asyncio.Task[None] | None = None

    # For handlers

    def __aiter__(self) -> ServerStream:
        return self

    async def __anext__(self) -> bytes:
        message = await self.receive()
        if message is None:
            raise StopAsyncIteration
        return message

    async def receive(self) -> bytes | None:
        """The next request, None after the last. One caller at a time. Raises StreamOver."""
        message = await self._inbox.take()
        if message is None and self.finished:
            raise StreamOver
        return message

    async def receive_one(self) -> bytes:
        """The only request of a server-streaming call. Raises StatusError if there was none."""
        message = await self.receive()
        if message is None:
            raise StatusError(Code.INTERNAL, _NO_MESSAGE)
        return message

    def send_headers(self) -> None:
        """Tell the client that the call is being served, before the first answer."""
        if not self._headers_sent and not self.finished:
            self._headers_sent = True
            try:
                self.connection.session.send_response(self.stream_id, RESPONSE)
            except HTTP2Error:
                return  # the stream is gone; its StreamClosed is on the way
            self.connection.mark_dirty()

    def send_now(self, message: bytes) -> bool:
        """Queue one answer; False when the sender should wait for `drained` before the next, or the call is over."""
        if self.finished:
            return False
        self.send_headers()
        connection = self.connection
        try:
            connection.session.send_data(self.stream_id, frame(message))
        except HTTP2Error:
            return False
        self.method.sent += 1
        connection.sent_data = True
        if not connection.touched:
            connection.mark_dirty()
        return self._outlet.has_room

    async def send(self, message: bytes) -> None:
        """Send one answer; returns when the next one may be sent. Raises StreamOver."""
        if not self.send_now(message):
            await self.drained()

    async def drained(self) -> None:
        """Wait until the client has taken enough of what was sent. Raises StreamOver, so that no sender goes on for ever."""
        await self._outlet.room()
        if self.finished:
            raise StreamOver

    # For the connection

    def start(self) -> None:
        self._task = self.connection.loop.create_task(self._run())

    async def _run(self) -> None:
        try:
            await self.method.call(self)
        except asyncio.CancelledError:
            self.fail(Code.CANCELLED, "context canceled")
            raise
        except StreamOver:
            self.fail(Code.CANCELLED, "context canceled")
        except Exception as error:
            self.fail_with(error)
        else:
            if not self.finished:
                self.finish(0)
                self._send_status(0, "")

    def feed(self, data: bytes, ended: bool) -> None:
        if self.finished:
            return
        try:
            messages = self._reader.feed(data)
            if ended and self._reader.buffered_bytes:
                raise StatusError(Code.INTERNAL, "unexpected EOF")
        except StatusError as error:
            self.request_ended = ended
            self.fail(error.code, error.message)
            self.cancelled()
            return
        self.request_ended = ended
        self.method.received += len(messages)
        self._inbox.put(messages)
        if ended:
            self._inbox.end()

    def finish(self, code: int) -> None:
        super().finish(code)
        self._inbox.drop()
        self._outlet.close()

    def cancelled(self) -> None:
        super().cancelled()
        if self._task is not None:
            self._task.cancel()
