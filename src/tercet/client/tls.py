"""A client's TLS configuration: CA certificates (`cacert`) and its own certificate (`cert`, `key`).

Error texts are those of Go's crypto/tls where etcdctl prints them.
"""

from __future__ import annotations

import logging
import os
import ssl
from dataclasses import dataclass

from tercet.errors import ConfigError

logger = logging.getLogger("tercet.client")


@dataclass(frozen=True)
class TLSFiles:
    """PEM files, "" for none. insecure_skip_verify: accept any server certificate, for tests only."""

    cacert: str = ""
    cert: str = ""
    key: str = ""
    insecure_skip_verify: bool = False

    def context(self) -> ssl.SSLContext:
        """A context for connections to members. Raises ConfigError that names the file and what is wrong with it."""
        if bool(self.cert) != bool(self.key):
            raise ConfigError(f"KeyFile and CertFile must both be present[key: {self.key}, cert: {self.cert}]")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["h2"])
        if self.cacert:
            self._load_cas(context)
        elif not self.insecure_skip_verify:
            context.load_default_certs()
        if self.cert:
            self._load_certificate(context)
        if self.insecure_skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def _load_cas(self, context: ssl.SSLContext) -> None:
        pem = _read_pem(self.cacert, "CERTIFICATE")
        try:
            context.load_verify_locations(cadata=pem)
        except ssl.SSLError as error:
            raise ConfigError(f"tls: cannot read the certificates in {self.cacert}: {error.reason}") from error

    def _load_certificate(self, context: ssl.SSLContext) -> None:
        _read_pem(self.cert, "CERTIFICATE")
        _read_pem(self.key, "PRIVATE KEY")
        try:
            # OpenSSL would prompt for the passphrase of an encrypted key; with an empty one it fails instead.
            context.load_cert_chain(self.cert, self.key, password="")
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise ConfigError("tls: private key does not match public key") from error
            raise ConfigError(f"tls: cannot use {self.cert} with {self.key}: {error.reason}") from error


def _read_pem(path: str, kind: str) -> str:
    what = "key" if kind == "PRIVATE KEY" else "certificate"
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            text = file.read()
    except OSError as error:
        action = "read" if isinstance(error, IsADirectoryError) else "open"  # Go opens a directory like a file
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(f"{action} {path}: {reason}") from error
    if f"{kind}-----" not in text:
        raise ConfigError(f"tls: failed to find any PEM data in {what} input")
    return text


class ReloadedTLS:
    """A context for each new connection: files are read again when they have changed, so that renewed certificates are used.

    While changed files cannot be used, as in the middle of a renewal, the last context stays in use.
    """

    def __init__(self, files: TLSFiles) -> None:
        """Raises ConfigError."""
        self._files = files
        self._read = self._state()
        self._context = files.context()

    def context(self) -> ssl.SSLContext:
        state = self._state()
        if state != self._read:
            try:
                self._context = self._files.context()
                self._read = state
            except ConfigError as error:
                logger.warning("certificates have changed and cannot be used; the last ones stay in use: %s", error)
        return self._context

    def _state(self) -> list[tuple[int, int, int] | None]:
        return [_state_of(path) for path in (self._files.cacert, self._files.cert, self._files.key) if path]


def _state_of(path: str) -> tuple[int, int, int] | None:
    """Changes when the file is written or replaced."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
