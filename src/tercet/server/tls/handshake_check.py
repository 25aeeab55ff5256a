"""Refuses certificates by name within the handshake: the other side gets the alert "bad certificate", as from Go.

Python's ssl verifies the chain of a certificate, and nothing else, within the handshake; after it, a connection can only be
closed. Here the names are checked when the other side's Certificate message has arrived, before OpenSSL looks at it. If they
are not allowed, the connection gets a context with OpenSSL's highest security level, for which hardly any key is strong enough:
OpenSSL refuses the certificate itself, and sends the alert that it sends for weak keys.

Nothing relies on it: what passes here (a key that is strong enough, a Python without the callback for messages, which has a
private name) is refused after the handshake by `PeerCheck` or `ClientTls`, without an alert.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable
from typing import Any, Final, cast

from cryptography import x509
from cryptography.x509.oid import NameOID

Certificate = dict[str, Any]
_HANDSHAKE: Final = 22
_CERTIFICATE: Final = 11
_HIGHEST_LEVEL: Final = "ALL:@SECLEVEL=5"


class CheckedConnection(ssl.SSLObject):
    """refusal: why the certificate is refused, "" if it is not. check: the context's check; None after the handshake."""

    refusal: str = ""
    check: HandshakeCheck | None = None


class HandshakeCheck:
    """The check of all connections of a context. reason: why to refuse a certificate, in the form of getpeercert; or "".

    refusing: trusts the same CAs, so that a certificate of an unknown one is refused as such.
    """

    def __init__(self, context: ssl.SSLContext, refusing: ssl.SSLContext, reason: Callable[[Certificate], str]) -> None:
        self._context = cast(Any, context)
        self._refusing = refusing
        self._reason = reason
        refusing.verify_mode = ssl.CERT_REQUIRED
        refusing.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        refusing.set_ciphers(_HIGHEST_LEVEL)
        context.sslobject_class = CheckedConnection
        self._context._msg_callback = self._message

    def _message(
        self, connection: ssl.SSLObject, direction: str, version: int, content: int, message: int, data: bytes
    ) -> None:
        """Called by OpenSSL for each message of a handshake, in both directions, and for each record."""
        if not isinstance(connection, CheckedConnection):
            return
        connection.check = self
        if direction == "read" and content == _HANDSHAKE and message == _CERTIFICATE:
            with contextlib.suppress(Exception):  # nobody has verified it so far; OpenSSL refuses what is none
                certificate = first_certificate(data, version == ssl.TLSVersion.TLSv1_3)
                reason = self._reason(certificate) if certificate else ""
                if reason:
                    connection.refusal = reason
                    connection.context = self._refusing

    def end(self, connection: ssl.SSLObject) -> None:
        """Stop the callbacks for a connection: setting its context again takes over the callback that the context has then."""
        context = self._context
        context._msg_callback = None
        connection.context = context
        context._msg_callback = self._message


def end_check(connection: ssl.SSLObject) -> None:
    """The handshake is complete."""
    if isinstance(connection, CheckedConnection) and connection.check is not None:
        connection.check.end(connection)
        connection.check = None


def first_certificate(message: bytes, is_tls13: bool) -> Certificate:
    """Names of the first certificate of a Certificate message, as SSLObject.getpeercert has them; empty without one."""
    at = 4  # type and length
    if is_tls13:
        at += 1 + message[at] if len(message) > at else 0  # certificate_request_context
    at += 3  # length of the list
    length = int.from_bytes(message[at : at + 3], "big")
    content = message[at + 3 : at + 3 + length]
    if not content:
        return {}
    parsed = x509.load_der_x509_certificate(content)
    names = parsed.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    alternatives: list[tuple[str, str]] = []
    with contextlib.suppress(x509.ExtensionNotFound):
        general = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        alternatives += [("DNS", name) for name in general.get_values_for_type(x509.DNSName)]
        alternatives += [("IP Address", str(address)) for address in general.get_values_for_type(x509.IPAddress)]
    return {
        "subject": tuple((("commonName", str(name.value)),) for name in names),
        "subjectAltName": tuple(alternatives),
    }
