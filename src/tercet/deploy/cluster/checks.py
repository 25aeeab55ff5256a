"""Consistency checks of a cluster file that the schema cannot express.

`check_entries` and `check_flags` work on the raw values, so that they report errors even if other fields are invalid.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

from tercet.deploy.cluster.document import Document
from tercet.deploy.cluster.engine_flags import InvalidFlag, check_name, check_value, default_of
from tercet.deploy.cluster.problems import Findings
from tercet.deploy.cluster.server_facts import parse_duration, parse_url
from tercet.deploy.cluster.settings import Paths
from tercet.deploy.cluster.yaml_document import Location

MEMBERS_USUAL_MAX = 7
QUOTA_USUAL_MAX = 8 << 30
_UNIQUE: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "name": (("name",),),
    "address": (("address",),),
    "SSH host": (("ssh", "host"), ("ssh", "port")),
}
_KEY_BITS = {"ecdsa": (256, 384, 521), "rsa": range(2048, 8193), "ed25519": (256,)}


def check_entries(hosts: Any, found: Findings) -> None:
    """Names, addresses and SSH destinations must be unique. hosts: the raw value, of any type."""
    entries = [entry if isinstance(entry, dict) else {} for entry in hosts] if isinstance(hosts, list) else []
    for what, fields in _UNIQUE.items():
        seen: dict[tuple[str, ...], int] = {}
        for number, entry in enumerate(entries):
            key = _key(entry, fields)
            if not key:
                continue
            first = seen.setdefault(key, number)
            if first != number:
                line = found.document.line(("hosts", first, *fields[0]))
                text = f"{key[0]} is also the {what} of hosts[{first}] (line {line}); it must be unique"
                found.error(("hosts", number, *fields[0]), text)


def _key(entry: dict[str, Any], paths: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    """The normalised value that must be unique; () if not set."""
    parts = []
    for path in paths:
        value: Any = entry
        for part in path:
            value = value.get(part) if isinstance(value, dict) else None
        parts.append(_normalised(str(value)) if isinstance(value, str | int) else "")
    return tuple(parts) if parts[0] else ()


def _normalised(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return text if not text.endswith(".") else text[:-1]


def check_flags(value: Any, found: Findings) -> None:
    """The global flags and those of each host. value: the raw file, of any type."""
    if not isinstance(value, dict):
        return
    engine = value.get("engine") if isinstance(value.get("engine"), dict) else {}
    kind = "etcd" if engine and engine.get("kind") == "etcd" else "tercet"
    version = found.document.texts.get(("engine", "version"))
    for location, given in _flags_given(value):
        name = str(location[-1])
        try:
            warning = check_name(name, engine=kind, version=version)
            if isinstance(given, str):
                check_value(name, given)
        except InvalidFlag as error:
            found.error(location, str(error))
        else:
            if warning:
                found.warning(location, warning)


def _flags_given(value: dict[str, Any]) -> Iterator[tuple[Location, Any]]:
    hosts = value.get("hosts") if isinstance(value.get("hosts"), list) else []
    holders: list[tuple[Location, Any]] = [(("flags",), value.get("flags"))]
    for number, entry in enumerate(hosts or []):
        holders.append((("hosts", number, "flags"), entry.get("flags") if isinstance(entry, dict) else None))
    for location, flags in holders:
        if isinstance(flags, dict):
            yield from (((*location, name), given) for name, given in flags.items())


def check_document(document: Document, found: Findings) -> None:
    """document: valid by the schema; invalid sections are replaced by their defaults."""
    _check_engine(document, found)
    _check_ssh(document, found)
    _check_tls(document, found)
    _check_paths(document.paths, found)
    _check_listeners(document, found)
    _check_store(document, found)
    _check_ticks(document, found)
    _check_backups(document, found)
    if document.service.user == "root":
        found.warning(("service", "user"), "members do not need root; use a dedicated user")


def _check_backups(document: Document, found: Findings) -> None:
    backups = document.backups
    if bool(backups.to) != bool(backups.credentials):
        given, other = ("to", "credentials") if backups.to else ("credentials", "to")
        found.error(("backups", given), f"requires backups.{other} as well")
    if backups.to and not backups.recipient:
        text = "snapshots are stored unencrypted: whoever can read the bucket has all keys and values; set backups.recipient"
        found.warning(("backups", "to"), text)


def check_members(document: Document, found: Findings) -> None:
    """The number of members and their addresses, if the schema accepts `hosts`."""
    count = len(document.hosts)
    if not count:
        found.error(("hosts",), "is empty; at least one host is required, three are recommended")
    elif count == 1:
        found.warning(("hosts",), "a single member: the cluster fails with its host")
    elif count % 2 == 0:
        text = f"{count} members tolerate no more failures than {count - 1}; use an odd number"
        found.warning(("hosts",), text)
    elif count > MEMBERS_USUAL_MAX:
        found.warning(("hosts",), f"{count} members: every write waits for {count // 2 + 1} of them; 3 or 5 are recommended")
    for number, host in enumerate(document.hosts):
        if count > 1 and _is_loopback(host.address):
            text = f"{host.address} is a loopback address; the other members cannot reach it"
            found.error(("hosts", number, "address"), text)
        elif _is_name(host.address):
            text = f"{host.address} is a DNS name, so the member listens on all addresses of its host (0.0.0.0)"
            found.warning(("hosts", number, "address"), text)


def _is_name(address: str) -> bool:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return True
    return False


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _check_engine(document: Document, found: Findings) -> None:
    engine = document.engine
    if engine.kind == "etcd" and not engine.source:
        found.error(("engine", "source"), "is required: path or URL of an etcd release tarball for Linux")
    if engine.kind == "etcd" and engine.python:
        found.warning(("engine", "python"), "has no effect with engine.kind: etcd")
    if engine.source and "://" in engine.source and not engine.sha256:
        if engine.source.lower().startswith("http://"):
            found.error(("engine", "sha256"), "is required for a plain HTTP source")
        else:
            text = "no engine.sha256: the download is not verified against a pinned digest"
            found.warning(("engine", "source"), text)


def _check_ssh(document: Document, found: Findings) -> None:
    if document.ssh.host:
        found.error(("ssh", "host"), "is a setting of one host; set it under hosts[].ssh")


def _check_tls(document: Document, found: Findings) -> None:
    tls = document.tls
    if not tls.enabled:
        found.warning(("tls", "enabled"), "TLS is disabled: anyone who can reach the ports has full access")
    if bool(tls.ca_certificate) != bool(tls.ca_key):
        given, other = ("ca_certificate", "ca_key") if tls.ca_certificate else ("ca_key", "ca_certificate")
        found.error(("tls", given), f"requires tls.{other} as well")
    algorithm = tls.key_algorithm or "ecdsa"
    if tls.key_size not in _KEY_BITS[algorithm]:
        sizes = {"ecdsa": "256, 384 or 521", "rsa": "2048 to 8192", "ed25519": "256"}[algorithm]
        found.error(("tls", "key_size"), f"{tls.key_size} is not a size of {algorithm} keys; use {sizes}")
    country = tls.names.get("C")
    if country is not None and len(country) != 2:
        found.error(("tls", "names", "C"), f"{country!r} is not a two-letter country code")


def _check_paths(paths: Paths, found: Findings) -> None:
    """Directories must not overlap: each has its own owner and mode, and is removed as a whole."""
    owned = {
        name: path
        for name in ("install", "data", "wal", "certificates", "backups")
        if (path := getattr(paths, name)) is not None
    }
    for (first, path), (second, other) in combinations(owned.items(), 2):
        if path == other:
            found.error(("paths", second), f"{other} is also paths.{first}; use separate directories")
        elif (first, second) == ("data", "wal") and other.startswith(path + "/"):
            continue
        elif other.startswith(path + "/"):
            found.error(("paths", second), f"{other} is inside paths.{first} ({path}); use separate directories")
        elif path.startswith(other + "/"):
            found.error(("paths", first), f"{path} is inside paths.{second} ({other}); use separate directories")
    for name in ("bin", "ca"):
        path = getattr(paths, name)
        for owner in ("install", "data", "wal", "backups"):
            if path is not None and owner in owned and (path == owned[owner] or path.startswith(owned[owner] + "/")):
                found.error(("paths", name), f"{path} is inside paths.{owner} ({owned[owner]}); use separate directories")
    if paths.bin == paths.certificates:
        found.error(("paths", "bin"), f"{paths.bin} is also paths.certificates; use separate directories")
    if paths.ca == paths.certificates:
        found.error(("paths", "ca"), f"{paths.ca} is a directory (paths.certificates); set a file, such as {paths.ca}/ca.pem")


def _check_listeners(document: Document, found: Findings) -> None:
    listen = document.listen
    if listen.client_port == listen.peer_port:
        found.error(("listen", "peer_port"), f"{listen.peer_port} is also listen.client_port")
    if listen.plain_loopback and document.tls.enabled:
        text = (
            f"http://127.0.0.1:{listen.client_port} requires no certificate: every user and process on the host, and anyone "
            f"with a tunnel to it, has full access"
        )
        found.warning(("listen", "plain_loopback"), text)
    if listen.metrics_url is None:
        return
    url = parse_url(listen.metrics_url)
    if url.port in (listen.client_port, listen.peer_port):
        found.error(("listen", "metrics_url"), f"port {url.port} is also the client or peer port")
    if not url.is_secure and document.tls.enabled:
        clients = "every process on the host" if _is_loopback(url.host) else "everyone who can reach it"
        found.warning(("listen", "metrics_url"), f"requires no certificate: metrics and health are open to {clients}")


def _check_store(document: Document, found: Findings) -> None:
    if document.quota_backend_bytes > QUOTA_USUAL_MAX:
        gib = document.quota_backend_bytes / (1 << 30)
        found.warning(("quota_backend_bytes",), f"{gib:.1f} GiB is more than the recommended maximum of 8 GiB")
    mode, text = document.auto_compaction_mode, document.auto_compaction_retention
    location = ("auto_compaction_retention",)
    try:
        amount = _retention(mode, text)
    except ValueError:
        wanted = "a duration such as 1h or 30m" if mode == "periodic" else "a number of revisions such as 1000"
        line = max(found.document.line(location), found.document.line(("auto_compaction_mode",)))
        found.error(location, f"{text!r} is not {wanted}, as required by auto_compaction_mode: {mode}", line=line)
        return
    if not amount:
        found.warning(location, "compaction is off: the database grows until the quota stops all writes")


def _retention(mode: str, text: str) -> int:
    """A bare number is hours, or revisions. Raises ValueError."""
    if text.isascii() and text.isdigit():
        return int(text)
    if mode == "revision":
        raise ValueError(text)
    amount = parse_duration(text)
    if amount < 0:
        raise ValueError(text)
    return amount


def _check_ticks(document: Document, found: Findings) -> None:
    """A member refuses to start if election-timeout is below five times heartbeat-interval."""
    locations: list[tuple[Location, dict[str, str]]] = [(("flags",), document.flags)]
    locations += [(("hosts", number, "flags"), {**document.flags, **host.flags}) for number, host in enumerate(document.hosts)]
    for number, (location, flags) in enumerate(locations):
        own = document.flags if not number else document.hosts[number - 1].flags
        texts = [flags.get(name, default_of(name)) for name in ("heartbeat-interval", "election-timeout")]
        if not any(name in own for name in ("heartbeat-interval", "election-timeout")) or not all(map(str.isdigit, texts)):
            continue
        heartbeat, election = map(int, texts)
        if election < 5 * heartbeat:
            place = (*location, "election-timeout" if "election-timeout" in own else "heartbeat-interval")
            found.error(place, f"election-timeout ({election}) must be at least five times heartbeat-interval ({heartbeat})")
        elif election > 50_000:
            found.error((*location, "election-timeout"), f"{election} ms is above the maximum of 50000 ms")
