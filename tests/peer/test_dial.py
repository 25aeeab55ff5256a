"""Connections to https peers: how long the TCP connection may take, and how long the TLS handshake after it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tercet.http1.client import HttpClient
from tercet.http1.origin import parse_origin
from tests.peer.tls import FixedTls, contexts

DIAL_SECONDS = 0.1


class Gated(asyncio.Protocol):
    """A server's side of a connection, with TLS from the moment on that `gate` is set; answers any request with 200."""

    def __init__(self, context: ssl.SSLContext, gate: asyncio.Event) -> None:
        self._context = context
        self._gate = gate
        self._requested = asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()
        task = asyncio.get_running_loop().create_task(self._begin(transport))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _begin(self, raw: asyncio.Transport) -> None:
        await self._gate.wait()
        if raw.is_closing():
            return
        encrypted = await asyncio.get_running_loop().start_tls(raw, self, self._context, server_side=True)
        await self._requested.wait()
        assert encrypted is not None
        encrypted.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    def data_received(self, data: bytes) -> None:
        self._requested.set()


@asynccontextmanager
async def gated_server(context: ssl.SSLContext, gate: asyncio.Event) -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    connections: list[Gated] = []

    def accept() -> Gated:
        connections.append(Gated(context, gate))
        return connections[-1]

    server = await loop.create_server(accept, "127.0.0.1", 0)
    try:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for connection in connections:
            for task in list(connection.tasks):
                task.cancel()


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await scenario()

    asyncio.run(bounded())


def test_a_handshake_may_take_longer_than_a_dial(tmp_path: Path) -> None:
    """The peers of a member on a loaded host gave its handshakes up half done, and began them again, for minutes."""

    async def scenario() -> None:
        server, client = contexts(tmp_path, client_certificate=True)
        gate = asyncio.Event()
        peers = HttpClient(FixedTls(client), dial_timeout=DIAL_SECONDS)
        async with gated_server(server, gate) as url:
            asyncio.get_running_loop().call_later(5 * DIAL_SECONDS, gate.set)
            answer = await peers.request(parse_origin(url), "GET", "/version", [], timeout=30)
            assert (answer.status, answer.body) == (200, b"ok")
            await peers.close()

    run(scenario)


def test_a_peer_that_never_completes_a_handshake_is_given_up(tmp_path: Path) -> None:
    async def scenario() -> None:
        server, client = contexts(tmp_path, client_certificate=True)
        peers = HttpClient(FixedTls(client), handshake_timeout=DIAL_SECONDS)
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
            with pytest.raises(ConnectionError, match=r"^certificate of 127\.0\.0\.1:\d+: "):
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
