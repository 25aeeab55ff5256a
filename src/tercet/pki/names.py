"""Names in certificates: hosts of a request to subjectAltName entries and back, and subjects.

    127.0.0.1, ::1          IP address           bob@example.com        email address
    node1, *.example.com    DNS name             spiffe://ca/etcd       URI

Mistakes such as `10.0.0.1:2379` or `10.0.0.0/24`, which no client would match, are rejected.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.x509.oid import NameOID

from tercet.errors import ConfigError

# In cfssl's order, with the names in its files.
SUBJECT_FIELDS = {
    "C": NameOID.COUNTRY_NAME,
    "ST": NameOID.STATE_OR_PROVINCE_NAME,
    "L": NameOID.LOCALITY_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
}
SERIAL_NUMBER = "SerialNumber"
_LIMITS = {"C": "must be a country code of two letters", "CN": "must be text of at most 64 characters"}
_LABEL = r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)"
_DNS_NAME = re.compile(rf"(\*\.)?{_LABEL}(\.{_LABEL})*")
_EMAIL = re.compile(r"[^@\s<>\"(),:;]+@[A-Za-z0-9.-]+")


def ip_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Parse an IP address; None for other hosts. `::ffff:10.0.0.1` is 10.0.0.1, as for TLS clients."""
    if "%" in host:  # zones are local to a host
        return None
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def general_name(host: str) -> x509.GeneralName:
    """The subjectAltName entry for `host`. Raises ConfigError."""
    address = ip_address(host)
    if address is not None:
        return x509.IPAddress(address)
    if "://" in host or host.startswith("urn:"):
        return x509.UniformResourceIdentifier(_checked_uri(host))
    if _EMAIL.fullmatch(host):
        return x509.RFC822Name(host)
    if len(host) <= 253 and _DNS_NAME.fullmatch(host) and not re.fullmatch(r"[\d.]+", host):
        return x509.DNSName(host)
    raise ConfigError(f"not a valid host: {host!r}{_why_not_a_host(host)}")


def _checked_uri(text: str) -> str:
    try:
        good = text.isascii() and not re.search(r"\s", text) and bool(urlsplit(text).scheme)
    except ValueError:
        good = False
    if not good:
        raise ConfigError(f"not a URI: {text!r}")
    return text


def _why_not_a_host(host: str) -> str:
    if not host or host != host.strip():
        return "; it is empty or has surrounding whitespace"
    if not host.isascii():
        return "; use its ASCII form (xn--...)"
    if host.startswith("["):
        return "; write an IPv6 address without brackets and port"
    if re.fullmatch(r"[^:]+:\d*", host):
        return "; write it without the port"
    if "/" in host:
        return "; networks and paths are not allowed"
    if re.fullmatch(r"[\d.]+", host):
        return "; it looks like an IP address but is not valid"
    if "%" in host:
        return "; write the address without its zone"
    if host.endswith("."):
        return "; write it without the trailing dot"
    return "; expected an IP address, DNS name, email address or URI"


def alternative_names(hosts: Iterable[str]) -> list[x509.GeneralName]:
    """The entries for `hosts`, without duplicates, in cfssl's order: DNS, email, IP, URI. Raises ConfigError."""
    names = list(dict.fromkeys(general_name(host) for host in hosts))
    kinds = (x509.DNSName, x509.RFC822Name, x509.IPAddress, x509.UniformResourceIdentifier)
    return [name for kind in kinds for name in names if isinstance(name, kind)]


def hosts_of(certificate: x509.Certificate | x509.CertificateSigningRequest) -> list[str]:
    """The subjectAltName entries in the form of a request, in the certificate's order."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in names]


def subject(common_name: str, names: Sequence[Mapping[str, str]], serial_number: str = "") -> x509.Name:
    """A subject like cfssl's: each field once, with all its values, then the common name and the serial number.

    names: fields among C, ST, L, O, OU and SerialNumber. Raises ConfigError.
    """
    unknown = sorted({field for group in names for field in group} - {*SUBJECT_FIELDS, SERIAL_NUMBER})
    if unknown:
        raise ConfigError(f"unknown subject field: {unknown[0]!r}; supported: {', '.join([*SUBJECT_FIELDS, SERIAL_NUMBER])}")
    serial_number = serial_number or next((group[SERIAL_NUMBER] for group in names if group.get(SERIAL_NUMBER)), "")
    fields = [(field, oid, [group[field] for group in names if group.get(field)]) for field, oid in SUBJECT_FIELDS.items()]
    fields += [("CN", NameOID.COMMON_NAME, [common_name] * bool(common_name))]
    fields += [(SERIAL_NUMBER, NameOID.SERIAL_NUMBER, [serial_number] * bool(serial_number))]
    return x509.Name([_all_values(field, oid, values) for field, oid, values in fields if values])


def _all_values(field: str, oid: x509.ObjectIdentifier, values: Sequence[str]) -> x509.RelativeDistinguishedName:
    try:
        return x509.RelativeDistinguishedName(x509.NameAttribute(oid, value) for value in dict.fromkeys(values))
    except ValueError as error:
        reason = _LIMITS.get(field, str(error))
        raise ConfigError(f"subject field {field}: {', '.join(map(repr, values))}: {reason}") from error


def subject_text(name: x509.Name) -> str:
    """For display: `CN=etcd, OU=System, O=k8s`, the common name first."""
    parts = [_text(attribute) for relative in name.rdns for attribute in relative]
    return ", ".join(sorted(parts, key=lambda part: not part.startswith("CN="))) or "(no subject)"


def short_text(name: x509.Name) -> str:
    """The common name only, if there is one: `CN=etcd`."""
    return next(
        (attribute.rfc4514_string() for attribute in name.get_attributes_for_oid(NameOID.COMMON_NAME)), subject_text(name)
    )


def _text(attribute: x509.NameAttribute[str | bytes]) -> str:
    return attribute.rfc4514_string({NameOID.SERIAL_NUMBER: SERIAL_NUMBER, NameOID.EMAIL_ADDRESS: "emailAddress"})
