"""Do the parts of a cluster file fit together? Each check looks at what the schema let pass, and leaves what it finds.

`check_entries` and `check_flags` work on the file as written, so that they speak even when another field is broken.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

from tercet.deploy.cluster.document import Document
from tercet.deploy.cluster.engine_flags import UnfitFlag, check_name, check_value, default_of
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
    """No member's name, address or SSH destination may occur twice. hosts: as in the file, of any shape."""
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
                text = f"{key[0]} is the {what} of hosts[{first}] already (line {line}); each member needs its own"
                found.error(("hosts", number, *fields[0]), text)


def _key(entry: dict[str, Any], paths: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    """What must be unique, in one spelling; () where the file does not say it."""
    words = []
    for path in paths:
        value: Any = entry
        for part in path:
            value = value.get(part) if isinstance(value, dict) else None
        words.append(_one_spelling(str(value)) if isinstance(value, str | int) else "")
    return tuple(words) if words[0] else ()


def _one_spelling(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return text if not text.endswith(".") else text[:-1]


def check_flags(value: Any, found: Findings) -> None:
    """The flags for all and those of each host, as in the file, of any shape."""
    if not isinstance(value, dict):
        return
    engine = value.get("engine") if isinstance(value.get("engine"), dict) else {}
    kind = "etcd" if engine and engine.get("kind") == "etcd" else "tercet"
    version = found.document.texts.get(("engine", "version"))
    for location, given in _flags_given(value):
        name = str(location[-1])
        try:
            remark = check_name(name, engine=kind, version=version)
            if isinstance(given, str):
                check_value(name, given)
        except UnfitFlag as unfit:
            found.error(location, str(unfit))
        else:
            if remark:
                found.warning(location, remark)


def _flags_given(value: dict[str, Any]) -> Iterator[tuple[Location, Any]]:
    hosts = value.get("hosts") if isinstance(value.get("hosts"), list) else []
    holders: list[tuple[Location, Any]] = [(("flags",), value.get("flags"))]
    for number, entry in enumerate(hosts or []):
        holders.append((("hosts", number, "flags"), entry.get("flags") if isinstance(entry, dict) else None))
    for location, flags in holders:
        if isinstance(flags, dict):
            yield from (((*location, name), given) for name, given in flags.items())


def check_document(document: Document, found: Findings) -> None:
    """document: valid by the schema; sections that were not have their defaults."""
    _check_engine(document, found)
    _check_ssh(document, found)
    _check_tls(document, found)
    _check_paths(document.paths, found)
    _check_listeners(document, found)
    _check_store(document, found)
    _check_ticks(document, found)
    if document.service.user == "root":
        found.warning(("service", "user"), "members need no root; give them a user of their own")


def check_members(document: Document, found: Findings) -> None:
    """The number of members and their addresses, once the hosts are known to be well-formed."""
    count = len(document.hosts)
    if not count:
        found.error(("hosts",), "there are none; name at least one, better three")
    elif count == 1:
        found.warning(("hosts",), "a single member: the cluster stops when its host does")
    elif count % 2 == 0:
        text = f"{count} members endure no more failures than {count - 1}, and more of them can fail; use an odd number"
        found.warning(("hosts",), text)
    elif count > MEMBERS_USUAL_MAX:
        found.warning(("hosts",), f"{count} members: every write waits for {count // 2 + 1} of them; 3 or 5 are usual")
    for number, host in enumerate(document.hosts):
        if count > 1 and _is_loopback(host.address):
            text = f"{host.address} is this host to every host; the other members cannot reach it"
            found.error(("hosts", number, "address"), text)


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _check_engine(document: Document, found: Findings) -> None:
    engine = document.engine
    if engine.kind == "etcd" and not engine.source:
        found.error(("engine", "source"), "is missing: the path or URL of etcd's release tarball for Linux")
    if engine.kind == "etcd" and engine.python:
        found.warning(("engine", "python"), "has no effect: etcd needs no Python")
    if engine.source and "://" in engine.source and not engine.sha256:
        if engine.source.lower().startswith("http://"):
            found.error(("engine", "sha256"), "is missing: what comes over plain HTTP must be checked")
        else:
            text = "no engine.sha256: whatever the server sends will run on the hosts"
            found.warning(("engine", "source"), text)


def _check_ssh(document: Document, found: Findings) -> None:
    if document.ssh.host:
        found.error(("ssh", "host"), "is for one host; write it under hosts[].ssh")


def _check_tls(document: Document, found: Findings) -> None:
    tls = document.tls
    if not tls.enabled:
        found.warning(("tls", "enabled"), "TLS is off: whoever reaches the ports may read and change everything")
    if bool(tls.ca_certificate) != bool(tls.ca_key):
        given, other = ("ca_certificate", "ca_key") if tls.ca_certificate else ("ca_key", "ca_certificate")
        found.error(("tls", given), f"needs tls.{other} beside it")
    if tls.key_size not in _KEY_BITS[tls.key_algorithm]:
        sizes = {"ecdsa": "256, 384 or 521", "rsa": "2048 to 8192", "ed25519": "256"}[tls.key_algorithm]
        found.error(("tls", "key_size"), f"{tls.key_size} is no size of {tls.key_algorithm} keys; use {sizes}")
    country = tls.names.get("C")
    if country is not None and len(country) != 2:
        found.error(("tls", "names", "C"), f"{country!r} is not a country's code of two letters")


def _check_paths(paths: Paths, found: Findings) -> None:
    """Each directory has one owner and one fate: what is inside another would be opened, replaced or removed with it."""
    owned = {
        name: path
        for name in ("install", "data", "wal", "certificates", "backups")
        if (path := getattr(paths, name)) is not None
    }
    for (first, path), (second, other) in combinations(owned.items(), 2):
        if path == other:
            found.error(("paths", second), f"{other} is paths.{first} already; each needs a directory of its own")
        elif (first, second) == ("data", "wal") and other.startswith(path + "/"):
            continue
        elif other.startswith(path + "/"):
            found.error(("paths", second), f"{other} is inside paths.{first} ({path}); move it out of there")
        elif path.startswith(other + "/"):
            found.error(("paths", first), f"{path} is inside paths.{second} ({other}); move it out of there")
    for name in ("bin", "ca"):
        path = getattr(paths, name)
        for owner in ("install", "data", "wal", "backups"):
            if path is not None and owner in owned and (path == owned[owner] or path.startswith(owned[owner] + "/")):
                found.error(("paths", name), f"{path} is inside paths.{owner} ({owned[owner]}); move it out of there")
    if paths.bin == paths.certificates:
        found.error(("paths", "bin"), f"{paths.bin} is paths.certificates already; each needs a directory of its own")
    if paths.ca == paths.certificates:
        found.error(("paths", "ca"), f"{paths.ca} is a directory (paths.certificates); name a file, such as {paths.ca}/ca.pem")


def _check_listeners(document: Document, found: Findings) -> None:
    listen = document.listen
    if listen.client_port == listen.peer_port:
        found.error(("listen", "peer_port"), f"{listen.peer_port} is listen.client_port already")
    if listen.plain_loopback and document.tls.enabled:
        text = (
            f"http://127.0.0.1:{listen.client_port} needs no certificate: every process and every user on the host, "
            f"and who tunnels to it, may read and change everything"
        )
        found.warning(("listen", "plain_loopback"), text)
    if listen.metrics_url is None:
        return
    url = parse_url(listen.metrics_url)
    if url.port in (listen.client_port, listen.peer_port):
        found.error(("listen", "metrics_url"), f"port {url.port} is taken by the clients' or the peers' listener")
    if not url.is_secure and document.tls.enabled:
        whom = "every process on the host, and to who tunnels to it" if _is_loopback(url.host) else "whoever reaches it"
        found.warning(("listen", "metrics_url"), f"is open to {whom}: metrics and health without a certificate")


def _check_store(document: Document, found: Findings) -> None:
    if document.quota_backend_bytes > QUOTA_USUAL_MAX:
        gib = document.quota_backend_bytes / (1 << 30)
        found.warning(("quota_backend_bytes",), f"{gib:.1f} GiB is more than the 8 GiB that are usual as the most")
    mode, text = document.auto_compaction_mode, document.auto_compaction_retention
    location = ("auto_compaction_retention",)
    try:
        amount = _retention(mode, text)
    except ValueError:
        wanted = "a duration such as 1h or 30m" if mode == "periodic" else "a number of revisions such as 1000"
        line = max(found.document.line(location), found.document.line(("auto_compaction_mode",)))
        found.error(location, f"{text!r} is not {wanted}, which auto_compaction_mode: {mode} wants", line=line)
        return
    if not amount:
        found.warning(location, "old revisions are kept for ever: the store grows until its quota stops all writes")


def _retention(mode: str, text: str) -> int:
    """Raises ValueError. A bare number is hours, or revisions."""
    if text.isascii() and text.isdigit():
        return int(text)
    if mode == "revision":
        raise ValueError(text)
    amount = parse_duration(text)
    if amount < 0:
        raise ValueError(text)
    return amount


def _check_ticks(document: Document, found: Findings) -> None:
    """A member takes 5 heartbeats to an election, or more; otherwise it does not start."""
    places: list[tuple[Location, dict[str, str]]] = [(("flags",), document.flags)]
    places += [(("hosts", number, "flags"), {**document.flags, **host.flags}) for number, host in enumerate(document.hosts)]
    for number, (location, flags) in enumerate(places):
        own = document.flags if not number else document.hosts[number - 1].flags
        texts = [flags.get(name, default_of(name)) for name in ("heartbeat-interval", "election-timeout")]
        if not any(name in own for name in ("heartbeat-interval", "election-timeout")) or not all(map(str.isdigit, texts)):
            continue
        heartbeat, election = map(int, texts)
        if election < 5 * heartbeat:
            place = (*location, "election-timeout" if "election-timeout" in own else "heartbeat-interval")
            found.error(place, f"election-timeout ({election}) must be at least five times heartbeat-interval ({heartbeat})")
        elif election > 50_000:
            found.error((*location, "election-timeout"), f"{election} ms is more than the 50000 that a member accepts")
