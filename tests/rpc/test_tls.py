"""TLS on both sides, with and without client certificates, and failed handshakes."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import Callable, Sequence
from pathlib import Path

import grpc
import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tercet.errors import Code
from tercet.rpc import Channel, RpcError, UnaryCall, unary
from tercet.rpc.client_connection import lost_reason
from tests.rpc.harness import run, serving
from tests.support.certificates import identified


class Authority:
    """A certificate authority and the certificates that it signed, as files."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._sign(["ca"], self._key.public_key(), is_authority=True)
        (directory / "ca.crt").write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def _sign(self, names: Sequence[str], key: ec.EllipticCurvePublicKey, *, is_authority: bool = False) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")])
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names]))
            .issuer_name(issuer)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        )
        return identified(builder, key, self._key.public_key(), is_authority=is_authority).sign(self._key, hashes.SHA256())

    def issue(self, *names: str) -> tuple[str, str]:
        """(certificate file, key file)"""
        key = ec.generate_private_key(ec.SECP256R1())
        name = "-".join(names) or "nameless"
        certificate, private = self._directory / f"{name}.crt", self._directory / f"{name}.key"
        certificate.write_bytes(self._sign(names, key.public_key()).public_bytes(serialization.Encoding.PEM))
        private.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        return str(certificate), str(private)

    @property
    def file(self) -> str:
        return str(self._directory / "ca.crt")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


def server_context(authority: Authority, *, ask_clients: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("server"))
    context.set_alpn_protocols(["h2", "http/1.1"])
    if ask_clients:
        context.load_verify_locations(authority.file)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(authority: Authority, *, names: Sequence[str] | None = None, alpn: str = "h2") -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.file)
    context.set_alpn_protocols([alpn])
    if names is not None:
        context.load_cert_chain(*authority.issue(*names))
    return context


def whoami(call: UnaryCall, message: bytes) -> None:
    call.reply(repr((call.peer.common_name, call.peer.address.rpartition(":")[0])).encode())


def channel_to(port: int, context: ssl.SSLContext) -> Channel:
    return Channel("127.0.0.1", port, ssl=context, server_hostname="localhost")


@pytest.mark.parametrize("loop_factory", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_calls_over_tls_without_a_client_certificate_have_no_common_name(
    authority: Authority, loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def main() -> None:
        async with serving({"/test.Test/WhoAmI": unary(whoami)}, ssl=server_context(authority)) as (_, port):
            channel = channel_to(port, client_context(authority, names=["ignored"]))
            await channel.connect()
            assert await channel.unary("/test.Test/WhoAmI", b"") == b"(None, '127.0.0.1')"
            whole = bytes(range(256)) * 4096
            for _ in range(5):
                assert await channel.unary("/test.Test/Echo", whole) == whole
            await channel.close()

    run(main(), loop_factory)


def test_the_common_name_of_a_client_certificate(authority: Authority) -> None:
    async def main() -> None:
        context = server_context(authority, ask_clients=True)
        async with serving({"/test.Test/WhoAmI": unary(whoami)}, ssl=context) as (_, port):
            for names, shown in ((["alice"], "alice"), (["alice", "bob"], "bob"), ([], "")):
                channel = channel_to(port, client_context(authority, names=names))
                await channel.connect()
                assert await channel.unary("/test.Test/WhoAmI", b"") == f"({shown!r}, '127.0.0.1')".encode()
                await channel.close()
            without = channel_to(port, client_context(authority))
            with pytest.raises(RpcError) as error:
                await without.connect()
            assert error.value.code is Code.UNAVAILABLE

    run(main())


def test_a_server_that_requires_a_certificate_says_so(authority: Authority) -> None:
    """Its alert comes after the handshake has ended for the client. asyncio's servers do not send it; etcd's do."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context(authority).wrap_bio(to_client, to_server, server_hostname="localhost")
    server = server_context(authority, ask_clients=True).wrap_bio(to_server, to_client, server_side=True)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    with pytest.raises(ssl.SSLWantReadError):
        server.do_handshake()
    client.do_handshake()
    with pytest.raises(ssl.SSLError):
        server.do_handshake()
    with pytest.raises(ssl.SSLError) as alert:
        client.read()
    assert lost_reason(alert.value) == "tls: the server requires a client certificate"


def test_a_grpcio_client_over_tls(authority: Authority) -> None:
    async def main() -> None:
        async with serving(ssl=server_context(authority)) as (_, port):

            def client() -> None:
                roots = Path(authority.file).read_bytes()
                options = [("grpc.ssl_target_name_override", "localhost")]
                credentials = grpc.ssl_channel_credentials(roots)
                with grpc.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
                    assert channel.unary_unary("/test.Test/Echo")(b"hello") == b"hello"
                    assert list(channel.unary_stream("/test.Test/Count")(b"100"))[-1] == b"99"

            await asyncio.to_thread(client)

    run(main())


def test_an_untrusted_server_is_refused(authority: Authority) -> None:
    async def main() -> None:
        async with serving(ssl=server_context(authority)) as (_, port):
            for channel in (
                Channel("127.0.0.1", port, ssl=client_context(authority), server_hostname="elsewhere"),
                channel_to(port, ssl.create_default_context()),
            ):
                with pytest.raises(RpcError, match="certificate verify failed") as error:
                    await channel.connect()
                assert error.value.code is Code.UNAVAILABLE
                assert isinstance(error.value.reason, ssl.SSLCertVerificationError)
            with pytest.raises(RpcError, match="ALPN"):
                await channel_to(port, client_context(authority, alpn="http/1.1")).connect()

    run(main())
