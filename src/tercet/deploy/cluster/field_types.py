"""Field types of the cluster file, each with its check.

Everything that reaches a host's shell, systemd or file system passes one of these. The allowed characters are few on purpose: a
path with a blank, a quote, `$` or `%` is interpreted differently by sh and systemd.

A check raises ValueError with a message that follows the field's name; the caller adds file, line and field.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from tercet.deploy.cluster.server_facts import parse_url

PATH_LENGTH_MAX = 200
QUOTA_BYTES_MIN = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_LOGIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@\\-]{0,63}")
_HOST_PATH = re.compile(r"[A-Za-z0-9._+@/-]+")
_UNIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9:_.-]{0,99}")
_CALENDAR = re.compile(r"[A-Za-z0-9*:,./~ -]{1,100}")
_UNIT_OPTION = re.compile(r"[A-Z][A-Za-z0-9]{1,60}")
MANAGED_OPTIONS = {
    "ExecStart": "set flags, or engine",
    "Type": "it waits until the member is ready",
    "User": "set service.user",
    "Group": "set service.group",
    "WorkingDirectory": "set paths.work",
    "RestartSec": "set service.restart_seconds",
    "LimitNOFILE": "set service.open_files",
    "TimeoutStartSec": "set service.start_timeout_seconds",
}
"""Settings of [Service] that have a field of their own, or none: name to the way to change it."""
_AGE_RECIPIENT = re.compile(r"age1[02-9ac-hj-np-z]{58}")
_BUCKET_URL = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](?:/[A-Za-z0-9._/=-]*)?")
_SIZE = re.compile(r"(\d{1,18}) ?([kmgt](?:i?b)?|b)?", re.IGNORECASE)
_SIZE_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+_-]{0,63}")
_SYSTEM_UNITS = re.compile(r"systemd-.*|sshd?|dbus(-broker)?|init|networking|NetworkManager", re.IGNORECASE)
_SYSTEM = """
/ /bin /boot /dev /etc /etc/ssh /etc/ssl /etc/systemd /etc/systemd/system /home /lib /lib32 /lib64 /media /mnt /opt /proc /root
/root/.ssh /run /sbin /srv /sys /tmp /usr /usr/bin /usr/lib /usr/lib64 /usr/local /usr/local/bin /usr/local/lib /usr/local/sbin
/usr/sbin /usr/share /var /var/backups /var/cache /var/lib /var/lib/dpkg /var/lib/systemd /var/log /var/run /var/spool /var/tmp
"""
_SYSTEM_DIRECTORIES = frozenset(_SYSTEM.split())
"""Directories of the system, whose owner must not change and which must not be removed."""


def check_name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(
            f"{text!r} is not a valid name: at most 63 letters, digits, '.', '_' and '-', starting with a letter or digit"
        )
    return text


def check_address(text: str) -> str:
    """An IP address of a host, or a DNS name."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        _check_dns_name(text)
        return text
    if "%" in text:
        raise ValueError(f"{text} has a zone, which no other host knows; use an address without one")
    if address.is_unspecified or address.is_multicast or text == "255.255.255.255":
        raise ValueError(f"{text} is not the address of a single host; use the one that the other members connect to")
    return text


def _check_dns_name(text: str) -> None:
    if "://" in text or text.count(":") == 1:
        raise ValueError(f"{text!r} is not an address alone; ports are set under `listen`")
    labels = text.split(".")
    if len(text) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError(f"{text!r} is neither an IP address nor a DNS name")
    if labels[-1].isdigit():
        raise ValueError(f"{text!r} is not an IP address (four numbers from 0 to 255), and a DNS name does not end in a number")


def check_certificate_host(text: str) -> str:
    """A subject alternative name: an address, a DNS name, or a wildcard DNS name."""
    check_address(text.removeprefix("*.") if not text.startswith("*.*") else text)
    return text


def check_host_path(text: str) -> str:
    """An absolute path on a host; a trailing slash is removed."""
    if not text.startswith("/"):
        raise ValueError(f"{text!r} is not an absolute path")
    if not _HOST_PATH.fullmatch(text):
        odd = "".join(sorted(set(_HOST_PATH.sub("", text))))
        raise ValueError(f"{text!r} contains {odd!r}; allowed are letters, digits and . _ - + @ /")
    if len(text) > PATH_LENGTH_MAX:
        raise ValueError(f"is longer than {PATH_LENGTH_MAX} characters")
    path = text.rstrip("/")
    if not path:
        raise ValueError("is the root directory; use a dedicated directory")
    if any(part in ("", ".", "..") for part in path[1:].split("/")):
        raise ValueError(f"{text!r} contains '.', '..' or '//'; use the canonical path")
    return path


def check_own_directory(text: str) -> str:
    """A dedicated directory of the cluster, which is created, owned by its user, and removed on destroy."""
    path = check_host_path(text)
    if path in _SYSTEM_DIRECTORIES:
        raise ValueError(f"{path} is a system directory; use a dedicated one, such as {path}/etcd")
    return path


def check_user(text: str) -> str:
    if not _USER.fullmatch(text):
        raise ValueError(
            f"{text!r} is not a user name: at most 32 lowercase letters, digits, '_' and '-', not starting with a digit"
        )
    return text


def check_login(text: str) -> str:
    if not _LOGIN.fullmatch(text):
        raise ValueError(f"{text!r} is not a login name")
    return text


def check_unit(text: str) -> str:
    """The name of a service unit without its suffix."""
    unit = text.removesuffix(".service")
    if "@" in unit:
        raise ValueError(f"{text!r} is an instance of a template unit; use a plain unit")
    if not _UNIT.fullmatch(unit):
        raise ValueError(f"{text!r} is not a unit name: letters, digits and : _ . -, without a directory")
    if _SYSTEM_UNITS.fullmatch(unit):
        raise ValueError(f"{unit}.service is a unit of the system")
    return unit


def check_ssh_host(text: str) -> str:
    """A host or alias for ssh, never interpretable as an option."""
    if not re.fullmatch(r"[A-Za-z0-9_\[][A-Za-z0-9._:%\]\[-]{0,252}", text):
        raise ValueError(f"{text!r} is not an ssh host or alias")
    return text


def check_jump(text: str) -> str:
    """[user@]host[:port], several separated by commas."""
    for hop in text.split(","):
        if not re.fullmatch(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*@)?[A-Za-z0-9_\[][A-Za-z0-9._:\]-]*", hop):
            raise ValueError(f"{hop!r} is not a jump host: use [user@]host[:port], separated by commas")
    return text


def check_calendar(text: str) -> str:
    if not _CALENDAR.fullmatch(text) or not text.strip():
        raise ValueError(f"{text!r} is not a systemd calendar expression, such as daily, hourly or 'Mon..Fri 03:30'")
    return text


def check_age_recipient(text: str) -> str:
    """The form only; the checksum is verified when a plan is made."""
    if not _AGE_RECIPIENT.fullmatch(text):
        raise ValueError(f"{text!r} is not a public key of age, which begins with age1; `tercet pki age-key` creates a pair")
    return text


def check_unit_option(text: str) -> str:
    if not _UNIT_OPTION.fullmatch(text):
        raise ValueError(f"{text!r} is not the name of a setting of a unit, such as Nice or OOMScoreAdjust")
    if text in MANAGED_OPTIONS:
        raise ValueError(f"{text} is written by tercet deploy; {MANAGED_OPTIONS[text]}")
    return text


def check_bucket_url(text: str) -> str:
    if not _BUCKET_URL.fullmatch(text):
        raise ValueError(f"{text!r} is not s3://BUCKET/PREFIX")
    return text.rstrip("/")


def read_bytes(given: Any) -> Any:
    """Parse 8GiB, 512 MiB or a number of bytes. Units are powers of two, as in etcd."""
    if not isinstance(given, str):
        return given
    found = _SIZE.fullmatch(given.strip())
    if found is None:
        raise ValueError(f"{given!r} is not a size: use bytes, or a unit as in 8GiB or 512MiB")
    return int(found[1]) * _SIZE_UNITS[(found[2] or "")[:1].lower()]


def check_listener(text: str) -> str:
    """A listen URL: http(s)://IP:port."""
    url = parse_url(text)
    if url.is_unix:
        raise ValueError(f"{text!r} is a Unix socket; use http://IP:PORT")
    if url.host != "localhost":
        try:
            ipaddress.ip_address(url.host)
        except ValueError as error:
            raise ValueError(f"{text!r} has no IP address to listen on (0.0.0.0 for all)") from error
    if not 0 < url.port < 65536:
        raise ValueError(f"{text!r} has no port from 1 to 65535")
    return url.text


def check_version(text: str) -> str:
    version = text.removeprefix("v")
    if not _VERSION.fullmatch(version):
        raise ValueError(f"{text!r} is not a version such as 3.5.21")
    return version


def check_sha256(text: str) -> str:
    digest = text.lower().removeprefix("sha256:")
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise ValueError("is not a SHA-256: 64 hexadecimal digits, as printed by `sha256sum`")
    return digest


def check_interpreter(text: str) -> str:
    if not text.startswith("/") and not re.fullmatch(r"python3?(?:\.\d{1,2})?", text):
        raise ValueError(f"{text!r} is neither an absolute path nor a name such as python3 or python3.11")
    return check_host_path(text) if text.startswith("/") else text


def check_plain_text(text: str) -> str:
    """A field of a certificate's subject."""
    if not text or len(text) > 64 or not text.isprintable():
        raise ValueError("must be 1 to 64 printable characters")
    return text


def locate(given: Any, info: ValidationInfo) -> Any:
    """A local file: `~` is the home directory, and a relative path is relative to the cluster file's directory."""
    if not isinstance(given, str | Path):
        return given
    if not str(given) or "\0" in str(given):
        raise ValueError("is not a path")
    base = (info.context or {}).get("directory")
    try:
        path = Path(given).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{str(given)!r}: unknown user") from error
    return base / path if base is not None else path


def locate_source(text: str, info: ValidationInfo) -> str:
    """The engine's source: an http(s) URL, or a local path."""
    scheme, mark, rest = text.partition("://")
    if not mark:
        return str(locate(text, info))
    if scheme.lower() not in ("http", "https"):
        raise ValueError(f"{scheme}:// is not supported; use a path, an https:// or an http:// URL")
    if "@" in rest.partition("/")[0]:
        raise ValueError("contains credentials, which would end up in logs; download the file and use its path")
    return text


def integer(lowest: int, highest: int) -> Any:
    """An integer within bounds; text and booleans are rejected."""
    return Field(strict=True, ge=lowest, le=highest)


Boolean: TypeAlias = Annotated[bool, Field(strict=True)]
Port: TypeAlias = Annotated[int, integer(1, 65535)]
Name: TypeAlias = Annotated[str, AfterValidator(check_name)]
Address: TypeAlias = Annotated[str, AfterValidator(check_address)]
CertificateHost: TypeAlias = Annotated[str, AfterValidator(check_certificate_host)]
HostPath: TypeAlias = Annotated[str, AfterValidator(check_host_path)]
OwnDirectory: TypeAlias = Annotated[str, AfterValidator(check_own_directory)]
User: TypeAlias = Annotated[str, AfterValidator(check_user)]
Login: TypeAlias = Annotated[str, AfterValidator(check_login)]
Unit: TypeAlias = Annotated[str, AfterValidator(check_unit)]
SshHost: TypeAlias = Annotated[str, AfterValidator(check_ssh_host)]
Jump: TypeAlias = Annotated[str, AfterValidator(check_jump)]
Calendar: TypeAlias = Annotated[str, AfterValidator(check_calendar)]
UnitOption: TypeAlias = Annotated[str, AfterValidator(check_unit_option)]
AgeRecipient: TypeAlias = Annotated[str, AfterValidator(check_age_recipient)]
BucketUrl: TypeAlias = Annotated[str, AfterValidator(check_bucket_url)]
Quota: TypeAlias = Annotated[int, integer(QUOTA_BYTES_MIN, 1 << 62), BeforeValidator(read_bytes)]
Listener: TypeAlias = Annotated[str, AfterValidator(check_listener)]
Version: TypeAlias = Annotated[str, AfterValidator(check_version)]
Sha256: TypeAlias = Annotated[str, AfterValidator(check_sha256)]
Interpreter: TypeAlias = Annotated[str, AfterValidator(check_interpreter)]
PlainText: TypeAlias = Annotated[str, AfterValidator(check_plain_text)]
LocalPath: TypeAlias = Annotated[Path, BeforeValidator(locate)]
Source: TypeAlias = Annotated[str, AfterValidator(locate_source)]
