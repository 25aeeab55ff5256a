"""Serves the gateway's paths: a request with JSON in its body becomes a call of a gRPC method in this process.

A stream's requests are the values of one body, its responses lines of `{"result":...}`. When the body ends, the call's request
side is closed and the responses go on. Work that depends on the size of a body is done in slices or in a thread.

Source: grpc-gateway v2 (runtime: mux.go, context.go, handler.go, errors.go). Departs in: a request's body is read completely
before the call starts, over HTTP/2 too.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final
from urllib.parse import unquote

from google.protobuf.message import Message

from tercet.errors import Code, StatusError
from tercet.gateway.json_decode import decode
from tercet.gateway.json_encode import RESPONSE, SLICE_BYTES, STREAM, JsonStyle, encode
from tercet.gateway.json_syntax import JsonSyntaxError, NoValue, Tokens, end_of_value
from tercet.gateway.paths import ROUTES, Route
from tercet.http1.messages import JSON, Headers, Response, header
from tercet.intake import BYTES_SHIFT, intake_of_running_loop
from tercet.rpc import InProcessChannel, InProcessStream, Method
from tercet.rpc.binary_headers import decode_base64
from tercet.rpc.wire import message_too_large

logger = logging.getLogger(__name__)

_HTTP_STATUS: Final[Mapping[Code, int]] = {
    Code.CANCELLED: 499,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.UNAUTHENTICATED: 401,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
}
_INLINE_MARKS: Final = 300
_INLINE_BYTES: Final = 64 << 10
"""Bodies with more commas and brackets, or bytes, are parsed in a thread, one at a time: it competes for the interpreter."""
_WORK_SHIFT: Final = 3  # of a turn, for each 8 bytes that are converted; a small field takes some 10 us
_PART_BYTES: Final = 32 << 10  # of a long response of a stream
_OVER_SECONDS: Final = 1e-5  # a stream with a timeout of no more does not begin in etcd: it fails like a unary call
_NANOSECONDS = {"H": 3600 * 10**9, "M": 60 * 10**9, "S": 10**9, "m": 10**6, "u": 10**3, "n": 1}
_INT64 = range(-(1 << 63), 1 << 63)
_OK: Final = [(b"Content-Type", JSON), (b"Grpc-Metadata-Content-Type", b"application/grpc")]

Metadata = list[tuple[str, str | bytes]]


class Gateway:
    """methods: by encoded path, as a server has them. message_bytes_max: largest encoded request, as over gRPC."""

    def __init__(self, methods: Mapping[bytes, Method], *, message_bytes_max: int) -> None:
        self.intake = intake_of_running_loop()
        self._channel = InProcessChannel(methods, intake=self.intake)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tercet-json")
        self._message_bytes_max = message_bytes_max

    async def handle(self, method: bytes, target: bytes, headers: Headers, body: bytes) -> Response:
        """Serve one HTTP request under /v3/."""
        route = ROUTES.get(unquote(target.partition(b"?")[0].decode("latin-1")))
        override = header(headers, b"x-http-method-override")
        if override and method == b"POST" and header(headers, b"content-type") == b"application/x-www-form-urlencoded":
            method, body = override.upper(), b""  # the form has consumed the body
        if route is None:
            return failure(StatusError(Code.NOT_FOUND, "Not Found"))
        if method != b"POST":
            return failure(StatusError(Code.UNIMPLEMENTED, "Method Not Allowed"))
        try:
            metadata, timeout = call_metadata(headers), call_timeout(headers)
            if route.server_streams:
                return await self._serve_stream(route, metadata, timeout, body)
            encoded, _ = await self.parse(route, body, 0)
            reply = await self._channel.unary(route.method, encoded, timeout, metadata)
        except StatusError as error:
            return failure(error)
        return await self._success(route, reply)

    async def parse(self, route: Route, body: bytes, position: int) -> tuple[bytes, int]:
        """The next request of a body, encoded, and where it ends. An empty unary body is an empty request.

        Raises StatusError; NoValue at the end of a stream's body.
        """
        marks = _marks(body, position)
        if marks <= _INLINE_MARKS and len(body) - position <= _INLINE_BYTES:
            await self.intake.admitted((marks << 1) + (len(body) >> BYTES_SHIFT))
            encoded, end = _parse(route, body, position)
        else:
            loop = asyncio.get_running_loop()
            encoded, end = await loop.run_in_executor(self._thread, _parse, route, body, position)
        if len(encoded) > self._message_bytes_max:
            raise message_too_large(len(encoded), self._message_bytes_max)
        return encoded, end

    async def convert(self, kind: type[Message], message: bytes, style: JsonStyle) -> str:
        """The JSON of a message, made in as many turns as it takes."""
        return "".join([piece async for piece in self._pieces(kind, message, style)])

    async def _pieces(self, kind: type[Message], message: bytes, style: JsonStyle) -> AsyncGenerator[str]:
        pieces, left = encode(kind, [message], style), len(message)
        while (piece := await self._next_piece(pieces, left)) is not None:
            yield piece
            left -= len(piece)

    async def _next_piece(self, pieces: Iterator[str], left: int) -> str | None:
        """Made in a turn that allows it: one event may wake hundreds of streams. left: about how many bytes are left."""
        work = max(0, min(left, SLICE_BYTES)) >> _WORK_SHIFT
        await self.intake.admitted(work)
        piece = next(pieces, None)
        if piece is not None:
            self.intake.spend((len(piece) >> _WORK_SHIFT) - work)
        return piece

    async def _success(self, route: Route, reply: bytes) -> Response:
        if len(reply) <= SLICE_BYTES:
            return 200, _OK, (await self.convert(route.response, reply, RESPONSE)).encode()
        return 200, _OK, _Reply(self._pieces(route.response, reply, RESPONSE), len(reply))

    async def result_line(self, route: Route, message: bytes) -> bytes:
        """One response of a stream."""
        return f'{{"result":{await self.convert(route.response, message, STREAM)}}}\n'.encode()

    def line(self, route: Route, message: list[bytes]) -> AsyncIterator[bytes]:
        """`result_line` in parts, of a message in parts."""
        return _Line(self._next_piece, encode(route.response, message, STREAM), sum(map(len, message)))

    def call(self, route: Route, metadata: Metadata, timeout: float | None) -> InProcessStream:
        """Start a streaming call. Raises StatusError."""
        return self._channel.stream(route.method, timeout, metadata)

    async def unary(self, route: Route, encoded: bytes, metadata: Metadata) -> bytes:
        """One call. Raises StatusError."""
        return await self._channel.unary(route.method, encoded, None, metadata)

    async def _serve_stream(self, route: Route, metadata: Metadata, timeout: float | None, body: bytes) -> Response:
        if not route.client_streams:
            encoded, _ = await self.parse(route, body, 0)
        if timeout is not None and timeout <= _OVER_SECONDS:
            raise StatusError(Code.DEADLINE_EXCEEDED, "context deadline exceeded")
        stream = self.call(route, metadata, timeout)
        if route.client_streams:
            feeder = asyncio.get_running_loop().create_task(self._feed(stream, route, body))
        else:
            stream.send_now(encoded)
            stream.half_close()
            feeder = None
        answers = _Answers(self, route, stream, feeder)
        try:
            first = await stream.receive_parts()
        except StatusError as error:
            answers.end()
            return _HTTP_STATUS.get(error.code, 500), [(b"Content-Type", JSON)], error_line(error)
        except BaseException:
            answers.end()
            raise
        if first is None:
            answers.end()
            return 200, [], _nothing()
        answers.pending = first
        return 200, _OK, answers

    async def _feed(self, stream: InProcessStream, route: Route, body: bytes) -> None:
        """Send the requests of a body; a malformed one ends the sending, not the call."""
        position = 0
        try:
            while True:
                encoded, position = await self.parse(route, body, position)
                await stream.send(encoded)
        except (NoValue, StatusError):
            stream.half_close()


class _Reply:
    """A large reply as JSON, in parts."""

    def __init__(self, pieces: AsyncGenerator[str], held_bytes: int) -> None:
        self._pieces = pieces
        self.held_bytes = held_bytes

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        return (await anext(self._pieces)).encode()

    async def aclose(self) -> None:
        """The response will not be sent further."""
        await self._pieces.aclose()


class _Line:
    """One response of a stream as JSON, in parts: a client that does not read holds one of them, and not all of a response."""

    def __init__(
        self, next_piece: Callable[[Iterator[str], int], Awaitable[str | None]], pieces: Iterator[str], size: int
    ) -> None:
        self._next_piece = next_piece
        self._pieces = pieces
        self._left = size
        self._begin = '{"result":'
        self._is_over = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._is_over:
            raise StopAsyncIteration
        parts, size = [self._begin], 0
        self._begin = ""
        while size < _PART_BYTES:
            piece = await self._next_piece(self._pieces, self._left)
            if piece is None:
                self._is_over = True
                parts.append("}\n")
                break
            self._left -= len(piece)
            parts.append(piece)
            size += len(piece)
        return "".join(parts).encode()


class _Answers:
    """A stream's responses as the body of an HTTP response. pending: received, not yet converted."""

    def __init__(self, gateway: Gateway, route: Route, stream: InProcessStream, feeder: asyncio.Task[None] | None) -> None:
        self._gateway = gateway
        self._route = route
        self._stream = stream
        self._feeder = feeder
        self._is_over = False
        self._line: AsyncIterator[bytes] | None = None  # that of which a part is sent
        self.pending: list[bytes] | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._is_over:
            raise StopAsyncIteration
        try:
            while True:
                if self._line is not None:
                    part = await anext(self._line, b"")
                    if part:
                        return part
                    self._line = None
                message, self.pending = self.pending, None
                if message is None:
                    message = await self._stream.receive_parts()
                if message is None:
                    break
                self._line = self._gateway.line(self._route, message)
        except StatusError as error:
            self.end()
            return error_line(error)
        except BaseException:
            self.end()
            raise
        self.end()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """The response will not be sent further."""
        self.end()

    def end(self) -> None:
        self._is_over = True
        self._stream.cancel()
        if self._feeder is not None:
            self._feeder.cancel()


async def _nothing() -> AsyncIterator[bytes]:
    parts: tuple[bytes, ...] = ()
    for part in parts:
        yield part


def _marks(body: bytes, position: int) -> int:
    """The commas and opening brackets of what a value can contain that is parsed at once."""
    end = position + _INLINE_BYTES
    return body.count(b",", position, end) + body.count(b"{", position, end) + body.count(b"[", position, end)


def _parse(route: Route, body: bytes, position: int) -> tuple[bytes, int]:
    try:
        begin, end = end_of_value(body, position)
    except NoValue:
        if route.client_streams:
            raise
        return b"", position
    except JsonSyntaxError as error:
        raise StatusError(Code.INVALID_ARGUMENT, str(error)) from error
    message = route.request()
    decode(Tokens(body, begin, end), message)
    return message.SerializeToString(), end


def call_metadata(headers: Headers) -> Metadata:
    """What the headers of an HTTP request say to the method. Raises StatusError."""
    metadata: Metadata = []
    for name, value in headers:
        if name == b"authorization":
            key = "authorization"
        elif name.startswith(b"grpc-metadata-"):
            key = name.removeprefix(b"grpc-metadata-").decode("ascii", "replace")
        else:
            continue
        if not re.fullmatch(r"[a-z0-9_.-]+", key):
            continue
        if key.endswith("-bin"):
            metadata.append((key, _binary(name, value)))
        elif all(0x20 <= byte <= 0x7E for byte in value):
            metadata.append((key, value))
    return metadata


def _binary(name: bytes, value: bytes) -> bytes:
    try:
        return decode_base64(value)
    except ValueError as error:
        shown = "-".join(part.capitalize() for part in name.decode("latin-1").split("-"))
        raise StatusError(Code.INVALID_ARGUMENT, f"invalid binary header {shown}: {error}") from error


def call_timeout(headers: Headers) -> float | None:
    """Seconds of the header Grpc-Timeout, None without it. As in Go, nanoseconds beyond 64 bits wrap. Raises StatusError."""
    text = header(headers, b"grpc-timeout").decode("latin-1")
    if not text:
        return None
    number = re.fullmatch(r"([+-]?)0*([0-9]{1,19})[HMSmun]", text)  # of any number of zeros int() refuses too many
    count = int(number[1] + number[2]) if number else _INT64.stop
    if count not in _INT64:
        raise StatusError(Code.INVALID_ARGUMENT, f"invalid grpc-timeout: {text}")
    wrapped = (count * _NANOSECONDS[text[-1]] - _INT64.start) % (1 << 64) + _INT64.start
    return wrapped / 1e9 or None


def failure(error: StatusError) -> Response:
    """The response to a call that failed."""
    fields = [(b"Content-Type", JSON)]
    if error.code is Code.UNAUTHENTICATED:
        fields.append((b"Www-Authenticate", error.message.encode("latin-1", "replace")))
    text = f'{{"code":{int(error.code)}, "message":{RESPONSE.string(error.message)}}}'
    return _HTTP_STATUS.get(error.code, 500), fields, text.encode("utf-8", "replace")


def error_line(error: StatusError) -> bytes:
    text = f'{{"error":{{"code":{int(error.code)},"message":{STREAM.string(error.message)}}}}}\n'
    return text.encode("utf-8", "replace")
