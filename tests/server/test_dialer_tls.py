"""The TLS of a member that dials its peers: the newest files, and the allowed names."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any, cast

import pytest

from tercet.server.tls.contexts import ClientTls
from tercet.server.tls.files import TlsFiles
from tests.server.certificates import Authority


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


def test_a_dialer_uses_renewed_files(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair, renewed = authority.sign("old", "node1"), authority.sign("new", "node1")
    tls = ClientTls(TlsFiles(cert=pair.cert, key=pair.key))
    before = tls.context()
    assert tls.context() is before
    for old, new in ((pair.cert, renewed.cert), (pair.key, renewed.key)):
        Path(old).write_bytes(Path(new).read_bytes())
    assert tls.context() is not before
