"""Usages of a certificate: cfssl's names and their X.509 bits and object identifiers.

signing, key encipherment     operations of the key     (extension keyUsage, critical)
server auth, client auth      roles                     (extension extendedKeyUsage)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from tercet.errors import ConfigError

SERVER, CLIENT = "server auth", "client auth"
CA_USAGES = ("cert sign", "crl sign")
TLS_USAGES = ("signing", "key encipherment", SERVER, CLIENT)  # cfssl's default

_BITS = {
    "signing": "digital_signature",
    "digital signature": "digital_signature",
    "content commitment": "content_commitment",
    "content committment": "content_commitment",  # cfssl's spelling
    "key encipherment": "key_encipherment",
    "key agreement": "key_agreement",
    "data encipherment": "data_encipherment",
    "cert sign": "key_cert_sign",
    "crl sign": "crl_sign",
    "encipher only": "encipher_only",
    "decipher only": "decipher_only",
}
_ROLES = {
    "any": ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    SERVER: ExtendedKeyUsageOID.SERVER_AUTH,
    CLIENT: ExtendedKeyUsageOID.CLIENT_AUTH,
    "code signing": ExtendedKeyUsageOID.CODE_SIGNING,
    "email protection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "s/mime": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "ipsec end system": ObjectIdentifier("1.3.6.1.5.5.7.3.5"),
    "ipsec tunnel": ObjectIdentifier("1.3.6.1.5.5.7.3.6"),
    "ipsec user": ObjectIdentifier("1.3.6.1.5.5.7.3.7"),
    "timestamping": ExtendedKeyUsageOID.TIME_STAMPING,
    "ocsp signing": ExtendedKeyUsageOID.OCSP_SIGNING,
    "microsoft sgc": ObjectIdentifier("1.3.6.1.4.1.311.10.3.3"),
    "netscape sgc": ObjectIdentifier("2.16.840.1.113730.4.1"),
}
_ALL_BITS = tuple(dict.fromkeys(_BITS.values()))


def check(usage: str) -> str:
    """Return `usage` if it is known. Raises ConfigError."""
    if usage not in _BITS and usage not in _ROLES:
        near = get_close_matches(usage, [*_BITS, *_ROLES], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known usages: {', '.join([*_BITS, *_ROLES])}"
        raise ConfigError(f"unknown usage: {usage!r}{hint}")
    return usage


def with_key_usage(usages: Sequence[str], algorithm: str) -> tuple[str, ...]:
    """`usages`, plus the key usages of TLS if there are only roles: signing, and key encipherment for RSA."""
    if any(usage in _BITS for usage in usages):
        return tuple(usages)
    return ("signing", *(["key encipherment"] if algorithm == "rsa" else []), *usages)


def key_usage(usages: Iterable[str]) -> x509.KeyUsage | None:
    """The keyUsage extension; None without such usages. Raises ConfigError."""
    bits = {_BITS[usage] for usage in usages if usage in _BITS}
    if not bits:
        return None
    try:
        return x509.KeyUsage(**{bit: bit in bits for bit in _ALL_BITS})
    except ValueError as error:  # encipher only and decipher only require key agreement
        raise ConfigError(f"conflicting usages: {error}") from error


def roles(usages: Iterable[str]) -> x509.ExtendedKeyUsage | None:
    """The extendedKeyUsage extension; None without such usages."""
    identifiers = list(dict.fromkeys(_ROLES[usage] for usage in usages if usage in _ROLES))
    return x509.ExtendedKeyUsage(identifiers) if identifiers else None


def usages_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """The usages of a certificate, by cfssl's names; an unknown role by its OID."""
    return (*_bit_names(certificate), *(_role_name(role) for role in roles_of(certificate) or ()))


def roles_of(certificate: x509.Certificate) -> list[ObjectIdentifier] | None:
    """The extended key usages; None without the extension, which allows all roles."""
    try:
        return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return None


def allows(certificate: x509.Certificate, role: str) -> bool:
    """Whether it is valid in the role `server auth` or `client auth`."""
    listed = roles_of(certificate)
    return listed is None or _ROLES[role] in listed or _ROLES["any"] in listed


def may_sign_certificates(certificate: x509.Certificate) -> bool:
    """Whether its key usage allows signing certificates; True without the extension."""
    try:
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        return True


def _bit_names(certificate: x509.Certificate) -> list[str]:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return []
    names = {bit: name for name, bit in reversed(_BITS.items())}
    hidden = (
        () if usage.key_agreement else ("encipher_only", "decipher_only")
    )  # undefined without key agreement; reading them raises
    return [names[bit] for bit in _ALL_BITS if bit not in hidden and getattr(usage, bit)]


def _role_name(identifier: ObjectIdentifier) -> str:
    return next((name for name, known in _ROLES.items() if known == identifier), identifier.dotted_string)
