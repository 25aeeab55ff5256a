"""Validation of `flags:`: flags that the engine knows, except those that the deployment sets itself.

A flag with its own field in cluster.yaml is rejected with the name of the field, since two values could conflict. Values are
parsed with the server's own rules, so that a typo is reported here and not by members that fail to start.

Upstream etcd has the same flags: the table is that of etcd 3.7, plus the flags removed since 3.4. Flags that another version
does not have are detected only if `engine.version` is set.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

from tercet.deploy.cluster.server_facts import FLAGS, RETIRED, Flag, Kind

MANAGED_FLAGS: Mapping[str, str] = {
    "name": "hosts[].name",
    "data-dir": "paths.data",
    "wal-dir": "paths.wal",
    "listen-peer-urls": "hosts[].address and listen.peer_port",
    "listen-client-urls": "hosts[].address and listen",
    "listen-client-http-urls": "listen",
    "listen-metrics-urls": "listen.metrics_url",
    "advertise-client-urls": "hosts[].address and listen.client_port",
    "initial-advertise-peer-urls": "hosts[].address and listen.peer_port",
    "initial-cluster": "hosts",
    "initial-cluster-state": "hosts",
    "initial-cluster-token": "token",
    "quota-backend-bytes": "quota_backend_bytes",
    "auto-compaction-mode": "auto_compaction_mode",
    "auto-compaction-retention": "auto_compaction_retention",
    **{
        f"{role}{name}": "tls"
        for role in ("", "peer-")
        for name in ("cert-file", "key-file", "client-cert-file", "client-key-file", "auto-tls")
    },
    "client-cert-auth": "tls",
    "peer-client-cert-auth": "tls",
    "trusted-ca-file": "tls.ca_certificate and paths.ca",
    "peer-trusted-ca-file": "tls.ca_certificate and paths.ca",
    "self-signed-cert-validity": "tls.days",
}
"""Flag: the field of cluster.yaml to use instead."""

_REFUSED: Mapping[str, str] = {
    "config-file": "would override all other flags; set them here",
    "version": "prints the version and exits",
    "force-new-cluster": "removes the other members at each start and must not be permanent",
    **{name: "conflicts with hosts; discovery is not used" for name in FLAGS if name.startswith("discovery")},
}
_WORDS: Mapping[str, tuple[str, ...]] = {
    "log-level": ("debug", "info", "warn", "error", "dpanic", "panic", "fatal"),
    "log-format": ("json", "console"),
    "logger": ("zap",),
    "metrics": ("basic", "extensive"),
    "tls-min-version": ("TLS1.2", "TLS1.3"),
    "tls-max-version": ("TLS1.2", "TLS1.3"),
}
_EXPERIMENTAL = "experimental-"
_SINCE_3_6 = {"feature-gates"} | {retired.now for name, retired in RETIRED.items() if name.startswith(_EXPERIMENTAL)} - {""}


class InvalidFlag(ValueError):
    """A flag that is not allowed under `flags:`; the text has the reason and the alternative."""


def is_managed(name: str) -> bool:
    """Whether a flag has its own field in the cluster file, or is not allowed in one."""
    return name in MANAGED_FLAGS or name in _REFUSED


def check_name(name: str, *, engine: str, version: str | None = None) -> str:
    """A warning about the flag, or "". Raises InvalidFlag."""
    if name.startswith("-"):
        raise InvalidFlag(f"write it without dashes: {name.lstrip('-')}")
    if name in MANAGED_FLAGS:
        raise InvalidFlag(f"is set by the deployment; use {MANAGED_FLAGS[name]}")
    if name in _REFUSED:
        raise InvalidFlag(_REFUSED[name])
    if name not in FLAGS and name not in RETIRED:
        raise InvalidFlag(f"unknown flag of {engine}{_near(name)}")
    return _warning_tercet(name) if engine == "tercet" else _warning_etcd(name, version)


def _near(name: str) -> str:
    plain = name.replace("_", "-").lower()
    usable = [known for known in (*FLAGS, *RETIRED) if not is_managed(known)]
    near = difflib.get_close_matches(plain, [*usable, *MANAGED_FLAGS], n=1, cutoff=0.75)
    return f"; did you mean {near[0]}?" if near else ""


def _warning_tercet(name: str) -> str:
    if name in RETIRED:
        return RETIRED[name].warning.removeprefix(f"--{name} ")
    if not FLAGS[name].is_used:
        return "has no effect in this version of tercet"
    return "acknowledged writes may be lost on power failure" if name == "unsafe-no-fsync" else ""


def _warning_etcd(name: str, version: str | None) -> str:
    number = _major_minor(version)
    if name in RETIRED:
        retired = RETIRED[name]
        instead = f"; use {retired.now}" if retired.now else f"; use feature-gates: {retired.gate}=true" if retired.gate else ""
        if number is not None and number >= (3, 7):
            raise InvalidFlag(f"removed in etcd {version}{instead}")
        return f"removed in newer versions of etcd{instead}"
    if number is not None and number < (3, 6) and name in _SINCE_3_6:
        older = next((f"; use {retired.name}" for retired in RETIRED.values() if retired.now == name), "")
        raise InvalidFlag(f"not available in etcd {version}{older}")
    return "acknowledged writes may be lost on power failure" if name == "unsafe-no-fsync" else ""


def _major_minor(version: str | None) -> tuple[int, int] | None:
    found = re.match(r"(\d+)\.(\d+)", version or "")
    return (int(found[1]), int(found[2])) if found else None


def check_value(name: str, text: str) -> None:
    """Check the value of a flag accepted by check_name. Raises InvalidFlag."""
    flag = FLAGS.get(name) or RETIRED[name]
    if name in _WORDS and text not in ("", *_WORDS[name]):
        raise InvalidFlag(f"{text!r} is not one of {', '.join(_WORDS[name])}")
    if not text and flag.kind not in (Kind.STRING, Kind.SET, Kind.LIST, Kind.URLS, Kind.GATES):
        raise InvalidFlag(f"has no value; expected {_expected(flag.kind)}")
    try:
        flag.parse(text)
    except ValueError as error:
        if flag.kind is Kind.CHOICE:
            raise InvalidFlag(f"{text!r} is not one of {', '.join(flag.choices)}") from error
        reason = "" if str(error) in ("parse error", "invalid value") else f" ({error})"
        raise InvalidFlag(f"{text!r} is not {_expected(flag.kind)}{reason}") from error


def _expected(kind: Kind) -> str:
    return {
        Kind.BOOL: "true or false",
        Kind.UINT: "a non-negative integer",
        Kind.UINT32: "a non-negative integer",
        Kind.INT: "an integer",
        Kind.DURATION: "a duration such as 500ms, 10s or 1h30m",
        Kind.URLS: "a list of URLs",
        Kind.ORIGINS: "a list of origins",
        Kind.GATES: "a list of gates such as A=true,B=false",
    }.get(kind, "text")


def default_of(name: str) -> str:
    """The default of a flag. Raises KeyError for an unknown flag."""
    flag: Flag = FLAGS[name]
    return flag.default
