"""When do the certificates end that this member shows and trusts? For /metrics, so that an alert comes before the refusals.

    tercet_tls_certificate_expiry_timestamp_seconds{role="server"} 1.795e+09

A file is read again when it has changed, as it is for new connections. Of a file with several certificates the one that ends
first counts: a chain is refused as soon as one of its links is. A changed file that holds none (half-written, say) leaves the
last answer standing, as it leaves the last certificate in use.

Nothing here decides anything: a member whose certificate has ended is told of it by `tls`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from tercet.server.metrics.families import Labels
from tercet.server.tls.files import TlsFiles


class CertificateExpiry:
    """client, peer: the TLS of the two sides, as it is in use."""

    def __init__(self, client: TlsFiles, peer: TlsFiles) -> None:
        self._files = {role: _Ends(path) for role, path in _roles(client, peer).items()}

    def __call__(self) -> dict[Labels, float]:
        """Seconds since 1970 by role; a role without a readable certificate is left out."""
        found = {(role,): file.look() for role, file in self._files.items()}
        return {labels: ends for labels, ends in found.items() if ends is not None}


def _roles(client: TlsFiles, peer: TlsFiles) -> Mapping[str, str]:
    """Which file plays which role. server and peer are shown by our listeners, the -ca check those of the other side."""
    files = {
        "server": client.cert,
        "server-client": client.client_cert,
        "client-ca": client.ca,
        "peer": peer.cert,
        "peer-client": peer.client_cert,
        "peer-ca": peer.ca,
    }
    return {role: path for role, path in files.items() if path}


class _Ends:
    """One file, looked at again when it is another one."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._ends: float | None = None

    def look(self) -> float | None:
        try:
            with open(self._path, "rb") as file:
                found = os.fstat(file.fileno())
                stamp = found.st_ino, found.st_size, found.st_mtime_ns
                if stamp != self._seen:
                    self._seen = stamp
                    self._ends = _first_end(file.read(1 << 20)) or self._ends
        except OSError:
            pass
        return self._ends


def _first_end(pem: bytes) -> float | None:
    from cryptography import x509  # 40 ms of start that a member without TLS does not pay

    try:
        return min(certificate.not_valid_after_utc.timestamp() for certificate in x509.load_pem_x509_certificates(pem))
    except ValueError:
        return None
