"""Dispatch of connections by their first bytes and by ALPN, under both event loops."""

from __future__ import annotations

import asyncio
import resource
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest
import uvloop
from cryptography.x509.oid import ExtendedKeyUsageOID

from tercet.errors import ConfigError
from tercet.gotext.urls import parse_urls
from tercet.server.listener import PREFACE, Listener, Services, log_loop_error, open_addresses
from tercet.server.tls.contexts import ClientTls, ServerTls
from tercet.server.tls.files import TlsFiles
from tercet.tls import protocol as tls_protocol
from tercet.version import is_compiled
from tests.server.certificates import Authority
from tests.support.ports import free_port
from tests.support.waiting import scaled

Scenario = Callable[[], Awaitable[None]]


class Named(asyncio.Protocol):
    """Echoes what it receives, prefixed with its name."""

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
            async with asyncio.timeout(scaled(10)):
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
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for part in (b"x", b"y"):
            writer.write(part)
            assert await reader.readuntil(b";") == b"plain:" + part + b";"
        writer.close()
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


@pytest.mark.parametrize("endpoint", ["client", "peer"])
def test_clients_leave_descriptors_for_files_and_peers(
    run: Callable[[Scenario], None], endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        (address,) = open_addresses(parse_urls("http://127.0.0.1:0"))
        listener = Listener(address, SERVICES, endpoint=endpoint)
        await listener.start()
        monkeypatch.setattr(resource, "getrlimit", lambda which: (8, 8))
        if endpoint == "client":
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await answers(address.port, PREFACE)
        else:
            assert (await answers(address.port, PREFACE)).startswith(b"grpc:")
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


def test_a_bound_address_refuses_connections_until_it_listens(run: Callable[[Scenario], None]) -> None:
    async def scenario() -> None:
        (address,) = open_addresses(parse_urls("http://127.0.0.1:0"), listen=False)
        with pytest.raises(OSError, match=r"refused|Connect call failed"):
            await asyncio.open_connection("127.0.0.1", address.port)
        listener = Listener(address, SERVICES)
        await listener.start()
        assert await answers(address.port, b"GET") == b"plain:GET;"
        listener.stop()

    run(scenario)


def test_an_address_taken_before_it_listens_is_a_config_error(run: Callable[[Scenario], None]) -> None:
    async def scenario() -> None:
        (first,) = open_addresses(parse_urls("http://127.0.0.1:0"), listen=False)
        (second,) = open_addresses(parse_urls(f"http://127.0.0.1:{first.port}"), listen=False)
        one, other = Listener(first, SERVICES), Listener(second, SERVICES)
        await one.start()
        with pytest.raises(ConfigError, match=f"listen tcp 127.0.0.1:{first.port}: bind: address already in use"):
            await other.start()
        one.stop()
        other.stop()

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


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("rules", [{"allowed_cns": ("friend",)}, {"allowed_hostnames": ("friend.example.com",)}])
def test_a_name_that_is_not_allowed_is_refused_with_an_alert(
    run: Callable[[Scenario], None],
    authority: Authority,
    caplog: pytest.LogCaptureFixture,
    version: ssl.TLSVersion,
    rules: dict[str, tuple[str, ...]],
) -> None:
    def context(cn: str) -> ssl.SSLContext:
        pair = authority.sign(cn, cn, f"{cn}.example.com")
        dialing = ssl.create_default_context(cafile=authority.path)
        dialing.maximum_version = version
        dialing.load_cert_chain(pair.cert, pair.key)
        return dialing

    async def scenario() -> None:
        listener, port = listening("https://127.0.0.1:0", tls=tls_of(authority, ca=authority.path, **rules))
        await listener.start()
        assert (await asyncio.to_thread(blocking_exchange, port, context("friend"))).startswith(b"secure:x")
        with pytest.raises(ssl.SSLError, match="ALERT_BAD_CERTIFICATE"):
            await asyncio.to_thread(blocking_exchange, port, context("stranger"))
        listener.stop()

    run(scenario)
    assert rejections(caplog) == ["client certificate authentication failed"]


def rejections(caplog: pytest.LogCaptureFixture, endpoint: str = "client") -> list[str]:
    message = f"rejected connection on {endpoint} endpoint"
    return [record.__dict__["fields"]["error"] for record in caplog.records if record.message == message]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("client", "alert", "reason"),
    [
        ("none", "CERTIFICATE_REQUIRED|HANDSHAKE_FAILURE", "tls: client didn't provide a certificate"),
        (
            "unknown",
            "UNKNOWN_CA",
            "tls: failed to verify certificate: x509: certificate signed by unknown authority",
        ),
        (
            "expired",
            "CERTIFICATE_EXPIRED",
            "tls: failed to verify certificate: x509: certificate has expired or is not yet valid",
        ),
        (
            "wrong usage",
            "UNSUPPORTED_CERTIFICATE",
            "tls: failed to verify certificate: x509: certificate specifies an incompatible key usage",
        ),
    ],
)
def test_a_failed_handshake_sends_an_alert_and_logs_the_reason(
    run: Callable[[Scenario], None],
    authority: Authority,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    client: str,
    alert: str,
    reason: str,
    version: ssl.TLSVersion,
) -> None:
    (tmp_path / "other").mkdir()
    pairs = {
        "unknown": lambda: Authority(tmp_path / "other", "other").sign("c", "client"),
        "expired": lambda: authority.sign("c", "client", days=-1),
        "wrong usage": lambda: authority.sign("c", "client", usages=(ExtendedKeyUsageOID.SERVER_AUTH,)),
    }
    context = ssl.create_default_context(cafile=authority.path)
    context.maximum_version = version
    if client in pairs:
        pair = pairs[client]()
        context.load_cert_chain(pair.cert, pair.key)

    async def scenario() -> None:
        listener, port = listening("https://127.0.0.1:0", tls=tls_of(authority, ca=authority.path))
        await listener.start()
        with pytest.raises(ssl.SSLError, match=alert):
            await asyncio.to_thread(blocking_exchange, port, context)
        listener.stop()

    run(scenario)
    assert rejections(caplog) == [reason]
    assert all(record.exc_info is None for record in caplog.records)


def blocking_exchange(port: int, context: ssl.SSLContext) -> bytes:
    """By the ssl module's sockets: the event loops hide alerts."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=scaled(5)) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
    ):
        secure.sendall(b"x")
        return secure.recv(100)


def test_plain_http_on_a_tls_port_is_logged(
    run: Callable[[Scenario], None], authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        listener, port = listening("https://127.0.0.1:0", tls=tls_of(authority))
        await listener.start()
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await answers(port, b"GET / HTTP/1.1\r\n\r\n")
        listener.stop()

    run(scenario)
    assert rejections(caplog) == ["tls: first record does not look like a TLS handshake"]


def test_a_client_that_rejects_our_certificate_is_logged(
    run: Callable[[Scenario], None], authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "other").mkdir()
    context = ssl.create_default_context(cafile=Authority(tmp_path / "other", "other").path)

    async def scenario() -> None:
        listener, port = listening("https://127.0.0.1:0", tls=tls_of(authority))
        await listener.start()
        with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
            await asyncio.to_thread(blocking_exchange, port, context)
        while not rejections(caplog):
            await asyncio.sleep(0.005)
        listener.stop()

    run(scenario)
    assert rejections(caplog) == ["remote error: tls: unknown certificate authority"]


def test_a_disconnect_during_the_handshake_is_not_logged(
    run: Callable[[Scenario], None], authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        listener, port = listening("https://127.0.0.1:0", tls=tls_of(authority))
        await listener.start()
        socket.create_connection(("127.0.0.1", port)).close()
        assert await answers(port, b"x", tls=dialing(authority, "h2")) == b"grpc:x;"
        listener.stop()

    run(scenario)
    assert rejections(caplog) == []


@pytest.mark.skipif(is_compiled(), reason="the limit is a constant of compiled code; runs on an editable install")
def test_a_handshake_has_a_limit(
    run: Callable[[Scenario], None],
    authority: Authority,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tls_protocol, "HANDSHAKE_SECONDS", 0.05)

    async def scenario() -> None:
        listener, port = listening("https://127.0.0.1:0", tls=tls_of(authority))
        await listener.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await reader.readexactly(1)
        writer.close()
        listener.stop()

    run(scenario)
    assert rejections(caplog) == ["tls: handshake timeout"]


@pytest.mark.parametrize(
    ("sans", "reason"),
    [
        (("127.0.0.1",), ""),
        ((), ""),
        (("localhost",), ""),
        (("10.9.9.9",), "x509: certificate is valid for 10.9.9.9, not 127.0.0.1"),
        (("nohost.invalid",), 'tls: "127.0.0.1" does not match any of DNSNames ["nohost.invalid"]'),
    ],
)
def test_a_peer_must_come_from_an_address_of_its_certificate(
    run: Callable[[Scenario], None],
    authority: Authority,
    caplog: pytest.LogCaptureFixture,
    sans: tuple[str, ...],
    reason: str,
) -> None:
    pair = authority.sign("c", "peer", *sans)
    context = ClientTls(TlsFiles(ca=authority.path, cert=pair.cert, key=pair.key)).context()

    async def scenario() -> None:
        tls = tls_of(authority, ca=authority.path, check_san=True)
        (address,) = open_addresses(parse_urls("https://127.0.0.1:0"))
        listener = Listener(address, SERVICES, tls=tls, endpoint="peer")
        await listener.start()
        try:
            assert await answers(address.port, b"x", tls=context) == b"secure:x;"
        except (asyncio.IncompleteReadError, OSError):
            assert reason
        listener.stop()

    run(scenario)
    assert rejections(caplog, "peer") == [reason] * bool(reason)


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
        assert not path.exists()
        listener.stop()

    run(scenario)


def test_a_unix_socket_that_another_process_has_bound_since_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    (ours,) = open_addresses(parse_urls(f"unix://{path}"))
    (theirs,) = open_addresses(parse_urls(f"unix://{path}"))
    ours.close()
    assert path.is_socket()
    theirs.close()
    assert not path.exists()
    with pytest.raises(ConfigError):
        open_addresses(parse_urls(f"unix://{path},http://192.0.2.1:1"))
    assert not path.exists()


def test_an_ipv4_mapped_address_is_bound_as_ipv4() -> None:
    (address,) = open_addresses(parse_urls("http://[::ffff:127.0.0.1]:0"))
    with address.socket, socket.create_connection(("127.0.0.1", address.port)):
        pass


def test_a_failed_bind_has_gos_text_and_closes_the_other_sockets() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port()))
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
