"""Connections to https peers: how long the TCP connection may take, and how long the TLS handshake after it."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, cast

import pytest
import uvloop

from tercet.http1.client import HttpClient
from tercet.http1.origin import parse_origin
from tests.peer import harness
from tests.peer.tls import FixedTls, contexts
from tests.support.waiting import until

DIAL_SECONDS = 1.0  # a TCP connection on loopback, while other processes have the processor


class Answering(asyncio.Protocol):
    """Answers any request with 200."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


@asynccontextmanager
async def gated_server(context: ssl.SSLContext, gate: asyncio.Event) -> AsyncIterator[str]:
    """Accepts connections, and reads from them, with TLS, from the moment on that `gate` is set."""
    loop = asyncio.get_running_loop()

    async def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):  # a handshake that fails
            await gate.wait()
            await loop.connect_accepted_socket(Answering, connection, ssl=context)
            await asyncio.Event().wait()

    async def accept() -> None:
        async with asyncio.TaskGroup() as connections:
            while True:
                connection, _ = await loop.sock_accept(listener)
                connections.create_task(serve(connection))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        accepting = loop.create_task(accept())
        try:
            yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            accepting.cancel()
            await asyncio.wait([accepting])


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await scenario()

    asyncio.run(bounded())
    uvloop.run(bounded())


def test_a_handshake_may_take_longer_than_a_dial(tmp_path: Path) -> None:
    """The peers of a member on a loaded host gave its handshakes up half done, and began them again, for minutes."""

    async def scenario() -> None:
        server, client = contexts(tmp_path, client_certificate=True)
        gate = asyncio.Event()
        peers = HttpClient(FixedTls(client), dial_timeout=DIAL_SECONDS)
        async with gated_server(server, gate) as url:
            asyncio.get_running_loop().call_later(1.5 * DIAL_SECONDS, gate.set)
            answer = await peers.request(parse_origin(url), "GET", "/version", [], timeout=30)
            assert (answer.status, answer.body) == (200, b"ok")
            await peers.close()

    run(scenario)


def test_a_peer_that_never_completes_a_handshake_is_given_up(tmp_path: Path) -> None:
    async def scenario() -> None:
        server, client = contexts(tmp_path, client_certificate=True)
        peers = HttpClient(FixedTls(client), handshake_timeout=0.1)
        async with gated_server(server, asyncio.Event()) as url:
            origin = parse_origin(url)
            with pytest.raises(TimeoutError, match=f"^no TLS handshake with {origin.authority} within 0.1 s$"):
                await peers.request(origin, "GET", "/version", [], timeout=30)
            assert not peers._open
            await peers.close()

    run(scenario)


def test_a_certificate_of_another_authority_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        _, client = contexts(tmp_path, client_certificate=True)
        other, _ = contexts(tmp_path / "other", client_certificate=True)
        gate = asyncio.Event()
        gate.set()
        peers = HttpClient(FixedTls(client))
        async with gated_server(other, gate) as url:
            with pytest.raises(ConnectionError, match=r"x509: certificate signed by unknown authority$"):
                await peers.request(parse_origin(url), "GET", "/version", [], timeout=30)
        assert not peers._open
        await peers.close()

    run(scenario)


def test_a_connection_lost_during_its_handshake_is_an_os_error(tmp_path: Path) -> None:
    async def scenario() -> None:
        _, client = contexts(tmp_path, client_certificate=True)
        peers = HttpClient(FixedTls(client))
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises((ConnectionError, ssl.SSLError)):
            await peers.request(parse_origin(url), "GET", "/version", [], timeout=30)
        assert not peers._open
        server.close()
        await peers.close()

    run(scenario)


@pytest.mark.parametrize("turns", range(12))
def test_a_client_closes_in_any_turn_of_a_dial(tmp_path: Path, turns: int) -> None:
    """The loop's TLS layer began a handshake on a transport that had just been closed, and raised out of a callback."""

    async def scenario() -> None:
        server, client = contexts(tmp_path, client_certificate=True)
        gate = asyncio.Event()
        gate.set()
        peers = HttpClient(FixedTls(client))
        async with gated_server(server, gate) as url:
            request = asyncio.ensure_future(peers.request(parse_origin(url), "GET", "/version", [], timeout=30))
            for _ in range(turns):
                await asyncio.sleep(0)
            await peers.close()
            with suppress(OSError, ssl.SSLError):
                await request
        await until(lambda: not peers._open)

    harness.run(scenario())
