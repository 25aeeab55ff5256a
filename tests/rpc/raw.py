"""Peers that send arbitrary bytes: HTTP/2 frames encoded and decoded by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ngh2 import Configuration, Role

from tercet.rpc import http2
from tercet.rpc.http2 import DataReceived, Event, Header, Headers, ResponseReceived, StreamClosed, TrailersReceived

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream_id.to_bytes(4, "big") + payload


def literal(name: bytes, value: bytes) -> bytes:
    """One header field in HPACK, literal, without indexing, lengths below 127."""
    return b"\0" + bytes((len(name),)) + name + bytes((len(value),)) + value


def request_block(path: bytes, *more: tuple[bytes, bytes]) -> bytes:
    fields = (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", b"t"),
        (b"content-type", b"application/grpc"),
        *more,
    )
    return b"".join(literal(name, value) for name, value in fields)


class RawPeer:
    """A connection that has sent the preface and empty SETTINGS."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, port: int, hello: bytes = PREFACE + frame(SETTINGS, 0, 0)) -> RawPeer:
        peer = cls(*await asyncio.open_connection("127.0.0.1", port))
        peer.send(hello)
        return peer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def next_frame(self) -> tuple[int, int, int, bytes]:
        """(kind, flags, stream id, payload); kind -1 when the connection has ended."""
        try:
            head = await self._reader.readexactly(9)
            payload = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
        except (asyncio.IncompleteReadError, ConnectionError):
            return -1, 0, 0, b""
        return head[3], head[4], int.from_bytes(head[5:9], "big"), payload

    async def frames_until_the_end(self, limit: int = 100_000) -> list[tuple[int, int, int, bytes]]:
        """All frames until the server closes; fails if it does not."""
        frames = []
        for _ in range(limit):
            frames.append(await asyncio.wait_for(self.next_frame(), 60))
            if frames[-1][0] == -1:
                return frames
        raise AssertionError("the server does not hang up")

    async def expect(self, kind: int, flags: int | None = None) -> bytes:
        """Skip to the next frame of a kind; its payload."""
        while True:
            found, seen, _, payload = await asyncio.wait_for(self.next_frame(), 60)
            assert found != -1, "the server has hung up"
            if found == kind and (flags is None or seen & flags == flags):
                return payload

    def close(self) -> None:
        self.writer.close()


class Answer:
    """One stream's response."""

    def __init__(self) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.trailers: dict[bytes, bytes] = {}
        self.reset: int | None = None


class Asker:
    """A valid HTTP/2 client that sends any headers and data: for requests that violate gRPC only."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._session = http2.Session(Role.CLIENT, Configuration(max_send_header_block_length=4 << 20))
        self._session.initiate_connection({})
        self._answers: dict[int, Answer] = {}

    @classmethod
    async def connect(cls, port: int) -> Asker:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, headers: Headers, *parts: bytes, trailers: Headers = ()) -> Answer:
        """Send a request with one DATA frame per part, and wait for the end of the response."""
        return await self.finish(self.begin(headers, *parts, trailers=trailers))

    def begin(self, headers: Headers, *parts: bytes, trailers: Headers = (), ended: bool = True) -> int:
        """Send a request, with END_STREAM if `ended`. Returns its stream."""
        stream_id = self._session.send_request(headers, end_stream=ended and not parts and not trailers)
        self._answers[stream_id] = Answer()
        for number, part in enumerate(parts, 1):
            self._session.send_data(stream_id, part, end_stream=ended and number == len(parts) and not trailers)
            self._writer.write(self._session.data_to_send())
        if trailers:
            self._session.send_trailers(stream_id, trailers)
        self._writer.write(self._session.data_to_send())
        return stream_id

    async def finish(self, stream_id: int) -> Answer:
        """Wait for the end of the response."""
        answer = self._answers[stream_id]
        self._writer.write(self._session.data_to_send())
        while answer.reset is None:
            data = await asyncio.wait_for(self._reader.read(65536), 60)
            assert data, "the server has hung up"
            self._session.receive_data(data)
            for event in self._session.events():
                self._take(event)
            self._writer.write(self._session.data_to_send())
            for event in self._session.events():
                self._take(event)
        return answer

    def _take(self, event: Event) -> None:
        answer = self._answers.get(getattr(event, "stream_id", 0))
        if answer is None:
            return
        if isinstance(event, ResponseReceived):
            answer.headers = dict(event.headers)
        elif isinstance(event, DataReceived):
            answer.body += event.data
        elif isinstance(event, TrailersReceived):
            answer.trailers = dict(event.headers)
        elif isinstance(event, StreamClosed):
            answer.reset = event.error_code

    def close(self) -> None:
        self._writer.close()


def grpc_head(
    path: bytes, *more: Header, method: bytes = b"POST", content_type: bytes = b"application/grpc"
) -> tuple[Header, ...]:
    return (
        (b":method", method),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", b"test"),
        (b"content-type", content_type),
        (b"te", b"trailers"),
        *more,
    )


Misuse = Callable[[RawPeer], None]
