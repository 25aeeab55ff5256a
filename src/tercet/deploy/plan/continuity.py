"""Checks that a started member can follow a change of the cluster file.

Before the first start any change is allowed. Afterwards some fields are fixed by the members' data: each member's peer URL,
the cluster token, the engine and the data directories, the trusted CAs. Applying a change of these member by member would
leave members that cannot find or do not trust each other, so the change is rejected before anything is modified, with the
alternative.

The comparison uses the flags in the member's unit. Flags set elsewhere (environment, config file) are not checked. Pure
function: facts in, ConfigError or the fixed flags out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath

from tercet.deploy.cluster.cluster import Cluster, HostSpec
from tercet.deploy.cluster.field_types import check_name
from tercet.deploy.facts.facts import HostFacts
from tercet.errors import ConfigError

# Read by a member only at its first start. A later change would cause a restart without effect.
FIRST_START_FLAGS = ("initial-cluster", "initial-cluster-state", "initial-cluster-token")
_AUTHORITY_FLAGS = ("trusted-ca-file", "peer-trusted-ca-file")


def has_started(cluster: Cluster, facts: HostFacts) -> bool:
    """Whether the host has a member with data."""
    data = facts.files.get(cluster.paths.data)
    return facts.unit.active == "active" or (data is not None and data.kind == "directory" and data.size > 0)


def check_continuity(
    cluster: Cluster, spec: HostSpec, facts: HostFacts, *, authorities: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The flags that keep their value from the first start; empty before it. Raises ConfigError.

    authorities: path on the host to the SHA-256, in hexadecimal, of the CA certificate that belongs there.
    """
    if not has_started(cluster, facts):
        return {}
    flags = flags_of(facts.unit.exec_line)
    _check_engine(cluster, spec, facts)
    _check_peer_url(cluster, spec, flags)
    _check_token(cluster, spec, flags)
    _check_directories(cluster, spec, facts, flags)
    _check_authorities(cluster, spec, facts, flags, authorities or {})
    return {name: flags[name] for name in FIRST_START_FLAGS if name in flags}


def flags_of(command: str) -> dict[str, str]:
    """The --name=value flags of a command line as `systemctl show` prints it."""
    words = [word.lstrip("-").partition("=") for word in command.split() if word.startswith("-")]
    return {name: value for name, equals, value in words if equals}


def _check_engine(cluster: Cluster, spec: HostSpec, facts: HostFacts) -> None:
    program = PurePosixPath(facts.unit.exec_line.split(" ", 1)[0]).name
    if program in ("tercet", "etcd") and program != cluster.engine.kind:
        raise _rejected(
            cluster,
            spec,
            f"engine.kind: the data on {spec.name} was written by {program}, which {cluster.engine.kind} cannot read",
            f"run `tercet deploy migrate`, which replaces the members one at a time, or set engine.kind: {program}",
        )


def _check_peer_url(cluster: Cluster, spec: HostSpec, flags: Mapping[str, str]) -> None:
    """Which members there are is asked from the cluster (`run/membership.py`); here only the member's own URL is known."""
    before, now = _members(flags.get("initial-cluster", "")).get(spec.name), cluster.peer_url(spec)
    if before is None or before == now:
        return
    raise _rejected(
        cluster,
        spec,
        f"hosts: {spec.name} was started with {before}, and the file has {now}",
        f"restore its address and listen.peer_port, or move it with `tercet deploy member replace {spec.name}`",
    )


def _check_token(cluster: Cluster, spec: HostSpec, flags: Mapping[str, str]) -> None:
    """A started member ignores the token, but a member that starts from an empty disk would form another cluster with it."""
    before = flags.get("initial-cluster-token", cluster.token)
    if before == cluster.token or not _is_valid_token(before):
        return
    default = " (the default, the cluster's name)" if cluster.token == cluster.name else ""
    raise _rejected(
        cluster,
        spec,
        f"token: {spec.name} was first started with {before}, the file has {cluster.token}{default}",
        f"a member that starts from an empty disk would not find the others: set token: {before}",
    )


def _is_valid_token(token: str) -> bool:
    """A manually started cluster may have a token that a cluster file does not allow; its unit keeps it."""
    try:
        check_name(token)
    except ValueError:
        return False
    return True


def _members(text: str) -> dict[str, str]:
    return {name: url for name, equals, url in (part.partition("=") for part in text.split(",")) if equals}


def _check_directories(cluster: Cluster, spec: HostSpec, facts: HostFacts, flags: Mapping[str, str]) -> None:
    """A member with an empty data directory would start from scratch, without the votes and entries it has acknowledged."""
    data = cluster.paths.data
    # Without --wal-dir the log is inside the data directory, as with paths.wal unset.
    for field, before, now in (
        ("paths.data", flags.get("data-dir", data), data),
        ("paths.wal", flags.get("wal-dir", ""), cluster.paths.wal or ""),
    ):
        if before == now or not flags or _has_entries(facts, now):
            continue
        raise _rejected(
            cluster,
            spec,
            f"{field}: the data of {spec.name} is in {before or data}, and {now or data} is empty",
            f"stop {cluster.service.unit}.service and move the directory, one host at a time, or restore {field}",
        )


def _has_entries(facts: HostFacts, path: str) -> bool:
    fact = facts.files.get(path)
    return bool(path) and fact is not None and fact.kind == "directory" and fact.size > 0


def _check_authorities(
    cluster: Cluster, spec: HostSpec, facts: HostFacts, flags: Mapping[str, str], authorities: Mapping[str, str]
) -> None:
    trusted = {flags[name] for name in _AUTHORITY_FLAGS if name in flags}
    for path, sha256 in authorities.items():
        fact = facts.files.get(path)
        if path in trusted and fact is not None and fact.kind == "file" and fact.sha256 and fact.sha256 != sha256:
            raise _rejected(
                cluster,
                spec,
                f"tls: the members trust the CA in {path} on {spec.name}, which differs from the local CA",
                f"members reject certificates of another CA: restore the CA that signed theirs ({_local_ca(cluster)})",
            )


def _local_ca(cluster: Cluster) -> str:
    tls = cluster.tls
    return f"{tls.ca_certificate} and {tls.ca_key}" if tls.ca_certificate else f"the files in {tls.directory}"


def _rejected(cluster: Cluster, spec: HostSpec, text: str, remedy: str) -> ConfigError:
    line = f":{spec.line}" if spec.line else ""
    return ConfigError(f"{cluster.path.name}{line}: {text}. {remedy}")
