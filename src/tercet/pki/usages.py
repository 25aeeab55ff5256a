"""What may a certificate be used for? cfssl's names of usages, and the bits and identifiers that stand for them in X.509.

signing, key encipherment     what the key may do       (extension keyUsage, critical)
server auth, client auth      in which role             (extension extendedKeyUsage)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from tercet.errors import ConfigError

SERVER, CLIENT = "server auth", "client auth"
CA_USAGES = ("cert sign", "crl sign")
TLS_USAGES = ("signing", "key encipherment", SERVER, CLIENT)  # what cfssl gives where no profile says otherwise

_BITS = {
    "signing": "digital_signature",
    "digital signature": "digital_signature",
    "content commitment": "content_commitment",
    "content committment": "content_commitment",  # as cfssl has always spelt it
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
    """The same usage, if there is one of this name. Raises ConfigError."""
    if usage not in _BITS and usage not in _ROLES:
        near = get_close_matches(usage, [*_BITS, *_ROLES], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join([*_BITS, *_ROLES])}"
        raise ConfigError(f"no such usage: {usage!r}{hint}")
    return usage


def with_key_usage(usages: Sequence[str], algorithm: str) -> tuple[str, ...]:
    """`usages`, with what a key in TLS does if they name only roles: all sign, and RSA keys may also wrap a session's key."""
    if any(usage in _BITS for usage in usages):
        return tuple(usages)
    return ("signing", *(["key encipherment"] if algorithm == "rsa" else []), *usages)


def key_usage(usages: Iterable[str]) -> x509.KeyUsage | None:
    """The keyUsage extension; None where no usage is of this kind. Raises ConfigError."""
    bits = {_BITS[usage] for usage in usages if usage in _BITS}
    if not bits:
        return None
    try:
        return x509.KeyUsage(**{bit: bit in bits for bit in _ALL_BITS})
    except ValueError as error:  # encipher only and decipher only say nothing without key agreement
        raise ConfigError(f"usages that do not go together: {error}") from error


def roles(usages: Iterable[str]) -> x509.ExtendedKeyUsage | None:
    """The extendedKeyUsage extension; None where no usage is of this kind."""
    identifiers = list(dict.fromkeys(_ROLES[usage] for usage in usages if usage in _ROLES))
    return x509.ExtendedKeyUsage(identifiers) if identifiers else None


def usages_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """The usages of a certificate by cfssl's names; a role without a name there by its number."""
    return (*_bit_names(certificate), *(_role_name(role) for role in roles_of(certificate) or ()))


def roles_of(certificate: x509.Certificate) -> list[ObjectIdentifier] | None:
    """The roles it is limited to; None where it says nothing, which leaves it free for all."""
    try:
        return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return None


def allows(certificate: x509.Certificate, role: str) -> bool:
    """Whether it may be shown in the role `server auth` or `client auth`."""
    listed = roles_of(certificate)
    return listed is None or _ROLES[role] in listed or _ROLES["any"] in listed


def may_sign_certificates(certificate: x509.Certificate) -> bool:
    """Whether its key usage, if it has one, includes signing other certificates."""
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
    hidden = () if usage.key_agreement else ("encipher_only", "decipher_only")  # undefined then, and reading them raises
    return [names[bit] for bit in _ALL_BITS if bit not in hidden and getattr(usage, bit)]


def _role_name(identifier: ObjectIdentifier) -> str:
    return next((name for name, known in _ROLES.items() if known == identifier), identifier.dotted_string)
