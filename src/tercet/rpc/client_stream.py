"""A streaming call of a client.

    async with channel.stream("/etcdserverpb.Watch/Watch") as stream:
        await stream.send(request)            # waits while the server does not read
        async for message in stream: ...      # ends with OK; raises RpcError for any other end

Messages that are not received close the stream's window, so that a slow reader costs bounded memory. Leaving the block cancels
the call.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import TracebackType

from tercet.errors import Code, StatusError
from tercet.rpc.client_call import ClientCall, RpcError
from tercet.rpc.connection import Connection
from tercet.rpc.flow import Inbox, Outlet
from tercet.rpc.http2 import HTTP2Error
from tercet.rpc.wire import MessageReader, frame


class ClientStream(ClientCall):
    __slots__ = ("_error", "_half_closed", "_inbox", "_outlet", "_reader")

    def __init__(self, connection: Connection, calls: dict[int, ClientCall]) -> None:
        super().__init__(connection, calls)
        self._reader = MessageReader(connection.max_message_bytes)
        self._half_closed = False
        self._error: RpcError | None = None

    def opened(self, stream_id: int) -> None:
        """Set the stream's id, which the session assigns."""
        self.stream_id = stream_id
        self._inbox = Inbox(partial(self.connection.throttle, stream_id))
        self._outlet = Outlet(self.connection, stream_id)

    # For callers

    def __aiter__(self) -> ClientStream:
        return self

    async def __anext__(self) -> bytes:
        message = await self.receive()
        if message is None:
            raise StopAsyncIteration
        return message

    async def __aenter__(self) -> ClientStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    async def receive(self) -> bytes | None:
        """The next message, None once the server has ended the call with OK. One caller at a time. Raises RpcError."""
        message = await self._inbox.take()
        if message is None and self._error is not None:
            raise self._error
        return message

    def handle_at_once(self, handle: Callable[[bytes], bool]) -> None:
        """Offer each message to `handle` while a caller waits in `receive`. True: it is done, and the caller waits on.

        Saves waking a task for each message. Now and then a message is not offered, so that tasks get their turn.
        """
        self._inbox.at_once = handle

    def send_now(self, message: bytes) -> bool:
        """Queue one message; False when the sender should await `drained` before the next. Raises RpcError."""
        if self.finished:
            raise self._error or RpcError(Code.INTERNAL, "the call has ended")
        if self._half_closed:
            raise RpcError(Code.INTERNAL, "send after half_close")
        try:
            self.connection.session.send_data(self.stream_id, frame(message))
        except HTTP2Error as error:
            raise RpcError(Code.UNAVAILABLE, f"the stream is closing: {error}") from error
        self.connection.mark_dirty()
        return self._outlet.has_room

    async def send(self, message: bytes) -> None:
        """Send one message; returns when the next one may be sent. Raises RpcError if the call has ended."""
        if not self.send_now(message):
            await self.drained()

    async def drained(self) -> None:
        """Wait until the server has read enough of what was sent. Raises RpcError if the call has ended."""
        await self._outlet.wait_for_room()
        if self.finished:
            raise self._error or RpcError(Code.INTERNAL, "the call has ended")

    def half_close(self) -> None:
        """Tell the server that no message will follow."""
        if self._half_closed or self.finished:
            return
        self._half_closed = True
        try:
            self.connection.session.end_stream(self.stream_id)
        except HTTP2Error:
            return  # the stream is closed; its StreamClosed event is to come
        self.connection.mark_dirty()

    # For the connection

    def feed(self, data: bytes) -> None:
        try:
            self._inbox.put(self._reader.feed(data))
        except StatusError as error:
            self._give_up(error.code, error.message)

    def ended(self, code: int, text: str) -> None:
        if code == 0 and self._reader.buffered_bytes:
            code, text = Code.INTERNAL, "unexpected EOF"
        if code:
            self._error = RpcError(Code(code), text, unprocessed=self.unprocessed)
        self._inbox.end()
        self._outlet.close()
