"""A call as its handler sees it, however it arrived.

    Call                     metadata, peer, deadline; `fail`
      UnaryCall              `reply`
        Http2UnaryCall       http2_unary.py; the hot path
        InProcessUnaryCall   in_process.py
      ServerStream           `receive`, `send`
        Http2Stream          http2_stream.py
        InProcessStream      in_process.py

A call ends once: by its handler's answer, by its deadline, or because the client cancelled it or disconnected. Whatever
happens later has no effect, so handlers answer without checking `finished`.

A new kind of call, such as one from an HTTP gateway, subclasses UnaryCall or ServerStream and implements the methods that
raise NotImplementedError here. Whatever starts a call counts `method.started`, and calls `start_timing` for timed methods.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import monotonic
from typing import Final, NamedTuple

from tercet.errors import CORRUPT, Code, CorruptRecord, StatusError, strip_traceback
from tercet.rpc.headers import metadata_of, value_of
from tercet.rpc.http2 import Headers
from tercet.rpc.method import Method

logger = logging.getLogger(__name__)

UNREAD: Final = b"\0"  # no header has such a value
_NO_MESSAGE = "cardinality violation: received no request message from non-client-streaming RPC"


class Peer(NamedTuple):
    """The client. `common_name` is that of a verified client certificate, "" if it has none; None without a certificate."""

    address: str
    common_name: str | None


class StreamOver(StatusError):
    """The call has ended, by its deadline, its client or its own handler: nothing more can be sent or received."""

    def __init__(self) -> None:
        super().__init__(Code.CANCELLED, "context canceled")


class Call:
    """What calls of every kind have. `deadline` is on the loop's clock, None if the client set none.

    token: UNREAD, or what the services have found; None without one.
    on_cancel: called once if the call ends by anything but its handler's answer.
    """

    __slots__ = ("_began", "deadline", "finished", "headers", "method", "on_cancel", "token")

    def __init__(self, method: Method, headers: Headers) -> None:
        self.method = method
        self.headers = headers
        self.deadline: float | None = None
        self.on_cancel: Callable[[], object] | None = None
        self.finished = False
        self.token: bytes | None = UNREAD  # of the services, which look for it in the headers when they first need it

    # For handlers

    @property
    def metadata(self) -> dict[str, tuple[bytes, ...]]:
        """All metadata, `-bin` values decoded; parsed on each access. Raises StatusError for malformed base64."""
        return metadata_of(self.headers)

    def header(self, name: str) -> bytes | None:
        """The first value of one piece of metadata; cheaper than `metadata`."""
        return value_of(self.headers, name.encode("ascii"))

    @property
    def peer(self) -> Peer:
        raise NotImplementedError

    def fail(self, code: Code, text: str) -> None:
        """End the call with an error."""
        if self.finished:
            return
        self.finish(code)
        self.send_status(code, text)

    def fail_with(self, error: BaseException) -> None:
        """End the call with an exception: a StatusError's own code and text; anything else is logged, and INTERNAL."""
        code, text = _status_of(error, self.method.path.decode())
        self.fail(code, text)

    # For the connection or channel that carries the call

    def start_timing(self) -> None:
        """Remember when the call started; only for methods that measure durations."""
        self._began = monotonic()

    def expire(self) -> None:
        """The deadline has passed."""
        self.fail(Code.DEADLINE_EXCEEDED, "context deadline exceeded")
        self.cancel_handler()

    def abandon(self) -> None:
        """The client has cancelled the call or disconnected: no answer can reach it."""
        if not self.finished:
            self.finish(Code.CANCELLED)
            self.stop_handler()

    def stop_handler(self) -> None:
        """Stop the work for a call that nobody waits for any more, perhaps in a later turn of the loop."""
        self.cancel_handler()

    def cancel_handler(self) -> None:
        """Stop the work for a call that has ended early."""
        on_cancel, self.on_cancel = self.on_cancel, None
        if on_cancel is not None:
            try:
                on_cancel()
            except Exception:
                logger.exception("on_cancel of %s failed", self.method.path.decode())

    def finish(self, code: int) -> None:
        """Mark and count the end of the call; subclasses release what they hold, its deadline included."""
        self.finished = True
        method = self.method
        method.handled[code] += 1
        if method.duration_counts is not None:
            method.observe(monotonic() - self._began)

    def send_status(self, code: int, text: str) -> None:
        """Send the client the status of the finished call."""
        raise NotImplementedError


class UnaryCall(Call):
    """One request, one reply."""

    __slots__ = ()

    def is_backlogged(self) -> bool:
        """Do many replies wait for the client to read them?"""
        return False

    def reply(self, message: bytes) -> None:
        """End the call with OK and one encoded message. Without effect on a call that has ended."""
        raise NotImplementedError

    def reply_parts(self, parts: list[bytes]) -> None:
        """`reply` with a message in pieces; over HTTP/2, large pieces are not joined first."""
        self.reply(b"".join(parts))


class ServerStream(Call):
    """A streaming call of any kind. Its handler runs as one task:

        async def watch(stream: ServerStream) -> None:
            async for message in stream:               # until the client half-closes
                await stream.send(answer(message))     # waits while the client does not read

    Returning ends the call with OK, raising ends it with an error. The task is cancelled when the client cancels or the
    deadline passes. A callback, which cannot wait, uses `send_now`, and leaves it to a task to await `drained`.
    """

    __slots__ = ("_task",)

    def __init__(self, method: Method, headers: Headers) -> None:
        super().__init__(method, headers)
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
        raise NotImplementedError

    async def receive_one(self) -> bytes:
        """The only request of a server-streaming call. Raises StatusError if there was none."""
        message = await self.receive()
        if message is None:
            raise StatusError(Code.INTERNAL, _NO_MESSAGE)
        return message

    def handle_at_once(self, handle: Callable[[bytes], bool]) -> None:
        """Offer each request to `handle` while the handler's task waits for one. True: it is answered, and the task sleeps on.

        Saves waking the task for each request; without effect on calls within the process.
        """

    def send_headers(self) -> None:
        """Show the client that the call is being served, before the first answer."""
        raise NotImplementedError

    def send_now(self, message: bytes) -> bool:
        """Queue one answer. False when the sender should await `drained` before the next one, or the call has ended."""
        raise NotImplementedError

    @property
    def has_room(self) -> bool:
        """May the next answer be sent without waiting?"""
        return True

    def allow_queue(self, bytes_max: int) -> None:
        """Set how much may be queued before `send_now` returns False; without effect on calls within the process."""

    def send_all(self, messages: list[bytes]) -> bool:
        """`send_now` of each of several answers; over HTTP/2 they are queued at once."""
        has_room = True
        for message in messages:
            has_room = self.send_now(message)
        return has_room

    @property
    def shares_parts(self) -> bool:
        """Whether `send_parts` makes no copy."""
        return False

    def send_parts(self, head: bytes, body: list[bytes]) -> bool:
        """`send_now` of one answer in pieces; over HTTP/2 a large body is not copied."""
        return self.send_now(b"".join((head, *body)))

    # Answers that take much memory are made only where the client reads them.

    def is_backlogged(self) -> bool:
        """Do many answers wait for the client to read them?"""
        return False

    async def wait_until_read(self) -> None:
        """Return when they are few. Raises StreamOver."""

    async def send_large(self, message: bytes) -> None:
        """`send`. Raises StatusError where the answers that wait take too much memory."""
        await self.send(message)

    async def send(self, message: bytes) -> None:
        """Send one answer; returns when the next one may be sent. Raises StreamOver."""
        if not self.send_now(message):
            await self.drained()

    async def drained(self) -> None:
        """Wait until the client has read enough of what was sent. Raises StreamOver, which ends a sender's loop."""
        raise NotImplementedError

    # For the connection or channel that carries the call

    def start(self) -> bool:
        """Run the handler, unless the call has ended before its turn: returns False then."""
        if self.finished:
            return False
        self._task = asyncio.get_running_loop().create_task(self._run())
        return True

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
                self.send_status(0, "")
        finally:
            self._task = None  # it refers to the call: neither must wait for a garbage collection

    def cancel_handler(self) -> None:
        super().cancel_handler()
        if self._task is not None:
            self._task.cancel()


def _status_of(error: BaseException, where: str) -> tuple[Code, str]:
    """The status for a handler's exception; text that is not meant for clients goes to the log only."""
    if isinstance(error, StatusError):
        strip_traceback(error)
        return error.code, error.message
    if isinstance(error, CorruptRecord):  # logged where it was found
        return CORRUPT.code, CORRUPT.message
    logger.error("%s failed", where, exc_info=error)
    return Code.INTERNAL, "internal error"
