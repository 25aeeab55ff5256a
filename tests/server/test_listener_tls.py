"""TLS of a listener: ALPN, certificates that are refused, alerts and their lines of the log, the limit of a handshake."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from tercet.errors import ConfigError
from tercet.gotext.urls import parse_urls
from tercet.server.listener import PREFACE, Listener, open_addresses
from tercet.server.tls.contexts import ClientTls
from tercet.server.tls.files import TlsFiles
from tercet.tls import protocol as tls_protocol
from tercet.version import is_compiled
from tests.server.certificates import Authority
from tests.server.listening import SERVICES, Scenario, answers, dialing, listening, tls_of
from tests.support.waiting import scaled


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


def test_the_line_about_a_revoked_certificate_says_whose_it_is(
    run: Callable[[Scenario], None], authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    pair = authority.sign("revoked", "c", "c.example.com", "10.0.0.7")
    context = ssl.create_default_context(cafile=authority.path)
    context.load_cert_chain(pair.cert, pair.key)

    async def scenario() -> None:
        tls = tls_of(authority, ca=authority.path, crl=authority.revoke(pair.serial))
        listener, port = listening("https://127.0.0.1:0", tls=tls)
        await listener.start()
        with pytest.raises((asyncio.IncompleteReadError, OSError)):
            await answers(port, b"x", tls=context)
        listener.stop()

    run(scenario)
    (line,) = [record.__dict__["fields"] for record in caplog.records if "rejected connection" in record.message]
    assert (line["dns-names"], line["ip-addresses"]) == (["c.example.com"], ["10.0.0.7"])


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


def test_tls_without_a_certificate_is_refused() -> None:
    (address,) = open_addresses(parse_urls("https://127.0.0.1:0"))
    with pytest.raises(ConfigError, match=r"cannot listen on TLS for 127.0.0.1:0: KeyFile and CertFile are not presented"):
        Listener(address, SERVICES)
    address.socket.close()
