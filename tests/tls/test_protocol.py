"""TLS transports under both event loops: large transfers, flow control, the end of a connection."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest
import uvloop

from tercet.tls import TlsProtocol
from tercet.tls.protocol import _turns
from tercet.tls.turns import TURN_SECONDS
from tests.server.certificates import Authority
from tests.support.waiting import scaled

Scenario = Callable[[], Awaitable[None]]
MEGABYTE = 1 << 20


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Scenario], None]:
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def run_in_loop(scenario: Scenario) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(scaled(20)):
                await scenario()

        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(bounded())

    return run_in_loop


class Recorder(asyncio.Protocol):
    """Records what it receives; echoes it if `echo`."""

    def __init__(self, echo: bool = False) -> None:
        self.echo = echo
        self.received = 0
        self.is_paused = False
        self.was_paused = False
        self.ends: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        if self.echo:
            self.transport.write(data)

    def pause_writing(self) -> None:
        self.is_paused = self.was_paused = True

    def resume_writing(self) -> None:
        self.is_paused = False

    def eof_received(self) -> bool:
        self.ends.append("eof")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.ends.append("lost")


async def listening(authority: Authority, protocol: Recorder) -> tuple[asyncio.AbstractServer, int]:
    pair = authority.sign("s", "server", "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)

    def rejected(transport: asyncio.BaseTransport, reason: str) -> None:
        raise AssertionError(reason)

    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: TlsProtocol(context, lambda: protocol, on_rejected=rejected), "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


async def connect(authority: Authority, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    context = ssl.create_default_context(cafile=authority.path)
    return await asyncio.open_connection("127.0.0.1", port, ssl=context)


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def test_megabytes_go_both_ways(run: Callable[[Scenario], None], tmp_path: Path) -> None:
    authority = Authority(tmp_path)

    async def scenario() -> None:
        protocol = Recorder(echo=True)
        server, port = await listening(authority, protocol)
        reader, writer = await connect(authority, port)
        data = bytes(range(256)) * (4 * MEGABYTE // 256)
        writer.write(data)
        assert await reader.readexactly(len(data)) == data
        writer.close()
        await until(lambda: protocol.ends)
        assert protocol.ends[-1] == "lost"
        server.close()

    run(scenario)


def test_many_clients_at_once_wait_for_their_turn(run: Callable[[Scenario], None], tmp_path: Path) -> None:
    """One of them disconnects while it waits."""
    authority = Authority(tmp_path)

    async def scenario() -> None:
        protocol = Recorder()
        server, port = await listening(authority, protocol)
        turns = _turns()
        turns._spent = TURN_SECONDS  # as after many handshakes in this turn
        turns._handshakes.append(lambda: None)
        clients = [asyncio.create_task(connect(authority, port)) for _ in range(8)]
        _, gone = await asyncio.open_connection("127.0.0.1", port)
        gone.write(b"\x16\x03\x01")
        await until(lambda: len(turns._handshakes) == 10)
        gone.transport.abort()
        turns._schedule()
        connected = await asyncio.gather(*clients)
        await until(lambda: not turns._handshakes)
        for _, writer in connected:
            writer.write(b"ping")
        await until(lambda: protocol.received == 8 * 4)
        for _, writer in connected:
            writer.close()
        server.close()

    run(scenario)


def test_what_arrives_waits_while_the_turn_is_spent(run: Callable[[Scenario], None], tmp_path: Path) -> None:
    """Reading may be paused and resumed by the protocol meanwhile, and one of the connections is aborted."""
    authority = Authority(tmp_path)

    async def scenario() -> None:
        protocol = Recorder()
        server, port = await listening(authority, protocol)
        _, writer = await connect(authority, port)
        _, gone = await connect(authority, port)
        turns = _turns()
        await until(lambda: not turns._is_scheduled)
        turns._spent = TURN_SECONDS  # as after many records in this turn
        writer.write(b"x" * MEGABYTE)
        gone.write(b"y")
        # A client has connected before the server has read the end of its handshake.
        await until(lambda: len(turns._waiting) + len(turns._handshakes) == 2)
        protocol.transport.pause_reading()
        protocol.transport.resume_reading()
        await asyncio.sleep(0.02)
        assert protocol.received == 0
        gone.transport.abort()
        turns._schedule()
        await until(lambda: MEGABYTE <= protocol.received <= MEGABYTE + 1)
        writer.close()
        server.close()

    run(scenario)


def test_a_slow_reader_pauses_the_protocol_and_gets_everything(run: Callable[[Scenario], None], tmp_path: Path) -> None:
    """The client is the ssl module's socket: uvloop's own TLS drops data that it has not delivered at close_notify."""
    authority = Authority(tmp_path)

    async def scenario() -> None:
        protocol = Recorder()
        server, port = await listening(authority, protocol)
        context = ssl.create_default_context(cafile=authority.path)
        client = await asyncio.to_thread(blocking_connect, port, context)
        await until(lambda: hasattr(protocol, "transport"))
        written = 0
        while not protocol.is_paused:
            protocol.transport.write(b"x" * MEGABYTE)
            written += MEGABYTE
            await asyncio.sleep(0)
        drained = asyncio.ensure_future(asyncio.to_thread(read_all, client))
        await until(lambda: not protocol.is_paused)
        protocol.transport.write(b"x" * MEGABYTE)
        protocol.transport.close()
        assert await drained == written + MEGABYTE
        server.close()

    run(scenario)


def blocking_connect(port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", port), timeout=scaled(10))
    return context.wrap_socket(plain, server_hostname="127.0.0.1")


def read_all(client: ssl.SSLSocket) -> int:
    total = 0
    with client:
        while data := client.recv(MEGABYTE):
            total += len(data)
    return total


def test_paused_reading_delivers_nothing_until_it_resumes(run: Callable[[Scenario], None], tmp_path: Path) -> None:
    authority = Authority(tmp_path)

    async def scenario() -> None:
        protocol = Recorder(echo=True)
        server, port = await listening(authority, protocol)
        reader, writer = await connect(authority, port)
        await until(lambda: hasattr(protocol, "transport"))
        protocol.transport.pause_reading()
        writer.write(b"one")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await reader.readexactly(3)
        assert protocol.received == 0
        protocol.transport.resume_reading()
        assert await reader.readexactly(3) == b"one"
        writer.close()
        server.close()

    run(scenario)


def test_an_abort_ends_the_connection_once(run: Callable[[Scenario], None], tmp_path: Path) -> None:
    authority = Authority(tmp_path)

    async def scenario() -> None:
        protocol = Recorder()
        server, port = await listening(authority, protocol)
        reader, writer = await connect(authority, port)
        await until(lambda: hasattr(protocol, "transport"))
        protocol.transport.abort()
        protocol.transport.write(b"too late")
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError, ssl.SSLError)):
            await reader.readexactly(1)
        await until(lambda: protocol.ends)
        assert protocol.ends == ["lost"]
        writer.close()
        server.close()

    run(scenario)
