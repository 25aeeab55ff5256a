"""cfssl's request files: what `gencert` and `gencert -initca` are asked for.

    {"CN": "etcd", "hosts": ["127.0.0.1"], "key": {"algo": "rsa", "size": 2048},
     "names": [{"C": "CN", "ST": "BeiJing", "L": "BeiJing", "O": "k8s", "OU": "System"}], "ca": {"expiry": "43800h"}}

`ca` only for authorities. A key algorithm without a size means the usual size. Departs in: `names[].SerialNumber`, which cfssl
reads and drops, becomes the subject's; keys that it would pass over are errors (see json_file.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from tercet.errors import ConfigError
from tercet.pki import keys, names
from tercet.pki.issue import CA_EXPIRY, Request
from tercet.pki.json_file import Section, Value, as_text, parse

_NO_EXTENSIONS = "extensions of your own are not supported"


@dataclass(frozen=True)
class AuthorityWish:
    """The section `ca` of a request. path_length: authorities below it, None for any number."""

    expiry: timedelta = CA_EXPIRY
    path_length: int | None = None
    backdate: timedelta | None = None


@dataclass(frozen=True)
class RequestFile:
    """What a request file says. authority: None where it has no section `ca`."""

    request: Request
    authority: AuthorityWish | None


def read_request(content: bytes, source: str) -> RequestFile:
    """A request from the content of the file `source`. Raises ConfigError naming line and key."""
    root = parse(content, source)
    section = Section(root)
    hosts = [_checked_host(value) for value in section.texts("hosts")]
    subject_names = tuple(_names(value) for value in section.items("names"))
    algorithm, size = _key(section.section("key"))
    request = Request(
        common_name=section.text("CN"),
        hosts=tuple(hosts),
        names=subject_names,
        key_algorithm=algorithm,
        key_size=size,
        serial_number=section.text("serialnumber"),
    )
    authority = _authority(section.section("ca"))
    section.end({"extensions": _NO_EXTENSIONS, "crl_url": "belongs into the profile (ca-config.json)"})
    try:
        subject = request.subject()
    except ConfigError as error:
        root.refuse(str(error))
    if not subject.rdns and not hosts:
        root.refuse("asks for a certificate for nobody: give CN, names or hosts")
    return RequestFile(request, authority)


def _checked_host(value: Value) -> str:
    host = as_text(value)
    try:
        names.general_name(host)
    except ConfigError as error:
        value.refuse(str(error))
    return host


def _names(value: Value) -> dict[str, str]:
    section = Section(value)
    found = {field: section.text(field) for field in [*names.SUBJECT_FIELDS, names.SERIAL_NUMBER]}
    section.end()
    try:
        names.subject("", [found])
    except ConfigError as error:
        value.refuse(str(error))
    return {field: text for field, text in found.items() if text}


def _key(section: Section | None) -> tuple[str, int | None]:
    if section is None:
        return "ecdsa", None
    algorithm, size = section.text("algo") or "ecdsa", section.integer("size")
    section.end()
    try:
        return algorithm, keys.check(algorithm, size or None)
    except ConfigError as error:
        (section.find("size" if algorithm in keys.ALGORITHMS else "algo") or section.value).refuse(str(error))


def _authority(section: Section | None) -> AuthorityWish | None:
    if section is None:
        return None
    length = section.integer("pathlen")
    if length < 0:
        section.value.refuse("pathlen cannot be negative")
    wish = AuthorityWish(
        expiry=section.duration("expiry") or CA_EXPIRY,
        # Written 0, it means no limit: cfssl cannot tell it from an absent one, hence the second key.
        path_length=0 if section.truth("pathlenzero") and not length else length or None,
        backdate=section.duration("backdate"),
    )
    section.end()
    return wish
