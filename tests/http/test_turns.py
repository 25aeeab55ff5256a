"""However small the pieces that a client sends, a turn of the loop takes a bounded number of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tercet.http import Headers, HttpProtocol, Response
from tercet.http1.messages import TextHeaders
from tercet.http1.server import Request, ServerConnection
from tercet.http1.server import Response as PeerResponse
from tercet.http1.websocket import WebSocket
from tercet.intake import TURN_WORK
from tests.support.wire import Wire

COUNT = 20 * TURN_WORK
CHUNKED = b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKS = b"1\r\na\r\n" * COUNT + b"0\r\n\r\n"
EMPTY_PING = b"\x89\x80\0\0\0\0"


async def count_turns(wire: Wire, done: Callable[[], int]) -> int:
    """Turns until `done()` is COUNT; fails if one turn has done a tenth of it, or nothing is left to wait for."""
    turns, before = 0, 0
    while (now := done()) < COUNT:
        assert now - before < COUNT // 10, f"turn {turns}"
        assert turns < COUNT, "nothing goes on"
        before, turns = now, turns + 1
        await asyncio.sleep(0)
    return turns


def test_a_body_in_tiny_chunks_takes_many_turns() -> None:
    async def main() -> None:
        bodies: list[bytes] = []

        async def handler(method: bytes, target: bytes, headers: Headers, body: bytes) -> Response:
            bodies.append(body)
            return 200, [], b"thanks"

        protocol, wire = HttpProtocol(handler), Wire()
        protocol.connection_made(wire)
        protocol.data_received(CHUNKED + CHUNKS)
        assert not wire.is_reading_now, "nothing more is read while something waits"
        await count_turns(wire, lambda: COUNT if bodies else len(protocol._body))
        assert bodies == [b"a" * COUNT]
        await asyncio.sleep(0)
        assert wire.is_reading_now
        assert wire.written[-1].endswith(b"thanks")
        protocol.connection_lost(None)

    asyncio.run(main())


def test_a_body_for_the_peer_listener_takes_many_turns() -> None:
    async def main() -> None:
        received = 0

        async def application(request: Request) -> PeerResponse:
            nonlocal received
            while chunk := await request.body.chunk():
                received += len(chunk)
            headers: TextHeaders = []
            return PeerResponse(200, b"thanks", headers)

        connection, wire = ServerConnection(application, set()), Wire()
        connection.connection_made(wire)
        connection.data_received(CHUNKED + CHUNKS)
        assert not wire.is_reading_now
        await count_turns(wire, lambda: received)
        for _ in range(10):
            await asyncio.sleep(0)
        assert wire.written[-1].endswith(b"thanks")
        assert wire.is_reading_now
        connection.connection_lost(None)

    asyncio.run(main())


def test_requests_sent_ahead_are_not_read() -> None:
    """One more read for each answer would hold all that a client sends."""

    async def main() -> None:
        async def handler(method: bytes, target: bytes, headers: Headers, body: bytes) -> Response:
            return 200, [], b""

        protocol, wire = HttpProtocol(handler), Wire()
        protocol.connection_made(wire)
        requests = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 8_000
        protocol.data_received(requests)
        protocol.data_received(requests)
        for _ in range(100):
            await asyncio.sleep(0)
            assert not wire.is_reading_now
        assert len(wire.written) > 10, "they are being answered"
        protocol.connection_lost(None)

    asyncio.run(main())


UPGRADE: Headers = [
    (b"Host", b"x"),
    (b"Upgrade", b"websocket"),
    (b"Connection", b"Upgrade"),
    (b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="),
    (b"Sec-WebSocket-Version", b"13"),
]


def open_socket() -> tuple[WebSocket, Wire]:
    async def session(socket: WebSocket) -> None:
        while await socket.receive() is not None:
            pass

    socket, wire = WebSocket(session, b"/v3/watch", UPGRADE, message_bytes_max=1 << 20), Wire()
    socket.connection_made(wire)
    return socket, wire


def test_many_pings_of_a_websocket_take_many_turns() -> None:
    async def main() -> None:
        socket, wire = open_socket()
        greeting = len(wire.written)
        socket.data_received(EMPTY_PING * COUNT)
        assert not wire.is_reading_now
        await count_turns(wire, lambda: len(wire.written) - greeting)
        await asyncio.sleep(0)
        assert wire.is_reading_now
        socket.connection_lost(None)

    asyncio.run(main())


def test_a_websocket_that_does_not_read_its_pongs_is_not_read_from() -> None:
    async def main() -> None:
        socket, wire = open_socket()
        socket.pause_writing()
        assert not wire.is_reading_now
        socket.resume_writing()
        assert wire.is_reading_now
        socket.connection_lost(None)

    asyncio.run(main())


@pytest.mark.parametrize(("first", "others"), [(0x81, 0x81), (0x01, 0x00)], ids=["messages", "fragments of one"])
def test_empty_frames_of_a_websocket_use_bounded_memory(first: int, others: int) -> None:
    """They have no payload to count, so their number alone was bounded by nothing."""

    async def main() -> None:
        async def session(socket: WebSocket) -> None:
            await asyncio.get_running_loop().create_future()  # receives nothing

        socket, wire = WebSocket(session, b"/v3/watch", UPGRADE, message_bytes_max=1 << 10), Wire()
        socket.connection_made(wire)
        for opcode in (first, *[others] * 100):
            if wire.is_reading_now and not wire.is_aborted:
                socket.data_received(bytes([opcode, 0x80, 0, 0, 0, 0]))
                await asyncio.sleep(0)
        assert not wire.is_reading_now or wire.is_aborted
        socket.connection_lost(None)

    asyncio.run(main())


def test_a_websocket_is_read_from_though_its_request_waited_for_its_turn() -> None:
    async def main() -> None:
        sockets: list[WebSocket] = []

        async def session(socket: WebSocket) -> None:
            sockets.append(socket)

        def upgrade(target: bytes, headers: Any) -> WebSocket:
            return WebSocket(session, target, headers, message_bytes_max=1 << 20)

        async def handler(method: bytes, target: bytes, headers: Headers, body: bytes) -> Response:
            raise AssertionError

        busy, busy_wire = open_socket()
        busy.data_received(EMPTY_PING * COUNT)
        protocol, wire = HttpProtocol(handler, upgrade=upgrade), Wire()
        protocol.connection_made(wire)
        lines = b"".join(name + b": " + value + b"\r\n" for name, value in UPGRADE)
        protocol.data_received(b"GET /v3/watch HTTP/1.1\r\n" + lines + b"\r\n")
        assert not wire.is_reading_now
        while not sockets:
            await asyncio.sleep(0)
        assert wire.is_reading_now or wire.is_aborted
        assert not busy_wire.is_reading_now, "it still has frames left"
        busy.connection_lost(None)

    asyncio.run(main())
