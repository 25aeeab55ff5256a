"""The member list of a running cluster, compared with the hosts of the cluster file.

A member that was added with `member add` but has not started is listed without a name. It must start with
`--initial-cluster-state=existing`, also on a host whose unit says `new`. A started member whose data is gone must not start
again: it would vote without the votes and entries that it has acknowledged. A member of the initial cluster that never started
has a name, since its bootstrap names all, but no client URLs, which each member publishes; it may start as its unit says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tercet.deploy.cluster.cluster import Cluster
from tercet.deploy.facts.facts import HostFacts
from tercet.deploy.members.members import Members
from tercet.deploy.plan.continuity import flags_of
from tercet.deploy.plan.planning import has_data
from tercet.deploy.ssh.host_error import HostError
from tercet.errors import ConfigError
from tercet.proto import rpc_pb2


@dataclass(frozen=True)
class Membership:
    """The members of a running cluster. is_known: whether a member has answered.

    unstarted: hosts whose added member has never started. started: name to id of the members that have published.
    initial_cluster: what a member that joins now must be started with.
    """

    is_known: bool = False
    unstarted: frozenset[str] = frozenset()
    started: Mapping[str, int] = field(default_factory=dict)
    initial_cluster: str = ""


async def membership(cluster: Cluster, members: Members) -> Membership:
    """The member list. Raises ConfigError if its peer URLs differ from those of the file."""
    listed = await members.listed()
    if listed is None:
        return Membership()
    ours = {cluster.peer_url(spec): spec.name for spec in cluster.hosts}
    theirs = {url: member for member in listed for url in member.peerURLs}
    differences = [
        f"the cluster has a member {member.name or 'unnamed'} ({url}) that is not in the file: restore it under hosts, or "
        f"run `tercet deploy member remove {member.name or format(member.ID, 'x')}`"
        for url, member in theirs.items()
        if url not in ours
    ]
    differences += [
        f"{name} ({url}) is in the file but not a member of the cluster: run `tercet deploy member add {name}`, or remove it "
        "from hosts"
        for url, name in ours.items()
        if url not in theirs
    ]
    if differences:
        raise ConfigError(f"{cluster.path}: hosts: {'; '.join(differences)}. apply does not change the membership")
    return Membership(
        True,
        frozenset(ours[url] for url, member in theirs.items() if not member.name),
        {ours[url]: member.ID for url, member in theirs.items() if member.clientURLs},
        initial_cluster(cluster, listed),
    )


def initial_cluster(cluster: Cluster, listed: Iterable[rpc_pb2.Member]) -> str:
    """--initial-cluster of a member that joins: exactly the listed members, the unstarted ones by their name in the file."""
    ours = {cluster.peer_url(spec): spec.name for spec in cluster.hosts}
    return ",".join(f"{member.name or ours.get(url, '')}={url}" for member in listed for url in member.peerURLs)


def check_unlisted(cluster: Cluster, facts: Mapping[str, HostFacts]) -> None:
    """Without a running member: a host without data may start only if the members with data know it from their first start.

    Raises ConfigError. facts: by host name.
    """
    for name, seen in facts.items():
        started_with = flags_of(seen.unit.exec_line).get("initial-cluster", "")
        if not has_data(cluster, seen) or not started_with:
            continue
        for other in facts:
            entry = f"{other}={cluster.peer_url(cluster.host(other))}"
            if not has_data(cluster, facts[other]) and entry not in started_with.split(","):
                raise ConfigError(
                    f"{cluster.path}: hosts: {other} has no data and is not among the members that {name} was started with. "
                    f"Start the existing members first (--limit {name}), then run `tercet deploy member add {other}`"
                )


def require_data(cluster: Cluster, name: str, facts: HostFacts, members: Membership) -> None:
    """Raises HostError if the member has started before, is down, and its data is gone."""
    if name not in members.started or facts.unit.active == "active" or has_data(cluster, facts):
        return
    raise HostError(
        name,
        "plan",
        f"{cluster.paths.data} has no data, but {name} is a started member: without its data it would break its votes",
        remedy=f"run `tercet deploy member replace {name}`",
    )
