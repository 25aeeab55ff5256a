"""An HTTP/1.1 connection to the peer listener, with bodies that are read while they arrive.

The application is one coroutine function, Request -> Response. It is called before the body is read, so that a refused request
costs no memory; it reads the body through `Body`, which pauses the socket while no bytes are taken. After the head of a
`StreamResponse` the connection belongs to another protocol.

Limits: 16 KiB for the head of a request; 256 KiB buffered of a body; part of a turn of the loop (intake.py); 5 s without a byte
that we wait for, or while the peer reads none of ours (etcd: --raft-read-timeout, --raft-write-timeout).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Final, NamedTuple, cast

import h11

from tercet.errors import strip_traceback
from tercet.http1.event_work import PIECE_WORK, work_of
from tercet.http1.messages import TextHeaders, date, split_target
from tercet.intake import intake_of_running_loop

logger = logging.getLogger(__name__)

IO_TIMEOUT_SECONDS: Final = 5.0
CONNECTIONS_MAX: Final = 1024  # streams, two per member, are not counted
_BODY_AHEAD_BYTES: Final = 256 << 10
_DISCARD_BYTES_MAX: Final = 256 << 10  # of a refused body; beyond it the connection is closed
_TEXT: Final = ("Content-Type", "text/plain; charset=utf-8")
_NO_SNIFF: Final = ("X-Content-Type-Options", "nosniff")


class BodyError(Exception):
    """The body is incomplete, malformed or too large."""


class BodyTooLarge(BodyError):
    """The body exceeds what its reader accepts."""


class Request(NamedTuple):
    """`headers` have lower-case names; of a repeated one the first counts, as in Go."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Body


class Response(NamedTuple):
    status: int
    body: bytes = b""
    headers: Sequence[tuple[str, str]] = ()


class StreamResponse(NamedTuple):
    """200 with an endless chunked body, written by the protocol that `take` returns."""

    headers: TextHeaders
    take: Callable[[asyncio.Transport], asyncio.BaseProtocol]


Application = Callable[[Request], Awaitable[Response | StreamResponse]]


def text_response(status: int, text: str, headers: TextHeaders | None = None) -> Response:
    """An error as Go's http.Error writes it; etcd's members compare such texts."""
    return Response(status, f"{text}\n".encode(), [_TEXT, _NO_SNIFF, *(headers or [])])


def json_response(body: bytes, headers: TextHeaders | None = None) -> Response:
    return Response(200, body, [("Content-Type", "application/json"), *(headers or [])])


class Body:
    """A request's body."""

    __slots__ = ("_buffered", "_chunks", "_ended", "_error", "_on_need", "_waiter")

    def __init__(self, on_need: Callable[[], None]) -> None:
        self._on_need = on_need
        self._chunks: deque[bytes] = deque()
        self._buffered = 0
        self._ended = False
        self._error: str | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def is_full(self) -> bool:
        return self._buffered >= _BODY_AHEAD_BYTES

    async def chunk(self) -> bytes:
        """The next piece; empty at the end. Raises BodyError."""
        while not self._chunks:
            if self._error is not None:
                raise BodyError(self._error)
            if self._ended:
                return b""
            self._waiter = asyncio.get_running_loop().create_future()
            self._on_need()
            await self._waiter
        chunk = self._chunks.popleft()
        self._buffered -= len(chunk)
        return chunk

    async def read(self, bytes_max: int) -> bytes:
        """The whole body. Raises BodyError, also if it exceeds `bytes_max`."""
        chunks: list[bytes] = []
        total = 0
        while chunk := await self.chunk():
            total += len(chunk)
            if total > bytes_max:
                raise BodyTooLarge(f"body exceeds {bytes_max} bytes")
            chunks.append(chunk)
        return b"".join(chunks)

    def feed(self, data: bytes) -> None:
        self._chunks.append(data)
        self._buffered += len(data)
        self._wake()

    def end(self) -> None:
        self._ended = True
        self._wake()

    def fail(self, reason: str) -> None:
        self._error = self._error or reason
        self._wake()

    def discard(self) -> int:
        """Drop what was not read. Returns its size."""
        dropped, self._buffered = self._buffered, 0
        self._chunks.clear()
        return dropped

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class ServerConnection(asyncio.Protocol):
    """`connections`: the listener's set of open connections, which this object joins and leaves.

    first_chunk: what was read before this protocol took over the transport.
    """

    def __init__(
        self,
        application: Application,
        connections: set[ServerConnection],
        io_timeout: float = IO_TIMEOUT_SECONDS,
        first_chunk: bytes = b"",
    ) -> None:
        self._application = application
        self._connections = connections
        self._first_chunk = first_chunk
        self._io_timeout = io_timeout
        self._http = h11.Connection(h11.SERVER)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._body: Body | None = None
        self._discarding = 0  # > 0: the response was sent; discard up to this many bytes of the body
        self._intake = intake_of_running_loop()
        self._is_waiting = False  # for a turn in which to go on
        self._paused = False  # reading is paused: the body's reader is behind, or the peer does not read our response
        self._blocked = False  # the peer does not read our response
        self._heard = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's class does not inherit from it
        if len(self._connections) >= CONNECTIONS_MAX:
            text = "refused a connection to the peer listener from %s: %d connections are open"
            logger.warning(text, _address(transport), CONNECTIONS_MAX)
            self._transport.abort()
            return
        self._connections.add(self)
        self._timer = self._loop.call_later(self._io_timeout, self._check_deadline)
        first, self._first_chunk = self._first_chunk, b""
        if first:
            self.data_received(first)

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        try:
            self._http.receive_data(data)
        except h11.RemoteProtocolError:  # bytes after `Connection: close`
            self.abort()
            return
        self._advance()

    def eof_received(self) -> bool:
        self._http.receive_data(b"")
        self._advance()
        return True  # half-closed: the peer may still wait for the response

    def pause_writing(self) -> None:
        self._blocked = True
        self._heard = self._loop.time()
        self._pause_reading()

    def resume_writing(self) -> None:
        self._blocked = False
        self._heard = self._loop.time()
        self._advance()

    def connection_lost(self, error: Exception | None) -> None:
        self._detach()
        if self._body is not None:
            self._body.fail("the connection was lost")
        if self._task is not None:
            self._task.cancel()
        self._intake.free(self)

    # For the listener

    async def close(self) -> None:
        """Abort the connection, cancel its request, and wait for the end of that."""
        self.abort()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    # Internal

    def _advance(self) -> None:
        """Handle what has been received, now or when it is this connection's turn."""
        if self._is_waiting:
            return
        is_admitted = self._intake.admits()
        if not is_admitted or self._handle_events(self._intake.left):
            self._is_waiting = True
            self._pause_reading()
            self._intake.wait(self, has_begun=is_admitted)

    def take_piece(self) -> bool:
        """Handle a part of what takes several turns (intake.Waiting)."""
        if self._handle_events(PIECE_WORK):
            return True
        self._is_waiting = False
        return False

    def _handle_events(self, work: int) -> bool:
        """Handle h11's events until it needs more bytes or reading has to pause. True: `work` has been done before that."""
        while self._transport is not None and not self._blocked:
            if self._body is not None and self._body.is_full:
                self._pause_reading()
                return False
            if work <= 0:
                return True
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                self._refuse_malformed(strip_traceback(error))  # a frame of h11 refers to the error: a cycle
                return False
            cost = work_of(event)
            work -= cost
            self._intake.spend(cost)
            if event is h11.NEED_DATA:
                self._resume_reading()
                return False
            if event is h11.PAUSED:  # the next request waits until this one is answered
                self._pause_reading()
                return False
            if isinstance(event, h11.Request):
                self._begin(event)
            elif isinstance(event, h11.Data):
                self._take_body(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                if self._body is not None:
                    self._body.end()
                if self._discarding:
                    self._next_request()
            elif isinstance(event, h11.ConnectionClosed):
                self._transport.close()
                return False
        return False

    def _begin(self, event: h11.Request) -> None:
        headers: dict[str, str] = {}
        for name, value in event.headers:
            headers.setdefault(name.decode("latin-1"), value.decode("latin-1"))
        _, target = split_target(event.target) or (b"", event.target)
        path = target.decode("latin-1").split("?", 1)[0]
        self._body = Body(self._body_needed)
        request = Request(event.method.decode("latin-1"), path, headers, self._body)
        self._task = self._loop.create_task(self._respond(request), name=f"peer {request.method} {path}"[:80])

    def _take_body(self, data: bytes) -> None:
        if not self._discarding:
            if self._body is not None:
                self._body.feed(data)
            return
        self._discarding -= len(data)
        if self._discarding <= 0:
            self.abort()

    def _body_needed(self) -> None:
        if self._transport is None:
            return
        if self._http.they_are_waiting_for_100_continue:
            self._write(self._http.send(h11.InformationalResponse(status_code=100, headers=[], reason="Continue")))
        # In a later turn: `Body.chunk` must be waiting before bytes arrive, and may itself be called from _advance.
        self._loop.call_soon(self._advance)

    async def _respond(self, request: Request) -> None:
        try:
            response = await self._application(request)
        except BodyError:
            response = text_response(400, "Bad Request")
        except Exception as error:
            logger.error("%s %s on the peer listener failed: %s: %s", request.method, request.path, type(error).__name__, error)
            response = text_response(500, "Internal Server Error")
        if self._transport is None:
            return
        if isinstance(response, StreamResponse):
            self._become_stream(response)
        else:
            self._answer(request, response)

    def _answer(self, request: Request, response: Response) -> None:
        if self._http.our_state is not h11.SEND_RESPONSE:  # the request was malformed, and is refused already
            return
        headers = [*response.headers, ("Date", date())]
        if response.status != HTTPStatus.NO_CONTENT:
            headers.append(("Content-Length", str(len(response.body))))
        reason = HTTPStatus(response.status).phrase
        out = self._http.send(h11.Response(status_code=response.status, headers=headers, reason=reason)) or b""
        if response.body and request.method != "HEAD":
            out += self._http.send(h11.Data(data=response.body)) or b""
        out += self._http.send(h11.EndOfMessage()) or b""
        self._write(out)
        if self._http.their_state is h11.SEND_BODY:
            self._discarding = max(1, _DISCARD_BYTES_MAX - (self._body.discard() if self._body is not None else 0))
            self._advance()
        else:
            self._next_request()

    def _next_request(self) -> None:
        self._task = None
        self._body = None
        self._discarding = 0
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            self._advance()
        elif self._transport is not None:
            self._transport.close()

    def _become_stream(self, response: StreamResponse) -> None:
        transport = cast(asyncio.Transport, self._transport)
        headers = [*response.headers, ("Date", date()), ("Transfer-Encoding", "chunked")]
        self._write(self._http.send(h11.Response(status_code=200, headers=headers, reason="OK")))
        self._resume_reading()
        self._detach()
        transport.set_protocol(response.take(transport))

    def _refuse_malformed(self, error: h11.RemoteProtocolError) -> None:
        if self._body is not None and self._http.our_state is h11.SEND_RESPONSE:
            self._pause_reading()
            self._body.fail(f"malformed: {error}")  # the application answers
            return
        if self._http.our_state is h11.IDLE:
            text = b"400 Bad Request"
            headers = [_TEXT, ("Connection", "close"), ("Content-Length", str(len(text)))]
            out = self._http.send(h11.Response(status_code=error.error_status_hint, headers=headers, reason=b"Bad Request"))
            self._write((out or b"") + (self._http.send(h11.Data(data=text)) or b""))
        if self._transport is not None:
            self._transport.close()

    def _check_deadline(self) -> None:
        now = self._loop.time()
        quiet = now - self._heard
        at_work = self._task is not None and (self._body is None or self._http.their_state is not h11.SEND_BODY)
        if not self._blocked and (at_work or self._paused):
            self._heard, quiet = now, 0.0  # the peer waits for us
        if quiet >= self._io_timeout:
            self.abort()
        else:
            self._timer = self._loop.call_later(self._io_timeout - quiet, self._check_deadline)

    def _pause_reading(self) -> None:
        if not self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = False
            self._heard = self._loop.time()
            self._transport.resume_reading()

    def _write(self, data: bytes | None) -> None:
        if data and self._transport is not None:
            self._transport.write(data)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _detach(self) -> None:
        """Let go of the connection: it is lost, or has become a stream."""
        self._transport = None
        self._connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()


def _address(transport: asyncio.BaseTransport) -> str:
    peer = transport.get_extra_info("peername")
    return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) and len(peer) >= 2 else "?"
