"""TLS contexts of listeners and dialers, from files that may change while the member runs.

A certificate is renewed by replacing its files: each new connection gets them as they are, as with etcd (GetCertificate). Files
that do not load, half-written for example, leave the previous ones in use, with one warning.

At start there are no previous ones: a file that is unreadable or does not match is a ConfigError that names it. A certificate
that has expired is used, with a warning, as by etcd: a cluster whose certificates have all expired comes back once their files
are replaced, without another restart.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from tercet.errors import ConfigError
from tercet.log_fields import fields
from tercet.server.tls.cipher_suites import openssl_ciphers
from tercet.server.tls.files import TlsFiles
from tercet.server.tls.verification import NOT_ALLOWED, end_name_check, has_allowed_name

logger = logging.getLogger(__name__)
_VERSIONS = {"TLS1.2": ssl.TLSVersion.TLSv1_2, "TLS1.3": ssl.TLSVersion.TLSv1_3}
CLIENT_PROTOCOLS = ("h2", "http/1.1")
PEER_PROTOCOLS = ("http/1.1",)

Stamp = tuple[tuple[int, int, int] | None, ...]


class _Reloading:
    """The context of the files, rebuilt when they change."""

    def __init__(self, paths: Sequence[str], build: Callable[[], ssl.SSLContext]) -> None:
        self._paths = [path for path in paths if path]
        self._build = build
        self._stamp = self._stamps()
        self.current = build()

    def refresh(self) -> ssl.SSLContext:
        stamp = self._stamps()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self.current = self._build()
            except ConfigError as error:
                logger.warning("changed TLS files do not load; keeping the previous ones", extra=fields(error=str(error)))
        return self.current

    def _stamps(self) -> Stamp:
        return tuple(_stamp(path) for path in self._paths)


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


class ServerTls:
    """The TLS of a listener. Raises ConfigError."""

    def __init__(self, files: TlsFiles, protocols: Sequence[str] = CLIENT_PROTOCOLS) -> None:
        files.check_pairs()
        if files.is_empty:
            raise ConfigError("KeyFile and CertFile are not presented")
        self.files = files
        self._reloading = _Reloading((files.cert, files.key, files.ca), lambda: server_context(files, protocols))

    def context(self) -> ssl.SSLContext:
        """For one connection: call it for each."""
        return self._reloading.refresh()


class ClientTls:
    """The TLS of a dialer. Raises ConfigError. server_name: see DialTls."""

    def __init__(self, files: TlsFiles) -> None:
        files.check_pairs()
        self.server_name = ""
        self._files = files
        cert, key = _presented(files)
        self._reloading = _Reloading((cert, key, files.ca), lambda: client_context(files))

    def context(self) -> ssl.SSLContext:
        """For one connection: call it for each."""
        return self._reloading.refresh()

    def reason(self, connection: ssl.SSLObject) -> str:
        """Why to refuse the server of a connection after the handshake, or "". etcd applies the allowed names to both sides."""
        end_name_check(self._files, connection)
        return "" if has_allowed_name(self._files, connection.getpeercert() or {}) else NOT_ALLOWED


def server_context(files: TlsFiles, protocols: Sequence[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _bound(context, files)
    context.set_alpn_protocols(list(protocols))
    _load_pair(context, files.cert, files.key, f"{files.prefix}cert-file", f"{files.prefix}key-file")
    if files.requires_client_cert:
        context.verify_mode = ssl.CERT_REQUIRED
        _load_ca(context, files, ssl.Purpose.CLIENT_AUTH)
        _check_names(context, files, ssl.Purpose.CLIENT_AUTH)
    if files.crl:
        # OpenSSL's tickets hold the client's certificate without those above it, which may be revoked, too.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    return context


def _check_names(context: ssl.SSLContext, files: TlsFiles, purpose: ssl.Purpose) -> None:
    """Let the handshake refuse names that are not allowed."""
    if not files.names_are_restricted:
        return
    from tercet.server.tls.handshake_check import HandshakeCheck  # takes 40 ms to import

    refusing = ssl.SSLContext(context.protocol)
    _load_ca(refusing, files, purpose)
    HandshakeCheck(context, refusing, lambda certificate: "" if has_allowed_name(files, certificate) else NOT_ALLOWED)


def client_context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _bound(context, files)
    cert, key = _presented(files)
    if cert:
        name = "client-" if files.client_cert else ""
        _load_pair(context, cert, key, f"{files.prefix}{name}cert-file", f"{files.prefix}{name}key-file")
    if files.is_self_signed:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        _load_ca(context, files, ssl.Purpose.SERVER_AUTH)
        _check_names(context, files, ssl.Purpose.SERVER_AUTH)
    return context


def _presented(files: TlsFiles) -> tuple[str, str]:
    """Certificate and key that a dialer presents."""
    return (files.client_cert, files.client_key) if files.client_cert else (files.cert, files.key)


def _bound(context: ssl.SSLContext, files: TlsFiles) -> None:
    context.minimum_version = _VERSIONS[files.min_version or "TLS1.2"]
    if files.max_version:
        context.maximum_version = _VERSIONS[files.max_version]
    # Go accepts an intermediate certificate in the CA file as a root; without this flag OpenSSL requires its issuer.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    ciphers = openssl_ciphers(files.cipher_suites)
    if ciphers:
        try:
            context.set_ciphers(ciphers)
        except ssl.SSLError as error:
            raise ConfigError(f"--cipher-suites: OpenSSL has none of {', '.join(files.cipher_suites)}") from error


def _load_pair(context: ssl.SSLContext, cert: str, key: str, cert_flag: str, key_flag: str) -> None:
    certificate = _read(cert_flag, cert)
    _read(key_flag, key)
    try:
        context.load_cert_chain(cert, key, password=lambda: _refuse_encrypted(key_flag, key))
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(
                f"the key in {key} (--{key_flag}) does not match the certificate in {cert} (--{cert_flag})"
            ) from error
        if b"-----BEGIN CERTIFICATE-----" not in certificate:
            raise ConfigError(f"no PEM certificate in {cert} (--{cert_flag})") from error
        raise ConfigError(f"{cert} (--{cert_flag}) and {key} (--{key_flag}) do not load: {_reason(error)}") from error
    expired = expiry(certificate)
    if expired is not None and expired < datetime.now(UTC):
        shown = fields({cert_flag: cert}, expired_at=f"{expired:%Y-%m-%dT%H:%M:%SZ}")
        logger.warning("the certificate has expired; others refuse it until its files are replaced", extra=shown)


def _refuse_encrypted(flag: str, path: str) -> str:
    raise ConfigError(f"the key in {path} (--{flag}) is encrypted with a password; it must not be")


def _load_ca(context: ssl.SSLContext, files: TlsFiles, purpose: ssl.Purpose) -> None:
    if not files.ca:
        context.load_default_certs(purpose)
        return
    flag = f"{files.prefix}trusted-ca-file"
    _read(flag, files.ca)
    try:
        context.load_verify_locations(cafile=files.ca)
    except ssl.SSLError as error:
        raise ConfigError(f"no PEM certificate in {files.ca} (--{flag}): {_reason(error)}") from error


def _read(flag: str, path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(1 << 20)
    except OSError as error:
        raise ConfigError(f"open {path}: {os.strerror(error.errno or 0).lower()} (--{flag})") from error


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()


def expiry(pem: bytes) -> datetime | None:
    """The expiry of the first certificate of a file; None if it does not parse."""
    from cryptography import x509  # takes 40 ms to import

    try:
        return x509.load_pem_x509_certificates(pem)[0].not_valid_after_utc
    except ValueError:
        return None
