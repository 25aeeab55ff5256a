"""The certificate expiry metric: by role, of the current files."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from tercet.server.metrics.exposition import text
from tercet.server.metrics.member import MemberMetrics
from tercet.server.tls.expiry import CertificateExpiry
from tercet.server.tls.files import TlsFiles, client_tls, peer_tls
from tests.config.configured import config
from tests.server.certificates import Authority

DAY = 86400.0


def days_from_now(seconds: float) -> float:
    return round((seconds - time.time()) / DAY, 2)


def test_every_configured_file_has_its_role(authority: Authority, tmp_path: Path) -> None:
    server, peer = authority.sign("server", "s", days=40), authority.sign("peer", "p", days=50)
    dialer = authority.sign("dialer", "d", days=60)
    client = TlsFiles(cert=server.cert, key=server.key, ca=authority.path, client_cert=dialer.cert, client_key=dialer.key)
    found = CertificateExpiry(client, TlsFiles(prefix="peer-", cert=peer.cert, key=peer.key, ca=authority.path))()
    assert {role: days_from_now(ends) for (role,), ends in found.items()} == {
        "server": 40,
        "server-client": 60,
        "client-ca": 1,
        "peer": 50,
        "peer-ca": 1,
    }


def test_without_tls_there_are_no_values() -> None:
    assert CertificateExpiry(TlsFiles(), TlsFiles(prefix="peer-"))() == {}


def test_a_renewed_file_is_read_and_a_broken_one_keeps_the_old_value(authority: Authority, tmp_path: Path) -> None:
    old, new = authority.sign("old", "s", days=2), authority.sign("new", "s", days=300)
    path = tmp_path / "server.pem"
    shutil.copy(old.cert, path)
    expiry = CertificateExpiry(TlsFiles(cert=str(path), key=old.key), TlsFiles())
    assert days_from_now(expiry()["server",]) == 2
    shutil.copy(new.cert, tmp_path / "next")
    os.replace(tmp_path / "next", path)
    assert days_from_now(expiry()["server",]) == 300
    path.write_bytes(path.read_bytes()[:100])
    assert days_from_now(expiry()["server",]) == 300
    path.unlink()
    assert days_from_now(expiry()["server",]) == 300


def test_the_earliest_expiry_of_a_chain_counts(authority: Authority, tmp_path: Path) -> None:
    pair = authority.sign("leaf", "s", days=90)
    chain = tmp_path / "chain.pem"
    chain.write_bytes(Path(pair.cert).read_bytes() + Path(authority.path).read_bytes())
    assert days_from_now(CertificateExpiry(TlsFiles(cert=str(chain)), TlsFiles())()["server",]) == 1


def test_expiry_is_part_of_the_metrics(authority: Authority) -> None:
    pair = authority.sign("server", "s", days=10)
    flags = [f"--{prefix}{flag}" for prefix in ("", "peer-") for flag in (f"cert-file={pair.cert}", f"key-file={pair.key}")]
    chosen = config(*flags, f"--trusted-ca-file={authority.path}")
    metrics = MemberMetrics(chosen)
    metrics.watch_certificates(client_tls(chosen), peer_tls(chosen))
    lines = [line for line in text(metrics.metrics.families()).splitlines() if "tls_certificate" in line]
    assert lines[1] == "# TYPE tercet_tls_certificate_expiry_timestamp_seconds gauge"
    values = dict(line.removeprefix("tercet_tls_certificate_expiry_timestamp_seconds").split(" ") for line in lines[2:])
    assert set(values) == {'{role="server"}', '{role="client-ca"}', '{role="peer"}'}
    assert days_from_now(float(values['{role="server"}'])) == pytest.approx(10, abs=0.02)
