"""Which flags may stand under `flags:`: those that the engine knows, less those that the deployment itself decides.

A flag that is decided elsewhere in cluster.yaml is refused with the place to say it: given twice, with two values, nobody could
tell which one a member runs with. Values are read by the server's own rules, so that a typing mistake is found here and not by
three members that do not come up.

Upstream etcd has the same flags: the table is that of etcd 3.7 with the retired names of 3.4 to 3.6. What an older or newer
etcd does not know is found here only where `engine.version` says which one it is.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

from tercet.deploy.cluster.server_facts import FLAGS, RETIRED, Flag, Kind

DECIDED: Mapping[str, str] = {
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
"""Flag: where in cluster.yaml it is said instead."""

_REFUSED: Mapping[str, str] = {
    "config-file": "would replace all other flags; write them here",
    "version": "prints the version and ends",
    "force-new-cluster": "throws the other members out at each start; it has no place in a file",
    **{
        name: "the members are those under hosts; there is nothing to discover"
        for name in FLAGS
        if name.startswith("discovery")
    },
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


class UnfitFlag(ValueError):
    """A flag that may not stand under `flags:`; the text says why and what to do."""


def decided_elsewhere(name: str) -> bool:
    """Whether a flag of a member comes from another part of the cluster file, or has no place in one."""
    return name in DECIDED or name in _REFUSED


def check_name(name: str, *, engine: str, version: str | None = None) -> str:
    """A warning about the flag, or "". Raises UnfitFlag."""
    if name.startswith("-"):
        raise UnfitFlag(f"write it without dashes: {name.lstrip('-')}")
    if name in DECIDED:
        raise UnfitFlag(f"is decided by the deployment; say it under {DECIDED[name]}")
    if name in _REFUSED:
        raise UnfitFlag(_REFUSED[name])
    if name not in FLAGS and name not in RETIRED:
        raise UnfitFlag(f"{engine} has no such flag{_near(name)}")
    return _remark_tercet(name) if engine == "tercet" else _remark_etcd(name, version)


def _near(name: str) -> str:
    plain = name.replace("_", "-").lower()
    usable = [known for known in (*FLAGS, *RETIRED) if not decided_elsewhere(known)]
    near = difflib.get_close_matches(plain, [*usable, *DECIDED], n=1, cutoff=0.75)
    return f"; did you mean {near[0]}?" if near else ""


def _remark_tercet(name: str) -> str:
    if name in RETIRED:
        return RETIRED[name].warning.removeprefix(f"--{name} ")
    if not FLAGS[name].is_used:
        return "has no effect in this version of tercet"
    return "acknowledged writes are lost in a power cut" if name == "unsafe-no-fsync" else ""


def _remark_etcd(name: str, version: str | None) -> str:
    number = _major_minor(version)
    if name in RETIRED:
        retired = RETIRED[name]
        instead = f"; use {retired.now}" if retired.now else f"; use feature-gates: {retired.gate}=true" if retired.gate else ""
        if number is not None and number >= (3, 7):
            raise UnfitFlag(f"etcd {version} no longer has it{instead}")
        return f"newer versions of etcd no longer have it{instead}"
    if number is not None and number < (3, 6) and name in _SINCE_3_6:
        older = next((f"; use {retired.name}" for retired in RETIRED.values() if retired.now == name), "")
        raise UnfitFlag(f"etcd {version} does not have it yet{older}")
    return "acknowledged writes are lost in a power cut" if name == "unsafe-no-fsync" else ""


def _major_minor(version: str | None) -> tuple[int, int] | None:
    found = re.match(r"(\d+)\.(\d+)", version or "")
    return (int(found[1]), int(found[2])) if found else None


def check_value(name: str, text: str) -> None:
    """Of a flag that check_name let pass. Raises UnfitFlag."""
    flag = FLAGS.get(name) or RETIRED[name]
    if name in _WORDS and text not in ("", *_WORDS[name]):
        raise UnfitFlag(f"{text!r} is not one of {', '.join(_WORDS[name])}")
    if not text and flag.kind not in (Kind.STRING, Kind.SET, Kind.LIST, Kind.URLS, Kind.ORIGINS, Kind.GATES):
        raise UnfitFlag(f"has no value; {_wanted(flag.kind)} is wanted")
    try:
        flag.parse(text)
    except ValueError as error:
        if flag.kind is Kind.CHOICE:
            raise UnfitFlag(f"{text!r} is not one of {', '.join(flag.choices)}") from error
        reason = "" if str(error) in ("parse error", "invalid value") else f" ({error})"
        raise UnfitFlag(f"{text!r} is not {_wanted(flag.kind)}{reason}") from error


def _wanted(kind: Kind) -> str:
    return {
        Kind.BOOL: "true or false",
        Kind.UINT: "a whole number from 0",
        Kind.UINT32: "a whole number from 0",
        Kind.INT: "a whole number",
        Kind.DURATION: "a duration such as 500ms, 10s or 1h30m",
        Kind.URLS: "a list of URLs",
        Kind.ORIGINS: "a list of origins",
        Kind.GATES: "a list of gates such as A=true,B=false",
    }.get(kind, "text")


def default_of(name: str) -> str:
    """What the engine does without the flag. Raises KeyError for a flag that it does not have."""
    flag: Flag = FLAGS[name]
    return flag.default
