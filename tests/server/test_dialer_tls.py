"""The TLS of a member that dials its peers: the newest files, and the allowed names."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, cast

import pytest
import uvloop

from tercet.errors import ConfigError
from tercet.gotext.urls import parse_urls
from tercet.http1.client import HttpClient
from tercet.http1.origin import parse_origin
from tercet.server.listener import open_addresses
from tercet.server.peer_listeners import PeerListeners
from tercet.server.tls.contexts import ClientTls, ServerTls
from tercet.server.tls.files import TlsFiles
from tercet.tls import TlsProtocol
from tests.config.configured import config
from tests.server.certificates import Authority, Pair
from tests.support.waiting import scaled


class Handshake:
    """An SSLObject after a handshake with a server of this certificate."""

    def __init__(self, common_name: str, *names: str) -> None:
        self._common_name = common_name
        self._names = names

    def getpeercert(self) -> dict[str, Any]:
        return {
            "subject": ((("commonName", self._common_name),),),
            "subjectAltName": tuple(("DNS", name) for name in self._names),
        }


@pytest.mark.parametrize(
    ("allowed", "is_accepted"),
    [
        ({}, True),
        ({"allowed_cns": ("node1", "node2")}, True),
        ({"allowed_cns": ("node2",)}, False),
        ({"allowed_hostnames": ("a.example.com",)}, True),
        ({"allowed_hostnames": ("example.com",)}, False),
    ],
)
def test_a_dialled_peer_must_have_an_allowed_name(allowed: dict[str, Any], is_accepted: bool) -> None:
    tls = ClientTls(TlsFiles(prefix="peer-", **allowed))
    reason = tls.reason(cast(ssl.SSLObject, Handshake("node1", "*.example.com")))
    assert reason == ("" if is_accepted else "client certificate authentication failed")


def test_the_ca_of_peers_must_load_though_no_peer_uses_tls_yet(tmp_path: Path) -> None:
    """As in etcd: without a certificate of its own a member can still dial peers with TLS."""
    with pytest.raises(ConfigError, match="open none: no such file or directory"):
        PeerListeners(config("--peer-trusted-ca-file=none"), tmp_path)


def test_a_dialer_uses_renewed_files(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair, renewed = authority.sign("old", "node1"), authority.sign("new", "node1")
    tls = ClientTls(TlsFiles(cert=pair.cert, key=pair.key))
    before = tls.context()
    assert tls.context() is before
    for old, new in ((pair.cert, renewed.cert), (pair.key, renewed.key)):
        Path(old).write_bytes(Path(new).read_bytes())
    assert tls.context() is not before


def refusals(
    start: Callable[[Callable[[], Coroutine[Any, Any, None]]], None], serving: TlsFiles, dialing: TlsFiles
) -> list[str]:
    """What the listener gives as the reason to reject a dialer, and the error that the dialer gets."""
    found: list[str] = []

    async def scenario() -> None:
        (address,) = open_addresses(parse_urls("https://127.0.0.1:0"))
        rejected = asyncio.Event()

        def reject(transport: asyncio.BaseTransport, reason: str) -> None:
            found.append(reason)
            rejected.set()

        context = ServerTls(serving).context()
        server = await asyncio.get_running_loop().create_server(
            lambda: TlsProtocol(context, asyncio.Protocol, on_rejected=reject), sock=address.socket
        )
        peers = HttpClient(ClientTls(dialing))
        with pytest.raises(ConnectionError) as refused:
            await peers.request(parse_origin(f"https://127.0.0.1:{address.port}"), "GET", "/version", [], timeout=scaled(30))
        async with asyncio.timeout(scaled(30)):
            await rejected.wait()
        found.append(str(refused.value))
        await peers.close()
        server.close()

    start(scenario)
    return found


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
@pytest.mark.parametrize("version", ["TLS1.2", "TLS1.3"])
def test_both_sides_learn_why_a_name_is_refused(tmp_path: Path, run: Callable[..., None], version: str) -> None:
    authority = Authority(tmp_path)
    one, other = authority.sign("one", "one", "127.0.0.1"), authority.sign("other", "other", "127.0.0.1")

    def files(pair: Pair, *allowed: str) -> TlsFiles:
        return TlsFiles(cert=pair.cert, key=pair.key, ca=authority.path, allowed_cns=allowed, max_version=version)

    def start(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
        run(scenario())

    ours, theirs = "client certificate authentication failed", "remote error: tls: bad certificate"
    assert refusals(start, files(one, "one"), files(other, "one")) == [ours, theirs], "the listener refuses"
    assert refusals(start, files(one, "one"), files(one, "two")) == [theirs, ours], "the dialer refuses"
