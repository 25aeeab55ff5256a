"""Calls to a server's methods from within its process: no sockets, no HTTP/2, the same handlers and counters.

    channel = InProcessChannel(method_table(service.handlers()))        # or Server.methods
    reply = await channel.unary("/etcdserverpb.KV/Put", request)
    async with channel.stream("/etcdserverpb.Watch/Watch") as stream:
        await stream.send(request)
        async for message in stream: ...

A handler cannot tell these calls from those of a remote client, except by their `peer`: statuses, deadlines, cancellation and
flow control are the same. Metadata is encoded as HTTP/2 would carry it, so that it is checked alike.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Final

from tercet.errors import Code
from tercet.intake import Intake
from tercet.rpc.call import Call, Peer, ServerStream, StreamOver, UnaryCall
from tercet.rpc.client_call import RpcError
from tercet.rpc.deadlines import Deadlines
from tercet.rpc.flow import Inbox
from tercet.rpc.headers import Metadata, encode_metadata
from tercet.rpc.http2 import Headers
from tercet.rpc.method import Method, unknown_method
from tercet.rpc.wire import message_too_large

SAME_PROCESS: Final = Peer("in-process", None)
NO_LIMIT: Final = 0x7FFFFFFF
"""Of a message's bytes."""


class OpenCalls:
    """The calls of one channel that have not ended, and their deadlines.

    intake: resumes the callers of unary calls. on_begin: called with each call. on_idle: called when the last one has ended.
    """

    __slots__ = ("_calls", "_deadlines", "intake", "on_begin", "on_idle")

    def __init__(self, intake: Intake | None = None) -> None:
        self.intake = intake
        self._calls: dict[Call, None] = {}
        self._deadlines = Deadlines(asyncio.get_running_loop())
        self.on_begin: Callable[[Call], object] | None = None
        self.on_idle: Callable[[], object] | None = None

    def __len__(self) -> int:
        return len(self._calls)

    def begin(self, call: Call, timeout: float | None) -> None:
        """Count a call that is about to start; `timeout` in seconds."""
        method = call.method
        method.started += 1
        if method.duration_counts is not None:
            call.start_timing()
        if timeout is not None:
            call.deadline = asyncio.get_running_loop().time() + timeout
            self._deadlines.add(call, call.deadline)
        self._calls[call] = None
        if self.on_begin is not None:
            self.on_begin(call)

    def ended(self, call: Call) -> None:
        self._deadlines.discard(call)
        self._calls.pop(call, None)
        if not self._calls and self.on_idle is not None:
            self.on_idle()

    def cancel_all(self, code: Code, text: str) -> None:
        """End all calls as their client; their handlers are cancelled."""
        for call in tuple(self._calls):
            call.abandon()
            call.send_status(code, text)

    def close(self) -> None:
        """Drop the deadlines."""
        self._deadlines.close()


class InProcessUnaryCall(UnaryCall):
    """`outcome` is resolved with the reply, or fails with RpcError."""

    __slots__ = ("_calls", "_peer", "outcome")

    def __init__(self, method: Method, headers: Headers, peer: Peer, calls: OpenCalls) -> None:
        super().__init__(method, headers)
        self._peer = peer
        self._calls = calls
        self.outcome: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    @property
    def peer(self) -> Peer:
        return self._peer

    def reply(self, message: bytes) -> None:
        if self.finished:
            return
        self.finish(0)
        outcome, intake = self.outcome, self._calls.intake
        if intake is not None:
            intake.resolve(outcome, message)
        elif not outcome.done():
            outcome.set_result(message)

    def finish(self, code: int) -> None:
        super().finish(code)
        self._calls.ended(self)

    def send_status(self, code: int, text: str) -> None:
        outcome, intake = self.outcome, self._calls.intake
        if intake is not None:
            intake.reject(outcome, RpcError(Code(code), text))
        elif not outcome.done():
            outcome.set_exception(RpcError(Code(code), text))


class _Pipe:
    """One direction of a stream: an inbox, and its sender, which waits while the inbox is full."""

    __slots__ = ("_room", "inbox")

    def __init__(self) -> None:
        self._room: asyncio.Event = asyncio.Event()
        self._room.set()
        self.inbox = Inbox(partial(_throttle, self._room))  # not to a method: that would be a cycle

    @property
    def has_room(self) -> bool:
        return self._room.is_set()

    async def wait_for_room(self) -> None:
        await self._room.wait()

    def close(self) -> None:
        """Neither side uses the pipe any more; what has arrived can still be taken."""
        self.inbox.end()
        self._room.set()


def _throttle(room: asyncio.Event, shut: bool) -> None:
    if shut:
        room.clear()
    else:
        room.set()


class _ServerSide(ServerStream):
    """The call as its handler sees it."""

    __slots__ = ("_peer", "answers", "calls", "error", "headers_sent", "requests")

    def __init__(self, method: Method, headers: Headers, peer: Peer, calls: OpenCalls) -> None:
        super().__init__(method, headers)
        self._peer = peer
        self.calls = calls
        self.requests = _Pipe()
        self.answers = _Pipe()
        self.headers_sent = asyncio.Event()
        self.error: RpcError | None = None  # how the call ended, if not with OK

    @property
    def peer(self) -> Peer:
        return self._peer

    async def receive(self) -> bytes | None:
        message = await self.requests.inbox.take()
        if message is None and self.finished:
            raise StreamOver
        return message

    def send_headers(self) -> None:
        self.headers_sent.set()

    def send_now(self, message: bytes) -> bool:
        if self.finished:
            return False
        self.send_headers()
        self.method.sent += 1
        self.answers.inbox.put([message])
        return self.answers.has_room

    def send_parts(self, head: bytes, body: list[bytes]) -> bool:
        """Without a copy: hundreds of streams may wait for their clients with the same large body."""
        if self.finished:
            return False
        self.send_headers()
        self.method.sent += 1
        self.answers.inbox.put_parts([head, *body])
        return self.answers.has_room

    async def drained(self) -> None:
        if not self.finished:
            await self.answers.wait_for_room()
        if self.finished:
            raise StreamOver

    def finish(self, code: int) -> None:
        super().finish(code)
        self.calls.ended(self)
        self.requests.inbox.drop()
        self.requests.close()

    def send_status(self, code: int, text: str) -> None:
        if code:
            self.error = RpcError(Code(code), text)
        self.headers_sent.set()
        self.answers.close()


class InProcessStream:
    """A streaming call as its client sees it; has the methods of ClientStream."""

    __slots__ = ("_bytes_max", "_call", "_half_closed")

    def __init__(self, call: _ServerSide, message_bytes_max: int) -> None:
        self._call = call
        self._bytes_max = message_bytes_max
        self._half_closed = False

    def __aiter__(self) -> InProcessStream:
        return self

    async def __anext__(self) -> bytes:
        message = await self.receive()
        if message is None:
            raise StopAsyncIteration
        return message

    async def __aenter__(self) -> InProcessStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    @property
    def calls(self) -> OpenCalls:
        """Those of the channel on which this one was started."""
        return self._call.calls

    async def receive(self) -> bytes | None:
        """The next message, None when the handler has ended the call with OK. One caller at a time. Raises RpcError."""
        parts = await self.receive_parts()
        return None if parts is None else b"".join(parts)

    async def receive_parts(self) -> list[bytes] | None:
        """`receive`, without joining the message."""
        parts = await self._call.answers.inbox.take_parts()
        if parts is None and self._call.error is not None:
            raise self._failure(self._call.error)
        return parts

    def handle_at_once(self, handle: Callable[[bytes], bool]) -> None:
        """Without effect: the server would run what the client does."""

    async def headers_received(self) -> None:
        """Return once the handler has sent headers, or ended the call."""
        await self._call.headers_sent.wait()

    def send_now(self, message: bytes) -> bool:
        """Queue one message; False when the sender should await `drained` before the next. Raises RpcError."""
        self._check_open()
        if self._half_closed:
            raise RpcError(Code.INTERNAL, "send after half_close")
        if len(message) > self._bytes_max:
            self._call.fail_with(message_too_large(len(message), self._bytes_max))
            self._call.cancel_handler()
            return True
        self._call.method.received += 1
        self._call.requests.inbox.put([message])
        return self._call.requests.has_room

    async def send(self, message: bytes) -> None:
        """Send one message; returns when the next one may be sent. Raises RpcError if the call has ended."""
        if not self.send_now(message):
            await self.drained()

    async def drained(self) -> None:
        """Wait until the handler has taken enough of what was sent. Raises RpcError if the call has ended."""
        await self._call.requests.wait_for_room()
        self._check_open()

    def half_close(self) -> None:
        """Tell the handler that no message will follow."""
        self._half_closed = True
        self._call.requests.inbox.end()

    def cancel(self) -> None:
        """End the call; its handler is cancelled."""
        call = self._call
        if not call.finished:
            call.abandon()
            call.send_status(Code.CANCELLED, "context canceled")

    def _check_open(self) -> None:
        if self._call.finished:
            error = self._call.error
            raise RpcError(Code.INTERNAL, "the call has ended") if error is None else self._failure(error)

    @staticmethod
    def _failure(error: RpcError) -> RpcError:
        """A copy: raised, the call's own error would refer to the call by its traceback, and the call to the error."""
        return RpcError(error.code, error.message)


class InProcessChannel:
    """Calls to `methods`; belongs to the loop it was made in.

    peer: the client that handlers see. message_bytes_max: larger requests are refused as over HTTP/2. intake: divides the
    resuming of callers among turns of the loop, for calls that are made for remote clients; None: all resume at once.
    """

    def __init__(
        self,
        methods: Mapping[bytes, Method],
        *,
        peer: Peer = SAME_PROCESS,
        message_bytes_max: int = NO_LIMIT,
        intake: Intake | None = None,
    ) -> None:
        self._methods = methods
        self._peer = peer
        self._bytes_max = message_bytes_max
        self.calls = OpenCalls(intake)

    async def unary(self, path: str, message: bytes, timeout: float | None = None, metadata: Metadata = ()) -> bytes:
        """One call, one answer; `timeout` in seconds. Cancelling the task cancels the call. Raises RpcError."""
        call = self.start_unary(path, message, timeout, metadata)
        try:
            return await call.outcome
        except asyncio.CancelledError:
            call.abandon()
            raise

    def start_unary(self, path: str, message: bytes, timeout: float | None, metadata: Metadata) -> InProcessUnaryCall:
        """Call the handler, which may answer at once. Raises RpcError for an unknown method."""
        method = self._method(path, is_unary=True)
        call = InProcessUnaryCall(method, tuple(encode_metadata(metadata)), self._peer, self.calls)
        self.calls.begin(call, timeout)
        try:
            if len(message) > self._bytes_max:
                raise message_too_large(len(message), self._bytes_max)
            method.call(call, message)
        except Exception as error:
            call.fail_with(error)
        return call

    def stream(self, path: str, timeout: float | None = None, metadata: Metadata = ()) -> InProcessStream:
        """Start a streaming call of any kind; `timeout` in seconds. Raises RpcError for an unknown method."""
        method = self._method(path, is_unary=False)
        call = _ServerSide(method, tuple(encode_metadata(metadata)), self._peer, self.calls)
        self.calls.begin(call, timeout)
        call.start()
        return InProcessStream(call, self._bytes_max)

    def close(self) -> None:
        """Drop the deadlines; open calls are their callers' to cancel."""
        self.calls.close()

    def _method(self, path: str, *, is_unary: bool) -> Method:
        method = self._methods.get(path.encode("ascii"))
        if method is None:
            raise RpcError(Code.UNIMPLEMENTED, unknown_method(path, self._methods.values()))
        if method.is_unary is not is_unary:
            raise ValueError(f"{path} is {method.kind.value}: call it by {'unary' if method.is_unary else 'stream'}()")
        return method
