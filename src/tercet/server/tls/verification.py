"""Checks of a client certificate after the handshake has verified its chain: CN, host names, revocation, a peer's address.

Each check returns "" or the reason to reject the connection.

Source: etcd client/pkg/transport: listener.go (AllowedCNs, AllowedHostnames), listener_tls.go (SANs, CRL).
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import socket
import ssl
from collections.abc import Mapping, Sequence
from typing import Any

from tercet.errors import ConfigError
from tercet.gotext.host_port import unmapped
from tercet.log_fields import fields
from tercet.server.tls.files import TlsFiles

logger = logging.getLogger(__name__)

Certificate = Mapping[str, Any]
"""In the form of SSLObject.getpeercert; empty without a certificate."""
NOT_ALLOWED = "client certificate authentication failed"


class PeerCheck:
    """The checks of one listener. While its CRL cannot be read, certificates are refused; as in etcd, the listener starts."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._revoked: frozenset[int] = frozenset()
        self._crl_stamp: tuple[int, int, int] | None = None
        if files.crl:
            try:
                self._refresh_crl()
            except ConfigError as error:
                shown = fields({f"{files.prefix or 'client-'}crl-file": files.crl}, error=str(error))
                logger.warning("the CRL cannot be read; connections with a certificate are refused until it can", extra=shown)

    def reason(self, connection: ssl.SSLObject) -> str:
        """The reason to reject a connection after its handshake, or ""."""
        end_name_check(self._files, connection)
        certificate: Certificate = connection.getpeercert() or {}
        if not certificate:
            return ""
        if not has_allowed_name(self._files, certificate):
            return NOT_ALLOWED
        if self._files.crl:
            try:
                self._refresh_crl()
            except ConfigError as error:
                return str(error)
            for sent in _sent_certificates(connection) or [certificate]:
                serial = int(str(sent["serialNumber"]), 16)
                if serial in self._revoked:
                    return f"transport: certificate serial {_as_bytes(serial).hex()} revoked"
        return ""

    async def address_reason(self, connection: ssl.SSLObject, remote: str) -> str:
        """The reason to reject a peer by its address, or "". May wait for DNS; call it if `checks_address`."""
        certificate: Certificate = connection.getpeercert() or {}
        return "" if await comes_from_its_address(certificate, remote) else mismatch(certificate, remote)

    @property
    def checks_address(self) -> bool:
        return self._files.check_san

    def _refresh_crl(self) -> None:
        """A time alone is not enough: files of container images often have the time 0, the new ones as the old."""
        try:
            found = os.stat(self._files.crl)
            stamp = found.st_ino, found.st_size, found.st_mtime_ns
            if stamp != self._crl_stamp:
                with open(self._files.crl, "rb") as file:
                    self._revoked = _revoked_serials(file.read(), self._files.crl)
                self._crl_stamp = stamp
        except OSError as error:
            raise ConfigError(f"open {self._files.crl}: {os.strerror(error.errno or 0).lower()}") from error


def _sent_certificates(connection: ssl.SSLObject) -> list[Certificate]:
    """All that the other side has sent, its own first: a CRL may revoke the authority in between that has signed it.

    Empty where Python does not tell: before 3.13 the method has a private name.
    """
    chain = getattr(getattr(connection, "_sslobj", None), "get_unverified_chain", None)
    return [one.get_info() for one in (chain() or ())] if chain is not None else []


def _as_bytes(serial: int) -> bytes:
    return serial.to_bytes((serial.bit_length() + 7) // 8, "big")


def _revoked_serials(content: bytes, path: str) -> frozenset[int]:
    from cryptography import x509  # takes 40 ms to import

    try:
        is_pem = b"-----BEGIN X509 CRL-----" in content
        crl = x509.load_pem_x509_crl(content) if is_pem else x509.load_der_x509_crl(content)
    except ValueError as error:
        raise ConfigError(f"no certificate revocation list in {path}") from error
    return frozenset(entry.serial_number for entry in crl)


def end_name_check(files: TlsFiles, connection: ssl.SSLObject) -> None:
    """The handshake is complete, and with it the check of names within it."""
    if files.names_are_restricted:
        from tercet.server.tls.handshake_check import end_check  # has been imported for the context

        end_check(connection)


def has_allowed_name(files: TlsFiles, certificate: Certificate) -> bool:
    """Whether the certificate has one of the allowed common names or host names, if there are any."""
    if files.allowed_cns:
        return common_name(certificate) in files.allowed_cns
    if files.allowed_hostnames:
        return any(names_host(certificate, host) for host in files.allowed_hostnames)
    return True


def common_name(certificate: Certificate) -> str:
    """The subject's CN; the last of several, as in Go; "" without one."""
    names = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    return str(names[-1]) if names else ""


def names_host(certificate: Certificate, host: str) -> bool:
    """Whether the certificate is valid for this host name or address."""
    for kind, value in certificate.get("subjectAltName", ()):
        if kind == "IP Address" and _same_address(str(value), host):
            return True
        if kind == "DNS" and _matches(str(value).lower(), host.lower()):
            return True
    return False


def _same_address(one: str, other: str) -> bool:
    try:
        return ipaddress.ip_address(unmapped(one.strip())) == ipaddress.ip_address(unmapped(other))
    except ValueError:
        return False


def _matches(pattern: str, host: str) -> bool:
    """A wildcard `*.example.com` matches one label."""
    if pattern.startswith("*."):
        label, _, rest = host.partition(".")
        return bool(label) and rest == pattern[2:]
    return pattern == host


async def comes_from_its_address(certificate: Certificate, remote: str) -> bool:
    """Whether a peer's address is among the SANs of its certificate; a certificate without SANs passes.

    Host names are resolved, so this may wait. A name also passes if the reverse lookup of the address gives it, and a wildcard
    if that ends like it.
    """
    names, addresses = alternative_names(certificate, "DNS"), alternative_names(certificate, "IP Address")
    if not names and not addresses:
        return True
    if any(_same_address(address, remote) for address in addresses):
        return True
    loop = asyncio.get_running_loop()
    for name in names:
        if name.startswith("*."):
            continue
        try:
            found = await loop.getaddrinfo(name, None)
        except (OSError, ValueError):  # a name that does not resolve, or that is none: with a label above 63 bytes
            continue
        if any(_same_address(str(entry[4][0]), remote) for entry in found):
            return True
    if not names:
        return False
    reverse = await loop.run_in_executor(None, _reverse_lookup, remote)
    return any(_names(name.lower(), found) for name in names for found in reverse)


def _reverse_lookup(address: str) -> list[str]:
    try:
        name, others, _ = socket.gethostbyaddr(unmapped(address))
    except (OSError, ValueError):
        return []
    return [found.lower().removesuffix(".") for found in (name, *others)]


def _names(alternative: str, found: str) -> bool:
    """Unlike in `_matches`, a wildcard stands for any number of labels, as in etcd."""
    return found.endswith(alternative[1:]) if alternative.startswith("*.") else found == alternative


def mismatch(certificate: Certificate, remote: str) -> str:
    """The reason to reject a peer that does not come from an address of its certificate, in etcd's words."""
    names, addresses = alternative_names(certificate, "DNS"), alternative_names(certificate, "IP Address")
    if not names:
        return f"x509: certificate is valid for {', '.join(addresses)}, not {remote}"
    quoted = " ".join(f'"{name}"' for name in names)
    return f'tls: "{remote}" does not match any of DNSNames [{quoted}]'


def alternative_names(certificate: Certificate, kind: str) -> list[str]:
    """kind: "DNS" or "IP Address"."""
    alternatives: Sequence[tuple[str, str]] = certificate.get("subjectAltName", ())
    return [value for each, value in alternatives if each == kind]
