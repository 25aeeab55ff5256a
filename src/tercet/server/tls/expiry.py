"""Expiry of the certificates that this member presents and trusts, for /metrics and alerts.

    tercet_tls_certificate_expiry_timestamp_seconds{role="server"} 1.795e+09

A file is read again when it has changed, as for new connections. Of several certificates in a file the earliest expiry counts:
one expired certificate invalidates the chain. If a changed file holds no certificate (half-written, for example), the previous
value stays, as the previous certificate stays in use.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from tercet.server.metrics.families import Labels
from tercet.server.tls.files import TlsFiles


class CertificateExpiry:
    """client, peer: the files of the two listeners."""

    def __init__(self, client: TlsFiles, peer: TlsFiles) -> None:
        self._files = {role: _FileExpiry(path) for role, path in _roles(client, peer).items()}

    def __call__(self) -> dict[Labels, float]:
        """Seconds since 1970 by role; a role without a readable certificate is left out."""
        found = {(role,): file.current() for role, file in self._files.items()}
        return {labels: expiry for labels, expiry in found.items() if expiry is not None}


def _roles(client: TlsFiles, peer: TlsFiles) -> Mapping[str, str]:
    """Files by role: server and peer are presented by the listeners, the -ca files verify the other side."""
    files = {
        "server": client.cert,
        "server-client": client.client_cert,
        "client-ca": client.ca,
        "peer": peer.cert,
        "peer-client": peer.client_cert,
        "peer-ca": peer.ca,
    }
    return {role: path for role, path in files.items() if path}


class _FileExpiry:
    """The expiry in one file, cached until the file changes."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._expiry: float | None = None

    def current(self) -> float | None:
        try:
            with open(self._path, "rb") as file:
                found = os.fstat(file.fileno())
                stamp = found.st_ino, found.st_size, found.st_mtime_ns
                if stamp != self._seen:
                    self._seen = stamp
                    self._expiry = _earliest(file.read(1 << 20)) or self._expiry
        except OSError:
            pass
        return self._expiry


def _earliest(pem: bytes) -> float | None:
    from cryptography import x509  # takes 40 ms to import

    try:
        return min(certificate.not_valid_after_utc.timestamp() for certificate in x509.load_pem_x509_certificates(pem))
    except ValueError:
        return None
