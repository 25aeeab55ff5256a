"""What is a certificate for? Hosts as they stand in requests, in the forms that X.509 keeps apart, and back again.

    127.0.0.1, ::1          IP address           bob@example.com        email address
    node1, *.example.com    DNS name             spiffe://ca/etcd       URI

A slip such as `10.0.0.1:2379` or `10.0.0.0/24` would make a certificate that no client accepts, so it is refused here.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.x509.oid import NameOID

from tercet.errors import ConfigError

# In the order in which cfssl writes them, and what they are called in its files.
SUBJECT_FIELDS = {
    "C": NameOID.COUNTRY_NAME,
    "ST": NameOID.STATE_OR_PROVINCE_NAME,
    "L": NameOID.LOCALITY_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
}
SERIAL_NUMBER = "SerialNumber"
_LABEL = r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)"
_DNS_NAME = re.compile(rf"(\*\.)?{_LABEL}(\.{_LABEL})*")
_EMAIL = re.compile(r"[^@\s<>\"(),:;]+@[A-Za-z0-9.-]+")


def ip_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that `host` is, if it is one; `::ffff:10.0.0.1` is 10.0.0.1, as for whoever connects."""
    if "%" in host:  # a zone means something only on the host that says it
        return None
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def general_name(host: str) -> x509.GeneralName:
    """The form in which a certificate holds `host`. Raises ConfigError."""
    address = ip_address(host)
    if address is not None:
        return x509.IPAddress(address)
    if "://" in host or host.startswith("urn:"):
        return x509.UniformResourceIdentifier(_checked_uri(host))
    if _EMAIL.fullmatch(host):
        return x509.RFC822Name(host)
    if len(host) <= 253 and _DNS_NAME.fullmatch(host) and not re.fullmatch(r"[\d.]+", host):
        return x509.DNSName(host)
    raise ConfigError(f"cannot be a host: {host!r}{_why_not_a_host(host)}")


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
        return "; it is empty or has blanks around it"
    if not host.isascii():
        return "; write it in its ASCII form (xn--...)"
    if host.startswith("["):
        return "; an IPv6 address is written without brackets and port"
    if re.fullmatch(r"[^:]+:\d*", host):
        return "; a certificate names hosts, without a port"
    if "/" in host:
        return "; a certificate names single addresses, not networks or paths"
    if re.fullmatch(r"[\d.]+", host):
        return "; it looks like an IP address, but is none"
    if "%" in host:
        return "; an address is written without its zone"
    if host.endswith("."):
        return "; write it without the last dot"
    return "; neither an IP address, a DNS name, an email address nor a URI"


def alternative_names(hosts: Iterable[str]) -> list[x509.GeneralName]:
    """All `hosts`, each once, by kind as cfssl orders them: DNS, email, IP, URI. Raises ConfigError."""
    names = list(dict.fromkeys(general_name(host) for host in hosts))
    kinds = (x509.DNSName, x509.RFC822Name, x509.IPAddress, x509.UniformResourceIdentifier)
    return [name for kind in kinds for name in names if isinstance(name, kind)]


def hosts_of(certificate: x509.Certificate | x509.CertificateSigningRequest) -> list[str]:
    """What it is for, as a request would say it, in the order in which it is there."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in names]


def subject(common_name: str, names: Sequence[Mapping[str, str]], serial_number: str = "") -> x509.Name:
    """A subject as cfssl makes it: each field once, with all its values, then the common name and the serial number.

    names: fields among C, ST, L, O, OU and SerialNumber. Raises ConfigError.
    """
    unknown = sorted({field for group in names for field in group} - {*SUBJECT_FIELDS, SERIAL_NUMBER})
    if unknown:
        raise ConfigError(
            f"no such field of a subject: {unknown[0]!r}; known are {', '.join([*SUBJECT_FIELDS, SERIAL_NUMBER])}"
        )
    serial_number = serial_number or next((group[SERIAL_NUMBER] for group in names if group.get(SERIAL_NUMBER)), "")
    fields = [(oid, [group[field] for group in names if group.get(field)]) for field, oid in SUBJECT_FIELDS.items()]
    fields += [(NameOID.COMMON_NAME, [common_name] * bool(common_name))]
    fields += [(NameOID.SERIAL_NUMBER, [serial_number] * bool(serial_number))]
    try:
        return x509.Name([_all_values(oid, values) for oid, values in fields if values])
    except ValueError as error:  # a country that is not two letters, a name longer than its field may be
        raise ConfigError(f"cannot be a subject: {error}") from error


def _all_values(oid: x509.ObjectIdentifier, values: Sequence[str]) -> x509.RelativeDistinguishedName:
    return x509.RelativeDistinguishedName(x509.NameAttribute(oid, value) for value in dict.fromkeys(values))


def subject_text(name: x509.Name) -> str:
    """For people: `CN=etcd, OU=System, O=k8s`; the common name first, since it is what one looks for."""
    parts = [_text(attribute) for relative in name.rdns for attribute in relative]
    return ", ".join(sorted(parts, key=lambda part: not part.startswith("CN="))) or "(no subject)"


def short_text(name: x509.Name) -> str:
    """The common name alone, if there is one: `CN=etcd`."""
    return next(
        (attribute.rfc4514_string() for attribute in name.get_attributes_for_oid(NameOID.COMMON_NAME)), subject_text(name)
    )


def _text(attribute: x509.NameAttribute[str | bytes]) -> str:
    return attribute.rfc4514_string({NameOID.SERIAL_NUMBER: SERIAL_NUMBER, NameOID.EMAIL_ADDRESS: "emailAddress"})
