"""May a member that has run before go on as the cluster file now describes it?

A first start can be anything. After it, some lines of the file are promises that the members' data keeps: who the members are
and where they reach each other, which cluster they are, which engine wrote the data and where it lies, whom the members trust.
To apply a change of these to one member after another would lead to members that do not find, do not believe, or do not know
each other; so such a change is refused before anything is touched, with what can be done instead.

What counts is how the member was started: the flags that its unit has. A unit that says it in another way (a file, a variable)
is not judged. Pure: facts in, a refusal or the flags that stay as first written out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath

from tercet.deploy.cluster.cluster import Cluster, HostSpec
from tercet.deploy.cluster.field_types import check_name
from tercet.deploy.facts.facts import HostFacts
from tercet.errors import ConfigError

# What a member reads at its first start only. A later change would restart it for nothing.
FIRST_START_FLAGS = ("initial-cluster-state", "initial-cluster-token")
_AUTHORITY_FLAGS = ("trusted-ca-file", "peer-trusted-ca-file")


def has_started(cluster: Cluster, facts: HostFacts) -> bool:
    """Whether there is a member on the host that has data to lose."""
    data = facts.files.get(cluster.paths.data)
    return facts.unit.active == "active" or (data is not None and data.kind == "directory" and data.size > 0)


def check_continuity(
    cluster: Cluster, spec: HostSpec, facts: HostFacts, *, authorities: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The flags that stay as they were at the first start; empty before it. Raises ConfigError.

    authorities: path on the host to the SHA-256, in hexadecimal, of the authority's certificate that is to be there.
    """
    if not has_started(cluster, facts):
        return {}
    flags = flags_of(facts.unit.exec_line)
    _check_engine(cluster, spec, facts)
    _check_members(cluster, spec, flags)
    _check_token(cluster, spec, flags)
    _check_places(cluster, spec, facts, flags)
    _check_authorities(cluster, spec, facts, flags, authorities or {})
    return {name: flags[name] for name in FIRST_START_FLAGS if name in flags}


def flags_of(command: str) -> dict[str, str]:
    """The flags --name=value of a unit's command, as systemd shows it."""
    words = [word.lstrip("-").partition("=") for word in command.split() if word.startswith("-")]
    return {name: value for name, equals, value in words if equals}


def _check_engine(cluster: Cluster, spec: HostSpec, facts: HostFacts) -> None:
    program = PurePosixPath(facts.unit.exec_line.split(" ", 1)[0]).name
    if program in ("tercet", "etcd") and program != cluster.engine.kind:
        raise _refused(
            cluster,
            spec,
            f"engine.kind: the data on {spec.name} was written by {program}, and {cluster.engine.kind} cannot read it",
            f"set engine.kind: {program}; a cluster moves to another engine by a snapshot, or member by member",
        )


def _check_members(cluster: Cluster, spec: HostSpec, flags: Mapping[str, str]) -> None:
    before = _members(flags.get("initial-cluster", ""))
    now = _members(cluster.initial_cluster())
    if not before or before == now:
        return
    gone, new = sorted(before.keys() - now.keys()), sorted(now.keys() - before.keys())
    moved = sorted(name for name in before.keys() & now.keys() if before[name] != now[name])
    said = [f"{', '.join(new)} joined"] * bool(new) + [f"{', '.join(gone)} left"] * bool(gone)
    said += [f"{name} moved from {before[name]} to {now[name]}" for name in moved]
    raise _refused(
        cluster,
        spec,
        f"hosts: the cluster was started with {', '.join(before)}; since then {', and '.join(said)} in the file",
        "apply does not add, remove or move members: that is the cluster's own decision (etcdctl member add, member remove). "
        "Put hosts and listen.peer_port back as they were",
    )


def _check_token(cluster: Cluster, spec: HostSpec, flags: Mapping[str, str]) -> None:
    """No member reads it again, but one that begins anew, on a host that has lost its disk, would be of another cluster."""
    before = flags.get("initial-cluster-token", cluster.token)
    if before == cluster.token or not _can_be_written(before):
        return
    whose = "the file says" if cluster.token != cluster.name else "the file, which sets none, means its name,"
    raise _refused(
        cluster,
        spec,
        f"token: {spec.name} was first started with {before}, and {whose} {cluster.token}",
        f"the members keep the one of their first start, and one that begins anew would not find them: set token: {before}",
    )


def _can_be_written(token: str) -> bool:
    """A cluster that was started by hand may have one that a cluster file cannot say; its unit keeps it."""
    try:
        check_name(token)
    except ValueError:
        return False
    return True


def _members(text: str) -> dict[str, str]:
    return {name: url for name, equals, url in (part.partition("=") for part in text.split(",")) if equals}


def _check_places(cluster: Cluster, spec: HostSpec, facts: HostFacts, flags: Mapping[str, str]) -> None:
    """A member that finds its place empty begins anew, under a name whose promises it has forgotten."""
    data = cluster.paths.data
    # Without the flag the log lies within the data, as with paths.wal unset.
    for field, before, now in (
        ("paths.data", flags.get("data-dir", data), data),
        ("paths.wal", flags.get("wal-dir", ""), cluster.paths.wal or ""),
    ):
        if before == now or not flags or _is_filled(facts, now):
            continue
        raise _refused(
            cluster,
            spec,
            f"{field}: what {spec.name} has is in {before or data}, and {now or data} has none of it",
            f"stop {cluster.service.unit}.service on it and move the directory, one host at a time, or put {field} back",
        )


def _is_filled(facts: HostFacts, path: str) -> bool:
    fact = facts.files.get(path)
    return bool(path) and fact is not None and fact.kind == "directory" and fact.size > 0


def _check_authorities(
    cluster: Cluster, spec: HostSpec, facts: HostFacts, flags: Mapping[str, str], authorities: Mapping[str, str]
) -> None:
    trusted = {flags[name] for name in _AUTHORITY_FLAGS if name in flags}
    for path, sha256 in authorities.items():
        fact = facts.files.get(path)
        if path in trusted and fact is not None and fact.kind == "file" and fact.sha256 and fact.sha256 != sha256:
            raise _refused(
                cluster,
                spec,
                f"tls: the members trust the authority in {path} on {spec.name}, and the one here is another",
                "members with certificates of different authorities do not believe each other: put the authority back that "
                f"signed theirs ({_authority_here(cluster)})",
            )


def _authority_here(cluster: Cluster) -> str:
    tls = cluster.tls
    return f"{tls.ca_certificate} and {tls.ca_key}" if tls.ca_certificate else f"the files in {tls.directory}"


def _refused(cluster: Cluster, spec: HostSpec, text: str, remedy: str) -> ConfigError:
    line = f":{spec.line}" if spec.line else ""
    return ConfigError(f"{cluster.path.name}{line}: {text}. {remedy}")
