"""cfssl's request files, the input of `gencert` and `gencert -initca`.

    {"CN": "etcd", "hosts": ["127.0.0.1"], "key": {"algo": "rsa", "size": 2048},
     "names": [{"C": "CN", "ST": "BeiJing", "L": "BeiJing", "O": "k8s", "OU": "System"}], "ca": {"expiry": "43800h"}}

`ca` is for CAs only. A key algorithm without a size uses the default size. Differs from cfssl: `names[].SerialNumber`, which
cfssl parses and drops, goes into the subject; an empty host, which cfssl puts into the certificate, is left out. Unknown keys
and empty hosts are warnings.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from tercet.errors import ConfigError
from tercet.pki import keys, names
from tercet.pki.issue import CA_EXPIRY, Request
from tercet.pki.json_file import Section, Value, as_string, parse

_NO_EXTENSIONS = "custom extensions are not supported"


@dataclass(frozen=True)
class CARequest:
    """The section `ca` of a request. path_length: limit of intermediate CAs, None for no limit."""

    expiry: timedelta = CA_EXPIRY
    path_length: int | None = None
    backdate: timedelta | None = None


@dataclass(frozen=True)
class RequestFile:
    """A parsed request file. authority: None without a section `ca`. warnings: ignored keys and values."""

    request: Request
    authority: CARequest | None
    warnings: tuple[str, ...] = ()


def read_request(content: bytes, source: str) -> RequestFile:
    """Parse a request. source: file name for errors. Raises ConfigError naming line and key."""
    root = parse(content, source)
    section = Section(root)
    warnings: list[str] = []
    listed = section.strings("hosts")
    warnings += [value.message("empty host, ignored") for value in listed if not as_string(value)]
    hosts = [_checked_host(value) for value in listed if as_string(value)]
    subject_names = tuple(_names(value, warnings) for value in section.items("names"))
    algorithm, size = _key(section.section("key"), warnings)
    request = Request(
        common_name=section.string("CN"),
        hosts=tuple(hosts),
        names=subject_names,
        key_algorithm=algorithm,
        key_size=size,
        serial_number=section.string("serialnumber"),
    )
    authority = _authority(section.section("ca"), warnings)
    unsupported = {"extensions": _NO_EXTENSIONS, "crl_url": "is a setting of the profile (ca-config.json)"}
    section.reject_unknown(unsupported, warnings=warnings)
    try:
        subject = request.subject()
    except ConfigError as error:
        root.fail(str(error))
    if not subject.rdns and not listed:
        root.fail("has no subject: set CN, names or hosts")
    return RequestFile(request, authority, tuple(warnings))


def _checked_host(value: Value) -> str:
    host = as_string(value)
    try:
        names.general_name(host)
    except ConfigError as error:
        value.fail(str(error))
    return host


def _names(value: Value, warnings: list[str]) -> dict[str, str]:
    section = Section(value)
    found = {field: section.string(field) for field in [*names.SUBJECT_FIELDS, names.SERIAL_NUMBER]}
    section.reject_unknown(warnings=warnings)
    try:
        names.subject("", [found])
    except ConfigError as error:
        value.fail(str(error))
    return {field: text for field, text in found.items() if text}


def _key(section: Section | None, warnings: list[str]) -> tuple[str, int | None]:
    if section is None:
        return "ecdsa", None
    algorithm, size = section.string("algo") or "ecdsa", section.integer("size")
    section.reject_unknown(warnings=warnings)
    try:
        return algorithm, keys.check(algorithm, size or None)
    except ConfigError as error:
        (section.find("size" if algorithm in keys.ALGORITHMS else "algo") or section.value).fail(str(error))


def _authority(section: Section | None, warnings: list[str]) -> CARequest | None:
    if section is None:
        return None
    length = section.integer("pathlen")
    if length < 0:
        section.value.fail("pathlen cannot be negative")
    request = CARequest(
        expiry=section.duration("expiry") or CA_EXPIRY,
        # 0 means no limit: cfssl cannot distinguish it from an absent value, hence pathlenzero.
        path_length=0 if section.boolean("pathlenzero") and not length else length or None,
        backdate=section.duration("backdate"),
    )
    section.reject_unknown(warnings=warnings)
    return request
