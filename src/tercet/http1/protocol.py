"""An HTTP/1.1 server's connection for clients: whole requests, one after the other, bounded in size and time.

Responses may be streams, and a request may turn the connection into a WebSocket. At most one request is in progress; what the
client sends ahead stays in the kernel. Not a hot path, so a request is a task. What a request in the making takes of a turn of
the loop is bounded (intake.py): a body may come in chunks of one byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import NamedTuple, cast

import h11

from tercet.client_memory import ClientMemory, TransportHolder
from tercet.errors import strip_traceback
from tercet.http1.event_work import PIECE_WORK, work_of
from tercet.http1.messages import TEXT, Headers, HttpHandler, client_name, date, split_target
from tercet.http1.upgrade import BadUpgrade, Upgrade, wants_websocket
from tercet.intake import intake_of_running_loop

logger = logging.getLogger(__name__)
_REASONS = {status.value: status.phrase for status in HTTPStatus}


class HttpLimits(NamedTuple):
    """read_seconds: for a whole request to arrive, idle time included. write_seconds: for the client to read a response.

    ahead_bytes: read beyond the request in progress, before reading is paused.
    """

    head_bytes: int = 64 << 10
    body_bytes: int = 1572864 + 524288
    ahead_bytes: int = 64 << 10
    read_seconds: float = 300.0
    write_seconds: float = 300.0


class HttpProtocol(asyncio.Protocol):
    """first_chunk: what was already read from the connection. upgrade: for paths that offer WebSockets.

    memory: where requests are counted until they are complete, and large responses until the client has read them.
    """

    def __init__(
        self,
        handler: HttpHandler,
        limits: HttpLimits | None = None,
        first_chunk: bytes = b"",
        *,
        upgrade: Upgrade | None = None,
        memory: ClientMemory | None = None,
    ) -> None:
        self._handler = handler
        self._upgrade = upgrade
        self._limits = limits or HttpLimits()
        self._first_chunk = first_chunk
        self._loop = asyncio.get_running_loop()
        self._memory = memory or ClientMemory(self._loop)
        self._machine = h11.Connection(h11.SERVER, max_incomplete_event_size=self._limits.head_bytes)
        self._transport: asyncio.Transport | None = None
        self._holder = TransportHolder()
        self._request: h11.Request | None = None
        self._body = bytearray()
        self._task: asyncio.Task[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._intake = intake_of_running_loop()
        self._is_waiting = False  # for a turn in which to go on with a request

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = self._holder.transport = cast(asyncio.Transport, transport)
        self._expect_request()
        if self._first_chunk:
            first, self._first_chunk = self._first_chunk, b""
            self.data_received(first)

    def data_received(self, data: bytes) -> None:
        try:
            self._machine.receive_data(data)
        except h11.RemoteProtocolError as error:  # bytes after `Connection: close`
            self._refuse(strip_traceback(error))  # a frame of h11 refers to the error: a cycle
            return
        if self._task is None and not self._is_waiting:
            self._advance_in_turn()
        else:
            self._read_or_pause()

    def eof_received(self) -> bool:
        """The client sends no more, but may wait for the response; only TLS cannot stay half-closed."""
        if self._task is None:
            with contextlib.suppress(h11.RemoteProtocolError):  # the client disconnected in the middle of a request
                self._machine.receive_data(b"")
                self._machine.next_event()
            return False
        self._machine.receive_data(b"")
        if self._machine.our_state is h11.SEND_BODY:  # of a stream, which may never end
            self._abandon()
            return False
        self._expect_end()
        return self._transport is not None and self._transport.get_extra_info("ssl_object") is None

    def connection_lost(self, exc: Exception | None) -> None:
        self._abandon()
        self._stop_timer()
        self._transport = self._holder.transport = None
        self._memory.forget(self._holder)
        if self._task is not None and self._task.done():  # cancelled before; see `_serve`
            self._task = None
        self._intake.free(self)

    def pause_writing(self) -> None:
        self._room = self._loop.create_future()

    def resume_writing(self) -> None:
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)

    # Reading

    def _advance_in_turn(self) -> None:
        """Handle events, now or when it is this connection's turn."""
        is_admitted = self._intake.admits()
        if (not is_admitted or self._advance(self._intake.left)) and self._transport is not None:
            self._is_waiting = True
            self._intake.wait(self, has_begun=is_admitted)
        self._read_or_pause()

    def take_piece(self) -> bool:
        """Handle a part of a request that takes several turns (intake.Waiting)."""
        if self._task is None and self._advance(PIECE_WORK):
            return True
        self._is_waiting = False
        self._read_or_pause()
        return False

    def _read_or_pause(self) -> None:
        """Read unless the client is ahead of this turn, or far ahead of the request in progress."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        is_ahead = self._task is not None and len(self._machine.trailing_data[0]) > self._limits.ahead_bytes
        if self._is_waiting or is_ahead:
            transport.pause_reading()
        else:
            transport.resume_reading()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _advance(self, work: int) -> bool:
        """Handle events until one request is complete or more bytes are needed. True: `work` has been done before that."""
        try:
            while self._task is None and self._transport is not None:
                if work <= 0:
                    return True
                event = self._machine.next_event()
                cost = work_of(event)
                work -= cost
                self._intake.spend(cost)
                if event is h11.NEED_DATA:
                    if self._machine.they_are_waiting_for_100_continue:
                        head = self._machine.send(h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue"))
                        self._transport.write(head or b"")
                    return False
                if event is h11.PAUSED:
                    return False
                if isinstance(event, h11.ConnectionClosed):
                    self._close()
                    return False
                self._take(event)
        except h11.RemoteProtocolError as error:
            self._refuse(strip_traceback(error))  # a frame of h11 refers to the error: a cycle
        return False

    def _take(self, event: object) -> None:
        if isinstance(event, h11.Request):
            self._request = event
        elif isinstance(event, h11.Data):
            self._body += event.data
            self._memory.count(self._holder, len(self._body))
            if len(self._body) > self._limits.body_bytes:
                self._body.clear()
                raise h11.RemoteProtocolError("request body too large", error_status_hint=413)
        elif isinstance(event, h11.EndOfMessage) and self._request is not None:
            self._stop_timer()
            body = bytes(self._body)
            self._body.clear()
            self._memory.forget(self._holder)
            if self._upgrade is not None and wants_websocket(self._request.method, self._request.headers):
                self._become_websocket(self._request, self._upgrade)
            if self._transport is not None:
                self._task = self._loop.create_task(self._serve(self._request, body))

    def _become_websocket(self, request: h11.Request, upgrade: Upgrade) -> None:
        try:
            socket = upgrade(request.target, [*request.headers, *client_name(self._transport)])
        except BadUpgrade as error:
            raise h11.RemoteProtocolError(str(error), error_status_hint=400) from error
        transport = self._transport
        if socket is None or transport is None:
            return
        self._transport = None
        transport.set_protocol(socket)
        transport.resume_reading()
        socket.connection_made(transport)
        ahead = self._machine.trailing_data[0]
        if ahead:
            socket.data_received(ahead)

    # Answering

    async def _serve(self, request: h11.Request, body: bytes) -> None:
        target, headers = request.target, [*request.headers, *client_name(self._transport)]
        try:
            if request.method not in (b"CONNECT", b"OPTIONS"):  # their targets may be an authority, or `*`
                parts = split_target(target)
                if parts is None:
                    await self._send(400, [(b"Content-Type", TEXT), (b"Connection", b"close")], b"400 Bad Request")
                    self._close()
                    return
                authority, target = parts
                if authority:
                    headers.insert(0, (b":authority", authority))
            status, fields, answer = await self._handler(request.method, target, headers, body)
            if request.method == b"CONNECT" and status < 300:  # it would say that a tunnel begins (RFC 9110 section 9.3.6)
                status, fields, answer = 405, [(b"Content-Type", TEXT)], b"Method Not Allowed\n"
            await self._send(status, fields, answer)
        except asyncio.CancelledError:
            if self._transport is None:
                self._task = None  # it refers to this connection: neither must wait for a garbage collection
            raise
        except Exception:
            logger.exception("HTTP %s %s failed", request.method.decode(), request.target.decode("latin-1"))
            if self._machine.our_state is h11.SEND_RESPONSE:
                await self._send(500, [(b"Content-Type", TEXT)], b"internal error\n")
            else:
                self._close()
        self._task = None
        self._next()

    def _next(self) -> None:
        """After a response: wait for the next request on this connection, or close it."""
        if self._transport is None:
            return
        if self._machine.our_state is h11.DONE and self._machine.their_state is h11.DONE:
            self._machine.start_next_cycle()
            self._request = None
            self._expect_request()
            self._advance_in_turn()
        else:
            self._close()

    async def _send(self, status: int, fields: Headers, body: bytes | AsyncIterator[bytes]) -> None:
        headers = [*fields, (b"Date", date().encode("ascii"))]
        if isinstance(body, bytes):
            headers.append((b"Content-Length", b"%d" % len(body)))
        reason = _REASONS.get(status, "").encode("ascii")
        response = h11.Response(status_code=status, headers=headers, reason=reason)
        if isinstance(body, bytes):
            await self._write(_whole(self._machine, self._request, response, body))
            return
        self._memory.count(self._holder, getattr(body, "held_bytes", 0))
        try:
            await self._write(self._machine.send(response) or b"")
            async for part in body:
                await self._write(self._machine.send(h11.Data(data=part)) or b"")
                self._memory.taken(self._holder, len(part))
            await self._write(self._machine.send(h11.EndOfMessage()) or b"")
        finally:
            self._memory.forget(self._holder)
            close = getattr(body, "aclose", None)
            if close is not None:
                await close()

    async def _write(self, data: bytes) -> None:
        if self._transport is None:
            raise asyncio.CancelledError
        self._transport.write(data)
        if self._room is not None:
            try:
                async with asyncio.timeout(self._limits.write_seconds):
                    await self._room
            except TimeoutError:
                self._transport.abort()
                raise asyncio.CancelledError from None

    def _refuse(self, error: h11.RemoteProtocolError) -> None:
        """Answer a malformed or too large request with h11's status, and close."""
        if self._transport is None:
            return
        if self._machine.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            status = error.error_status_hint
            text = f"{status} {_REASONS.get(status, '')}".encode("ascii")
            headers = [(b"Content-Type", TEXT), (b"Content-Length", b"%d" % len(text)), (b"Connection", b"close")]
            response = h11.Response(status_code=status, headers=headers, reason=_REASONS.get(status, "").encode("ascii"))
            self._transport.write(_whole(self._machine, self._request, response, text))
        self._abandon()
        self._close()

    # Closing

    def _expect_request(self) -> None:
        self._stop_timer()
        self._timer = self._loop.call_later(self._limits.read_seconds, self._close)

    def _expect_end(self) -> None:
        """The client has half-closed: the response may still reach it, but the request does not run for ever."""
        self._stop_timer()
        self._timer = self._loop.call_later(self._limits.read_seconds, self._end_late)

    def _end_late(self) -> None:
        self._abandon()
        self._close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _abandon(self) -> None:
        """The response cannot be sent any more: cancel its handler."""
        self.resume_writing()
        if self._task is not None:
            self._task.cancel()

    def _close(self) -> None:
        self._stop_timer()
        if self._transport is not None:
            self._transport.close()


def _whole(machine: h11.Connection, request: h11.Request | None, response: h11.Response, body: bytes) -> bytes:
    """A response that is no stream; the answer to HEAD has the body's length and not the body."""
    has_body = request is None or request.method != b"HEAD"
    events = (response, h11.Data(data=body if has_body else b""), h11.EndOfMessage())
    return b"".join(machine.send(event) or b"" for event in events)
