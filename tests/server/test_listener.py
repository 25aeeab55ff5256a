"""Dispatch of connections by their first bytes and by ALPN, under both event loops."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest
import uvloop

from tercet.errors import ConfigError
from tercet.gotext.urls import parse_urls
from tercet.server.listener import PREFACE, Listener, Services, log_loop_error, open_addresses
from tercet.server.tls.contexts import ClientTls, ServerTls
from tercet.server.tls.files import TlsFiles
from tests.server.certificates import Authority

Scenario = Callable[[], Awaitable[None]]


class Named(asyncio.Protocol):
    """Echoes what it receives, with its name in front."""

    def __init__(self, name: bytes, first: bytes) -> None:
        self.name = name
        self.first = first

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if self.first:
            self.data_received(self.first)

    def data_received(self, data: bytes) -> None:
        self.transport.write(self.name + b":" + data + b";")


SERVICES = Services(
    grpc=lambda first: Named(b"grpc", first),
    plain_http=lambda first: Named(b"plain", first),
    secure_http=lambda first: Named(b"secure", first),
)


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Scenario], None]:
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def run_in_loop(scenario: Scenario) -> None:
        async def bounded() -> None:
            asyncio.get_running_loop().set_exception_handler(log_loop_error)
            async with asyncio.timeout(10):
                await scenario()

        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(bounded())

    return run_in_loop


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def answers(port: int, *chunks: bytes, tls: ssl.SSLContext | None = None, until: bytes = b";") -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname="127.0.0.1" if tls else None)
    try:
        for chunk in chunks:
            writer.write(chunk)
            await asyncio.sleep(0.01)
        return await reader.readuntil(until)
    finally:
        writer.close()


def listening(
    urls: str = "http://127.0.0.1:0", services: Services = SERVICES, tls: ServerTls | None = None
) -> tuple[Listener, int]:
    (address,) = open_addresses(parse_urls(urls))
    return Listener(address, services, tls=tls), address.port


def test_first_bytes_select_the_protocol_without_tls(run: Callable[[Scenario], None]) -> None:
    async def scenario() -> None:
        listener, port = listening()
        await listener.start()
        assert await answers(port, PREFACE + b"more") == b"grpc:" + PREFACE + b"more;"
        assert await answers(port, PREFACE[:3], PREFACE[3:10], PREFACE[10:]) == b"grpc:" + PREFACE + b";"
        assert await answers(port, b"GET / HTTP/1.1\r\n") == b"plain:GET / HTTP/1.1\r\n;"
        assert await answers(port, b"PRI", b" / HTTP/1.1") == b"plain:PRI / HTTP/1.1;"
        assert await answers(port, b"x", b"y", until=b"y;") == b"plain:x;plain:y;"
        listener.stop()

    run(scenario)


def test_a_connection_for_a_protocol_that_is_not_served_is_closed(run: Callable[[Scenario], None]) -> None:
    async def scenario() -> None:
        listener, port = listening(services=Services(SERVICES.grpc, None, None))
        await listener.start()
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await answers(port, b"GET / HTTP/1.1\r\n")
        assert (await answers(port, PREFACE)).startswith(b"grpc:")
        listener.stop()

    run(scenario)


def test_connections_before_start_are_served_after_it(run: Callable[[Scenario], None]) -> None:
    async def scenario() -> None:
        listener, port = listening()
        early = asyncio.ensure_future(answers(port, b"GET early"))
        await asyncio.sleep(0.05)
        assert not early.done()
        await listener.start()
        assert await early == b"plain:GET early;"
        listener.stop()

    run(scenario)


def test_a_stopped_listener_keeps_open_connections(run: Callable[[Scenario], None]) -> None:
    async def scenario() -> None:
        listener, port = listening()
        await listener.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"one")
        await reader.readuntil(b";")
        listener.stop()
        writer.write(b"two")
        assert await reader.readuntil(b";") == b"plain:two;"
        with pytest.raises(OSError, match=r"refused|Connect call failed"):
            await asyncio.open_connection("127.0.0.1", port)
        writer.close()

    run(scenario)


def tls_of(authority: Authority, **rules: object) -> ServerTls:
    pair = authority.sign("s", "server", "127.0.0.1")
    return ServerTls(TlsFiles(cert=pair.cert, key=pair.key, **rules))  # type: ignore[arg-type]


def dialing(authority: Authority, *protocols: str, cn: str = "") -> ssl.SSLContext:
    pair = authority.sign("c", cn) if cn else None
    context = ClientTls(TlsFiles(ca=authority.path, cert=pair.cert if pair else "", key=pair.key if pair else "")).context()
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def test_alpn_selects_the_protocol_with_tls(run: Callable[[Scenario], None], authority: Authority) -> None:
    async def scenario() -> None:
        listener, port = listening("https://127.0.0.1:0", tls=tls_of(authority))
        await listener.start()
        assert await answers(port, b"x", tls=dialing(authority, "h2")) == b"grpc:x;"
        assert await answers(port, b"x", tls=dialing(authority, "http/1.1")) == b"secure:x;"
        assert await answers(port, b"x", tls=dialing(authority)) == b"secure:x;"
        listener.stop()

    run(scenario)


def test_one_address_serves_plain_and_tls_connections(run: Callable[[Scenario], None], authority: Authority) -> None:
    async def scenario() -> None:
        listener, port = listening("http://127.0.0.1:0,https://127.0.0.1:0", tls=tls_of(authority))
        await listener.start()
        silent = socket.create_connection(("127.0.0.1", port))  # says nothing and holds up nobody
        try:
            assert await answers(port, b"x", tls=dialing(authority, "h2")) == b"grpc:x;"
            assert await answers(port, b"x", tls=dialing(authority)) == b"secure:x;"
            assert await answers(port, PREFACE) == b"grpc:" + PREFACE + b";"
            assert await answers(port, b"GET /") == b"plain:GET /;"
        finally:
            silent.close()
            listener.stop()
        await asyncio.sleep(0)

    run(scenario)


def test_a_rejected_certificate_closes_the_connection_before_any_request(
    run: Callable[[Scenario], None], authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        tls = tls_of(authority, ca=authority.path, allowed_cns=("friend",))
        listener, port = listening("https://127.0.0.1:0", tls=tls)
        await listener.start()
        assert await answers(port, b"x", tls=dialing(authority, "h2", cn="friend")) == b"grpc:x;"
        with pytest.raises((asyncio.IncompleteReadError, OSError)):
            await answers(port, b"x", tls=dialing(authority, "h2", cn="stranger"))
        listener.stop()

    run(scenario)
    rejected = [one for one in caplog.records if one.message == "rejected connection on client endpoint"]
    assert rejected[-1].__dict__["fields"]["error"] == "client certificate authentication failed"


def test_a_handshake_that_fails_is_one_line_without_a_traceback(
    run: Callable[[Scenario], None], authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        listener, port = listening("https://127.0.0.1:0", tls=tls_of(authority))
        await listener.start()
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await answers(port, b"GET / HTTP/1.1\r\n\r\n")
        await asyncio.sleep(0.05)
        listener.stop()

    with caplog.at_level(logging.WARNING):
        run(scenario)
    assert all(record.exc_info is None for record in caplog.records)


def test_unix_sockets(run: Callable[[Scenario], None], tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("left behind")

    async def scenario() -> None:
        listener, _ = listening(f"unix://{path}")
        await listener.start()
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(b"GET /")
        assert await reader.readuntil(b";") == b"plain:GET /;"
        writer.close()
        listener.stop()

    run(scenario)


def test_a_failed_bind_has_gos_text_and_closes_the_other_sockets() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"^listen tcp 127.0.0.1:{port}: bind: address already in use$"):
            open_addresses(parse_urls(f"http://localhost:{port}"))
    with pytest.raises(ConfigError, match=r"^listen tcp 192.0.2.1:1: bind: cannot assign requested address$"):
        open_addresses(parse_urls(f"http://127.0.0.1:{port},http://192.0.2.1:1"))
    for address in open_addresses(parse_urls(f"http://127.0.0.1:{port}")):
        address.socket.close()
    with pytest.raises(ConfigError, match="invalid port"):
        open_addresses(parse_urls("http://127.0.0.1:99999"))


def test_a_port_is_shared_only_with_socket_reuse_port() -> None:
    (first,) = open_addresses(parse_urls("http://127.0.0.1:0"), reuse_port=True)
    urls = parse_urls(f"http://127.0.0.1:{first.port}")
    (second,) = open_addresses(urls, reuse_port=True)
    with pytest.raises(ConfigError, match="address already in use"):
        open_addresses(urls)
    first.socket.close()
    second.socket.close()


def test_tls_without_a_certificate_is_refused() -> None:
    (address,) = open_addresses(parse_urls("https://127.0.0.1:0"))
    with pytest.raises(ConfigError, match=r"cannot listen on TLS for 127.0.0.1:0: KeyFile and CertFile are not presented"):
        Listener(address, SERVICES)
    address.socket.close()
