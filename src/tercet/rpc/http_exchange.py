"""A plain HTTP request over HTTP/2, on a port that also speaks gRPC. Not a hot path.

The handler is `await http_handler(method, path, headers, body)` and returns (status, headers, body), where the body is
bytes or, for a response that is streamed, an async iterator of bytes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

from tercet.rpc.bounded_connection import BoundedConnection
from tercet.rpc.flow import Outlet
from tercet.rpc.http2 import INTERNAL_ERROR, Header, Headers, HTTP2Error

logger = logging.getLogger(__name__)

HttpResponse = tuple[int, Sequence[tuple[bytes, bytes]], bytes | AsyncIterator[bytes]]
HttpHandler = Callable[[bytes, bytes, Headers, bytes], Awaitable[HttpResponse]]

CLIENT_NAME: Final = b":client-name"
"""A pseudo-header that is added here: the common name of a verified client certificate. No client can send it."""

_JSON_BYTES: Final = 64 << 10
_CHUNK_BYTES: Final = 64 << 10


class HttpExchange:
    """One request and its answer; towards its connection it has the interface of a call."""

    __slots__ = (
        "_body",
        "_handler",
        "_head_sent",
        "_headers",
        "_held_bytes",
        "_outlet",
        "_task",
        "connection",
        "finished",
        "request_ended",
        "stream_id",
    )

    def __init__(self, connection: BoundedConnection, stream_id: int, headers: Headers, handler: HttpHandler | None) -> None:
        self.connection = connection
        self.stream_id = stream_id
        self.finished = False
        self.request_ended = False
        self._headers = headers
        self._handler = handler
        self._head_sent = False
        self._body = bytearray()
        self._held_bytes = 0  # as counted for the connection, until the answer is complete
        self._task: asyncio.Task[None] | None = None
        self._outlet = Outlet(connection, stream_id)

    def feed(self, data: bytes, ended: bool) -> None:
        if self.finished or self.request_ended:
            return
        self._body += data
        self._held_bytes += len(data)
        self.request_ended = ended
        if not self.connection.hold(len(data)):
            self.refuse(429, b"too many incomplete requests on one connection\n")
        elif len(self._body) > self.connection.max_message_bytes // 3 * 4 + _JSON_BYTES:  # a message in base64
            self.refuse(413, b"request body too large\n")
        elif ended:
            self.connection.intake.run(self._start)

    def _start(self) -> bool:
        if self.finished:
            return False
        self._task = self.connection.loop.create_task(self._serve())
        return True

    def refuse(self, status: int, text: bytes, *more: Header) -> None:
        """Answer at once, without calling the handler."""
        self._drop_body()
        self.finished = True
        fields = (*more, (b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(text)))
        try:
            self._send_head(status, fields)
            self.connection.session.send_data(self.stream_id, text, end_stream=True)
        except HTTP2Error:
            return  # the stream is gone
        self.connection.mark_dirty()
        self._ended()

    def abandon(self) -> None:
        """The client has reset the stream or disconnected."""
        self._drop_body()
        self.finished = True
        self._outlet.close()
        if self._task is not None:
            self.connection.intake.run(self._task.cancel)

    def _drop_body(self) -> None:
        self.connection.hold(-self._held_bytes)
        self._held_bytes = 0
        self._body.clear()

    async def _serve(self) -> None:
        handler = self._handler
        if handler is None:
            self.refuse(404, b"404 page not found\n")
            return
        body = bytes(self._body)
        self._body.clear()
        pseudo = dict(self._headers)
        method, path = pseudo[b":method"], pseudo.get(b":path", b"*")
        try:
            headers, name = self._headers, self.connection.peer.common_name
            if name:
                headers = (*headers, (CLIENT_NAME, name.encode("utf-8", "replace")))
            status, fields, answer = await handler(method, path, headers, body)
            self._send_head(status, fields)
            if method != b"HEAD":
                await self._send_body(answer)
            self.connection.session.end_stream(self.stream_id)
            self.connection.mark_dirty()
        except HTTP2Error:
            pass  # the client reset the stream meanwhile
        except Exception:
            logger.exception("HTTP %s %s failed", method.decode("latin-1"), path.decode("latin-1"))
            self._break_off()
        finally:
            self._drop_body()
            self._task = None  # it refers to the exchange: neither must wait for a garbage collection
        self.finished = True

    def _send_head(self, status: int, fields: Sequence[Header]) -> None:
        # HTTP/2 forbids connection-specific fields (RFC 9113 §8.2.2).
        kept = [(name.lower(), value) for name, value in fields if name.lower() not in (b"connection", b"transfer-encoding")]
        self.connection.session.send_response(self.stream_id, ((b":status", b"%d" % status), *kept))
        self._head_sent = True

    async def _send_body(self, body: bytes | AsyncIterator[bytes]) -> None:
        if isinstance(body, bytes):
            for start in range(0, len(body), _CHUNK_BYTES):
                await self._send(body[start : start + _CHUNK_BYTES])
        else:
            memory = self.connection.memory
            memory.count(self, getattr(body, "held_bytes", 0))
            try:
                async for part in body:
                    await self._send(part)
                    memory.taken(self, len(part))
            finally:
                memory.forget(self)
                close = getattr(body, "aclose", None)
                if close is not None:
                    await close()

    async def _send(self, part: bytes) -> None:
        if self.connection.is_backlogged():
            await self.connection.wait_until_read()
        self.connection.session.send_data(self.stream_id, part)
        self.connection.mark_dirty()
        await self._outlet.wait_for_room()

    def close_stuck(self) -> str:
        """See `client_memory.Holder`."""
        return self.connection.close_stuck()

    def _break_off(self) -> None:
        """The handler failed: 500 if nothing was sent yet, else reset the stream, or the client would wait for the rest."""
        if self._head_sent:
            self.connection.reset(self.stream_id, INTERNAL_ERROR)
        else:
            self.refuse(500, b"internal error\n")

    def _ended(self) -> None:
        if not self.request_ended:
            self.connection.reset_when_sent(self.stream_id)
