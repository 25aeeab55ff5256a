"""TLS contexts: verification, changed files, and files that do not load."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from tercet.errors import ConfigError
from tercet.gotext.urls import parse_urls
from tercet.server.tls.auto_tls import with_self_signed
from tercet.server.tls.contexts import CLIENT_PROTOCOLS, ClientTls, ServerTls
from tercet.server.tls.files import TlsFiles, client_tls, peer_tls
from tercet.server.tls.handshake_check import HandshakeCheck, first_certificate
from tercet.server.tls.verification import NOT_ALLOWED, PeerCheck, comes_from_its_address, common_name, names_host
from tests.config.configured import config
from tests.server.certificates import Authority, Pair
from tests.server.handshakes import handshake


def serving(pair: Pair, **more: object) -> TlsFiles:
    return TlsFiles(cert=pair.cert, key=pair.key, **more)  # type: ignore[arg-type]


def trusting(authority: Authority, pair: Pair | None = None) -> ssl.SSLContext:
    files = TlsFiles(ca=authority.path, cert=pair.cert if pair else "", key=pair.key if pair else "")
    return ClientTls(files).context()


def test_a_client_that_trusts_the_ca_connects(authority: Authority) -> None:
    tls = ServerTls(serving(authority.sign("s", "server", "127.0.0.1")))
    server, client = handshake(tls.context(), trusting(authority))
    assert server.version() == client.version() == "TLSv1.3"


def test_a_client_checks_the_address(authority: Authority) -> None:
    tls = ServerTls(serving(authority.sign("s", "server", "10.0.0.1")))
    with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
        handshake(tls.context(), trusting(authority))


@pytest.mark.parametrize("offered", [["h2"], ["http/1.1"], ["h2", "http/1.1"], ["other"]])
def test_alpn_prefers_http2(authority: Authority, offered: list[str]) -> None:
    tls = ServerTls(serving(authority.sign("s", "server", "127.0.0.1")), CLIENT_PROTOCOLS)
    client = trusting(authority)
    client.set_alpn_protocols(offered)
    server, _ = handshake(tls.context(), client)
    assert server.selected_alpn_protocol() == next((name for name in CLIENT_PROTOCOLS if name in offered), None)


def test_a_trusted_ca_requires_client_certificates(authority: Authority, tmp_path: Path) -> None:
    tls = ServerTls(serving(authority.sign("s", "server", "127.0.0.1"), ca=authority.path))
    client = authority.sign("c", "client")
    server, _ = handshake(tls.context(), trusting(authority, client))
    assert common_name(server.getpeercert() or {}) == "client"
    with pytest.raises(ssl.SSLError, match=r"(?i)peer did not return a certificate"):
        handshake(tls.context(), trusting(authority))
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other").sign("c", "client")
    with pytest.raises(ssl.SSLError, match=r"(?i)certificate verify failed"):
        handshake(tls.context(), trusting(authority, stranger))


def test_tls_versions_are_limited(authority: Authority) -> None:
    pair = authority.sign("s", "server", "127.0.0.1")
    server, _ = handshake(ServerTls(serving(pair, max_version="TLS1.2")).context(), trusting(authority))
    assert server.version() == "TLSv1.2"
    old = trusting(authority)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        handshake(ServerTls(serving(pair, min_version="TLS1.3")).context(), old)


def test_cipher_suites_by_gos_names(authority: Authority) -> None:
    pair = authority.sign("s", "server", "127.0.0.1")
    suites = ("TLS_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384")
    tls = ServerTls(serving(pair, cipher_suites=suites, max_version="TLS1.2"))
    server, _ = handshake(tls.context(), trusting(authority))
    assert server.cipher()[0] == "ECDHE-ECDSA-AES256-GCM-SHA384"  # type: ignore[index]
    with pytest.raises(ConfigError, match='unexpected TLS cipher suite "x"'):
        ServerTls(serving(pair, cipher_suites=("x",)))
    with pytest.raises(ConfigError, match="OpenSSL has none of TLS_RSA_WITH_RC4_128_SHA"):
        ServerTls(serving(pair, cipher_suites=("TLS_RSA_WITH_RC4_128_SHA",)))


# Files that change


def replaced(old: Pair, new: Pair) -> None:
    """Atomically: written beside, then renamed."""
    for source, target in ((new.key, old.key), (new.cert, old.cert)):
        shutil.copy(source, target + ".new")
        os.rename(target + ".new", target)


def shown_serial(tls: ServerTls, authority: Authority) -> int:
    _, client = handshake(tls.context(), trusting(authority))
    return int(client.getpeercert()["serialNumber"], 16)  # type: ignore[index, arg-type]


def test_a_new_certificate_is_used_for_new_connections(authority: Authority) -> None:
    old = authority.sign("s", "server", "127.0.0.1")
    tls = ServerTls(serving(old))
    assert shown_serial(tls, authority) == old.serial
    new = authority.sign("next", "server", "127.0.0.1")
    replaced(old, new)
    assert shown_serial(tls, authority) == new.serial


def test_an_expired_certificate_is_used_until_its_files_are_replaced(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    """Else a cluster whose certificates have all expired needs a restart after they have been renewed."""
    old = authority.sign("s", "server", "127.0.0.1", days=-1)
    tls, dialer = ServerTls(serving(old, ca=authority.path)), ClientTls(TlsFiles(ca=authority.path, cert=old.cert, key=old.key))
    warned = [(record.levelname, record.message, record.__dict__["fields"]["cert-file"]) for record in caplog.records]
    assert warned == [("WARNING", "the certificate has expired; others refuse it until its files are replaced", old.cert)] * 2
    good = authority.sign("good", "client")
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate has expired"):
        handshake(tls.context(), trusting(authority, good))
    new = authority.sign("next", "server", "127.0.0.1")
    replaced(old, new)
    server, client = handshake(tls.context(), dialer.context())
    assert {int(one.getpeercert()["serialNumber"], 16) for one in (server, client)} == {new.serial}  # type: ignore[index, arg-type]


def test_half_written_files_keep_the_old_certificate(authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    old = authority.sign("s", "server", "127.0.0.1")
    tls = ServerTls(serving(old))
    Path(old.cert).write_bytes(Path(old.cert).read_bytes()[:100])
    for _ in range(3):
        assert shown_serial(tls, authority) == old.serial
    assert len([one for one in caplog.records if "do not load" in one.message]) == 1
    new = authority.sign("next", "server", "127.0.0.1")
    replaced(old, new)
    assert shown_serial(tls, authority) == new.serial


def test_a_new_ca_is_used_for_new_connections(authority: Authority, tmp_path: Path) -> None:
    tls = ServerTls(serving(authority.sign("s", "server", "127.0.0.1"), ca=authority.path))
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other")
    client = other.sign("c", "client")
    with pytest.raises(ssl.SSLError):
        handshake(tls.context(), trusting(authority, client))
    trusted = trusting(authority, client)  # before its own view of the CA changes
    shutil.copy(other.path, authority.path)
    server, _ = handshake(tls.context(), trusted)
    assert server.getpeercert()


def test_a_dialer_presents_a_renewed_certificate(authority: Authority) -> None:
    tls = ServerTls(serving(authority.sign("s", "server", "127.0.0.1"), ca=authority.path))
    old = authority.sign("c", "client")
    dialer = ClientTls(TlsFiles(ca=authority.path, cert=old.cert, key=old.key))
    first = dialer.context()
    assert dialer.context() is first
    new = authority.sign("next", "client")
    replaced(old, new)
    server, _ = handshake(tls.context(), dialer.context())
    assert int(server.getpeercert()["serialNumber"], 16) == new.serial  # type: ignore[index, arg-type]


def test_a_dialer_can_have_its_own_certificate(authority: Authority) -> None:
    server_pair, client_pair = authority.sign("s", "server", "127.0.0.1"), authority.sign("c", "client")
    files = serving(server_pair, ca=authority.path, client_cert=client_pair.cert, client_key=client_pair.key)
    server, _ = handshake(ServerTls(files).context(), ClientTls(files).context())
    assert int(server.getpeercert()["serialNumber"], 16) == client_pair.serial  # type: ignore[index, arg-type]


# Files that are wrong


def complaint(files: TlsFiles) -> str:
    with pytest.raises(ConfigError) as caught:
        ServerTls(files)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_bad_file_is_named_in_the_error(authority: Authority, tmp_path: Path) -> None:
    good, other = authority.sign("good", "s"), authority.sign("other", "s")
    none, text = str(tmp_path / "none"), str(tmp_path / "text")
    Path(text).write_text("not PEM")
    locked = authority.sign("locked", "s", password=b"secret")
    assert complaint(TlsFiles(cert=none, key=good.key)) == f"open {none}: no such file or directory (--cert-file)"
    assert complaint(TlsFiles(cert=good.cert, key=none)) == f"open {none}: no such file or directory (--key-file)"
    assert complaint(TlsFiles(cert=good.cert, key=none, prefix="peer-")).endswith("(--peer-key-file)")
    assert complaint(TlsFiles(cert=good.cert, key=str(tmp_path))).startswith(f"open {tmp_path}: is a directory")
    assert "does not match" in complaint(TlsFiles(cert=good.cert, key=other.key))
    assert complaint(TlsFiles(cert=text, key=good.key)) == f"no PEM certificate in {text} (--cert-file)"
    assert text in complaint(TlsFiles(cert=good.cert, key=text))
    assert "is encrypted with a password" in complaint(serving(locked))
    assert complaint(serving(good, ca=none)) == f"open {none}: no such file or directory (--trusted-ca-file)"
    assert f"no PEM certificate in {text} (--trusted-ca-file)" in complaint(serving(good, ca=text))
    assert complaint(TlsFiles(cert=good.cert)) == f"KeyFile and CertFile must both be present[key: , cert: {good.cert}]"
    assert complaint(TlsFiles()) == "KeyFile and CertFile are not presented"
    both = TlsFiles(cert="c", key="k", allowed_cns=("a",), allowed_hostnames=("b", "c"))
    assert complaint(both) == 'AllowedCNs and AllowedHostnames are mutually exclusive (cns=["a"], hostnames=["b" "c"])'


# Whose certificate


def reason(authority: Authority, client: Pair, **rules: object) -> str:
    """Of the check after the handshake; the one within it agrees where there is one."""
    pair = authority.sign("s", "server", "127.0.0.1")
    files = serving(pair, ca=authority.path, **rules)
    server, _ = handshake(ServerTls(serving(pair, ca=authority.path)).context(), trusting(authority, client))
    found = PeerCheck(files).reason(server)
    try:
        server, _ = handshake(ServerTls(files).context(), trusting(authority, client))
    except ssl.SSLCertVerificationError:
        assert found == NOT_ALLOWED
    else:
        assert PeerCheck(files).reason(server) == found != NOT_ALLOWED
    return found


def test_allowed_cns(authority: Authority) -> None:
    client = authority.sign("c", "etcd-1")
    assert reason(authority, client) == ""
    assert reason(authority, client, allowed_cns=("etcd-1", "etcd-2")) == ""
    assert reason(authority, client, allowed_cns=("etcd",)) == "client certificate authentication failed"


def test_allowed_host_names(authority: Authority) -> None:
    client = authority.sign("c", "x", "*.peers.example", "10.0.0.1")
    for host in ("a.peers.example", "A.Peers.Example", "10.0.0.1"):
        assert reason(authority, client, allowed_hostnames=("no", host)) == ""
    for host in ("peers.example", "a.b.peers.example", "x", "10.0.0.2", ".peers.example"):
        assert reason(authority, client, allowed_hostnames=(host,)) != ""


def test_a_check_within_the_handshake_ends_with_it(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """What OpenSSL calls for each record would make every byte dearer."""
    calls: list[int] = []
    check = HandshakeCheck._message

    def counting(self: HandshakeCheck, *message: Any) -> None:
        calls.append(1)
        check(self, *message)

    monkeypatch.setattr(HandshakeCheck, "_message", counting)
    files = serving(authority.sign("s", "server", "127.0.0.1"), ca=authority.path, allowed_cns=("c",))
    context = ServerTls(files).context()
    for _ in range(2):
        server, client = handshake(context, trusting(authority, authority.sign("c", "c")))
        assert PeerCheck(files).reason(server) == ""
        assert calls
        calls.clear()
        client.write(b"x")
        assert server.read(1) == b"x"
        assert not calls
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(context, trusting(authority, authority.sign("c", "d")))


def test_certificate_messages_that_are_none() -> None:
    assert first_certificate(b"", True) == first_certificate(b"\x0b\0\0\x04\0\0\0\0", True) == {}
    assert first_certificate(b"\x0b\0\0\x03\0\0\0", False) == {}
    with pytest.raises(ValueError, match="parsing"):
        first_certificate(b"\x0b\0\0\x07\0\0\x04\0\0\x01x", False)


@pytest.mark.parametrize("der", [False, True])
def test_a_revoked_certificate_is_rejected(authority: Authority, der: bool) -> None:
    good, bad = authority.sign("good", "c"), authority.sign("bad", "c")
    crl = authority.revoke(bad.serial, der=der)
    assert reason(authority, good, crl=crl) == ""
    assert reason(authority, bad, crl=crl) == f"transport: certificate serial {hexadecimal(bad.serial)} revoked"


def hexadecimal(serial: int) -> str:
    """Of whole bytes."""
    text = f"{serial:x}"
    return text if len(text) % 2 == 0 else f"0{text}"


def test_certificates_of_a_revoked_authority_are_rejected(authority: Authority, tmp_path: Path) -> None:
    between, other = Authority(tmp_path, "between", authority), Authority(tmp_path, "other", authority)
    crl = authority.revoke(between.serial)
    bad, good = between.sign("bad", "c"), other.sign("good", "c")
    for pair, above in ((bad, between), (good, other)):
        with Path(pair.cert).open("a") as file:
            file.write(Path(above.path).read_text())
    assert reason(authority, good, crl=crl) == ""
    assert reason(authority, bad, crl=crl) == f"transport: certificate serial {hexadecimal(between.serial)} revoked"
    context = ServerTls(serving(good, ca=authority.path, crl=crl)).context()
    assert context.num_tickets == 0, "a session that is resumed by a ticket has no certificates above the client's"


def test_a_changed_crl_is_read_again(authority: Authority) -> None:
    client = authority.sign("c", "c")
    files = serving(authority.sign("s", "server", "127.0.0.1"), ca=authority.path, crl=authority.revoke())
    check = PeerCheck(files)
    server, _ = handshake(ServerTls(files).context(), trusting(authority, client))
    assert check.reason(server) == ""
    authority.revoke(client.serial)
    os.utime(files.crl, ns=(1, 1))
    assert "revoked" in check.reason(server)
    authority.revoke()
    os.utime(files.crl, ns=(1, 1))
    assert check.reason(server) == "", "changed, with the same time"
    os.remove(files.crl)
    assert "no such file" in check.reason(server)


def test_a_crl_with_the_time_0_is_read(authority: Authority) -> None:
    client = authority.sign("c", "c")
    crl = authority.revoke(client.serial)
    os.utime(crl, ns=(0, 0))
    assert "revoked" in reason(authority, client, crl=crl)


@pytest.mark.parametrize(("name", "text"), [("text", "no certificate revocation list"), ("none", "no such file")])
def test_a_crl_that_cannot_be_read_refuses_certificates_until_it_can(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, text: str
) -> None:
    """As in etcd, the listener starts, and a client that presents no certificate is served."""
    (tmp_path / "text").write_text("no")
    server = authority.sign("s", "server", "127.0.0.1")
    check = PeerCheck(serving(server, ca=authority.path, crl=str(tmp_path / name)))
    assert [record.message for record in caplog.records] == [
        "the CRL cannot be read; connections with a certificate are refused until it can"
    ]
    known, _ = handshake(ServerTls(serving(server, ca=authority.path)).context(), trusting(authority, authority.sign("c", "c")))
    assert text in check.reason(known)
    unknown, _ = handshake(ServerTls(serving(server)).context(), trusting(authority))
    assert check.reason(unknown) == ""
    os.replace(authority.revoke(), tmp_path / name)
    assert check.reason(known) == ""


@pytest.mark.parametrize(
    ("sans", "remote", "allowed"),
    [
        ((), "10.0.0.1", True),
        ((("IP Address", "10.0.0.1"),), "10.0.0.1", True),
        ((("IP Address", "10.0.0.2"),), "10.0.0.1", False),
        ((("DNS", "localhost"),), "127.0.0.1", True),
        ((("DNS", "localhost"),), "10.0.0.1", False),
        ((("DNS", "a" * 64 + ".example"), ("DNS", "localhost")), "127.0.0.1", True),
        ((("IP Address", "0:0:0:0:0:0:0:1"),), "::1", True),
    ],
)
def test_a_peers_address_is_checked_against_its_sans(sans: tuple[tuple[str, str], ...], remote: str, allowed: bool) -> None:
    assert asyncio.run(comes_from_its_address({"subjectAltName": sans}, remote)) is allowed


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("n1.peers.example", True),
        ("N1.Peers.example", True),
        ("alias.example", True),
        ("*.peers.example", True),
        ("*.example", True),
        ("n2.peers.example", False),
        ("*.n1.peers.example", False),
        ("peers.example", False),
    ],
)
def test_a_peers_address_may_be_looked_up_in_reverse(name: str, allowed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def lookup(address: str) -> tuple[str, list[str], list[str]]:
        assert address == "10.0.0.1"
        return "n1.peers.example.", ["alias.example"], [address]

    def nothing(*of: object, **more: object) -> None:
        raise socket.gaierror

    monkeypatch.setattr(socket, "gethostbyaddr", lookup)
    monkeypatch.setattr(socket, "getaddrinfo", nothing)
    certificate = {"subjectAltName": (("IP Address", "10.0.0.9"), ("DNS", name))}
    assert asyncio.run(comes_from_its_address(certificate, "::ffff:10.0.0.1")) is allowed


def test_host_names_and_cns_of_certificates() -> None:
    certificate = {"subjectAltName": (("DNS", "a.example"), ("IP Address", "1.2.3.4"), ("URI", "x:y"))}
    assert names_host(certificate, "A.example")
    assert not names_host(certificate, "b.example")
    assert not names_host({}, "a.example")


# From flags


def test_tls_files_follow_the_flags() -> None:
    found = config(
        *("--cert-file", "c", "--key-file", "k", "--trusted-ca-file", "ca", "--client-crl-file", "crl"),
        *("--peer-cert-file", "pc", "--peer-client-cert-file", "pcc", "--peer-cert-allowed-cn", "a,b"),
    )
    client, peer = client_tls(found), peer_tls(found)
    assert (client.cert, client.key, client.ca, client.crl, client.requires_client_cert) == ("c", "k", "ca", "crl", True)
    assert (peer.cert, peer.client_cert, peer.allowed_cns, peer.prefix) == ("pc", "pcc", ("a", "b"), "peer-")
    assert peer.check_san
    assert not peer_tls(config("--peer-skip-client-san-verification")).check_san


def test_auto_tls_generates_a_certificate_once(tmp_path: Path) -> None:
    urls = parse_urls("https://127.0.0.1:1,https://localhost:2")
    directory = str(tmp_path / "fixtures" / "peer")
    files = with_self_signed(TlsFiles(prefix="peer-"), directory, urls, years=1)
    key = Path(files.key).read_bytes()
    assert os.stat(files.key).st_mode & 0o777 == 0o600
    server, _ = handshake(ServerTls(files).context(), ClientTls(files).context())
    assert server.version()
    with pytest.raises(ConfigError, match="should be greater than 0"):
        with_self_signed(TlsFiles(), directory, urls, years=0)
    assert with_self_signed(TlsFiles(), directory, urls, years=1).key == files.key
    assert Path(files.key).read_bytes() == key
