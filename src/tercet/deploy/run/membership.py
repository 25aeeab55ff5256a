"""The member list of a running cluster, compared with the hosts of the cluster file.

A member that was added with `member add` but has not started is listed without a name. It must start with
`--initial-cluster-state=existing`, also on a host whose unit says `new`. A started member whose data is gone must not start
again: it would vote without the votes and entries that it has acknowledged. A member of the initial cluster that never started
has a name, since its bootstrap names all, but no client URLs, which each member publishes; it may start as its unit says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tercet.deploy.cluster.cluster import Cluster
from tercet.deploy.facts.facts import HostFacts
from tercet.deploy.members.members import Members
from tercet.deploy.plan.planning import has_data
from tercet.deploy.ssh.host_error import HostError
from tercet.errors import ConfigError


@dataclass(frozen=True)
class Membership:
    """unstarted: hosts whose added member has never started. started: name to id of the members that have published."""

    unstarted: frozenset[str] = frozenset()
    started: Mapping[str, int] = field(default_factory=dict)


async def membership(cluster: Cluster, members: Members) -> Membership:
    """The member list. Raises ConfigError if its peer URLs differ from those of the file."""
    listed = await members.listed()
    if listed is None:
        return Membership()  # no member answers; check_continuity has compared the flags in the units
    ours = {cluster.peer_url(spec): spec.name for spec in cluster.hosts}
    theirs = {url: member for member in listed for url in member.peerURLs}
    gone = [f"{member.name or 'unnamed'} ({url})" for url, member in theirs.items() if url not in ours]
    new = [f"{name} ({url})" for url, name in ours.items() if url not in theirs]
    differences = [f"the cluster has a member {which} that is not in the file" for which in gone]
    differences += [f"{which} is in the file but not a member of the cluster" for which in new]
    if differences:
        raise ConfigError(
            f"{cluster.path}: hosts: {'; '.join(differences)}. apply does not change the membership: restore hosts, or change "
            "the membership first with etcdctl member add and member remove"
        )
    return Membership(
        frozenset(ours[url] for url, member in theirs.items() if not member.name),
        {ours[url]: member.ID for url, member in theirs.items() if member.clientURLs},
    )


def require_data(cluster: Cluster, name: str, facts: HostFacts, members: Membership) -> None:
    """Raises HostError if the member has started before, is down, and its data is gone."""
    if name not in members.started or facts.unit.active == "active" or has_data(cluster, facts):
        return
    url = cluster.peer_url(cluster.host(name))
    raise HostError(
        name,
        "plan",
        f"{cluster.paths.data} has no data, but {name} is a started member: without its data it would break its votes",
        remedy=f"run etcdctl member remove {members.started[name]:x} and etcdctl member add {name} --peer-urls={url}, then "
        "rerun apply",
    )
