"""Who is this member, on its first start: one of the founders of a new cluster, or a newcomer to one that runs?

Ids are never chosen freely: a founder's follows from its peer URLs and the cluster's token, a newcomer's is told by the
cluster that added it. A restart asks none of this; the log's head says whose log it is.

Must refuse a member whose id the cluster already knows as started: its disk is empty, so it has forgotten its votes and what it
acknowledged (etcd #3504, #10254). It has to be removed and added again under a new id.

Source: etcd server/etcdserver/bootstrap.go, membership/cluster.go (ValidateClusterAndAssignIDs).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlsplit

from tercet.config.initial_cluster import parse_initial_cluster
from tercet.config.server_config import ServerConfig
from tercet.errors import ConfigError
from tercet.peer import ClusterView, NoAnswer
from tercet.replica.identity import cluster_id, member_id
from tercet.replica.membership import Member, hex_id

RESOLVE_SECONDS_MAX: Final = 30.0

InitialCluster = Mapping[str, tuple[str, ...]]
FetchMembers = Callable[[list[str]], Awaitable[ClusterView]]
"""Ask peer URLs for the cluster's members; the first good answer wins. Raises NoAnswer."""


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """What a first start has found out. `members` are all the initial members, or those of the cluster that is joined."""

    member_id: int
    cluster_id: int
    members: tuple[Member, ...]
    is_founder: bool

    @property
    def others(self) -> list[Member]:
        return [member for member in self.members if member.id != self.member_id]


def initial_cluster(config: ServerConfig) -> dict[str, tuple[str, ...]]:
    """--initial-cluster: peer URLs by member name. Raises ConfigError."""
    parsed = parse_initial_cluster(config.initial_cluster)
    return {name: tuple(url.text for url in urls) for name, urls in parsed.items()}


def initial_members(cluster: InitialCluster, token: str) -> tuple[Member, ...]:
    """The members that --initial-cluster names, by ascending id."""
    members = [Member(member_id(urls, token), tuple(sorted(urls)), name) for name, urls in cluster.items()]
    ids = {member.id for member in members}
    if len(ids) < len(members) or 0 in ids:
        raise ConfigError("two members of --initial-cluster get the same id: give them different URLs")
    return tuple(sorted(members, key=lambda member: member.id))


async def found(name: str, cluster: InitialCluster, token: str, fetch: FetchMembers) -> Bootstrap:
    """A founder's first start. Raises ConfigError if a peer says that this member has run before."""
    members = initial_members(cluster, token)
    own = next(member for member in members if member.name == name)
    bootstrap = Bootstrap(own.id, cluster_id(member.id for member in members), members, is_founder=True)
    urls = [url for member in bootstrap.others for url in member.peer_urls]
    if urls:
        try:
            view = await fetch(urls)
        except NoAnswer:
            return bootstrap  # nobody is up yet: the common case
        refuse_forgetful(own.id, view.members)
    return bootstrap


async def join(name: str, cluster: InitialCluster, fetch: FetchMembers) -> Bootstrap:
    """A newcomer's first start. Raises ConfigError with etcd's reasons when the flags and the cluster do not agree."""
    own_urls = cluster[name]
    urls = sorted(url for one, its in cluster.items() if one != name for url in its)
    try:
        view = await fetch(urls)
    except NoAnswer as error:
        raise ConfigError(
            "cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs"
        ) from error
    existing = [Member.from_json(one) for one in view.members]
    own = await _match(own_urls, cluster, existing, view.cluster_id)
    refuse_forgetful(own.id, view.members)
    members = tuple(replace(member, name=name) if member.id == own.id else member for member in existing)
    return Bootstrap(own.id, view.cluster_id, members, is_founder=False)


def refuse_forgetful(own_id: int, members: Iterable[dict[str, Any]]) -> None:
    """An empty disk under an id that has been in use: raises ConfigError."""
    if any(one.get("id") == own_id and one.get("clientURLs") for one in members):
        raise ConfigError(
            f"member {hex_id(own_id)} has already been bootstrapped; its data directory is empty, so it has forgotten what it "
            "promised: remove the member from the cluster and add it again"
        )


async def _match(own_urls: tuple[str, ...], initial: InitialCluster, existing: list[Member], its_id: int) -> Member:
    """Pair every existing member with an entry of --initial-cluster by its URLs. Returns the one that is ourselves."""
    prefix = f"error validating peerURLs {{ClusterID:{hex_id(its_id)} Members:{[list(one.peer_urls) for one in existing]}}}"
    if len(existing) != len(initial):
        raise ConfigError(f"{prefix}: member count is unequal")
    given = {await _resolved(urls): urls for urls in initial.values()}
    own: Member | None = None
    for member in existing:
        urls = given.pop(await _resolved(member.peer_urls), None)
        if urls is None:
            raise ConfigError(
                f"{prefix}: PeerURLs: no match found for existing member ({hex_id(member.id)}, {list(member.peer_urls)}), "
                "last resolver error (none)"
            )
        if urls == own_urls:
            own = member
    if own is None:
        raise ConfigError(f"{prefix}: none of the existing members has this member's peer URLs")
    return own


async def _resolved(urls: Iterable[str]) -> frozenset[str]:
    """URLs with host names replaced by addresses, so that two spellings of one place compare equal."""
    return frozenset([await _resolve(url) for url in urls])


async def _resolve(url: str) -> str:
    parts = urlsplit(url)
    if parts.hostname is None or parts.port is None:
        return url
    loop = asyncio.get_running_loop()
    try:
        found = await asyncio.wait_for(
            loop.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM), RESOLVE_SECONDS_MAX
        )
    except (OSError, TimeoutError):
        return url
    return f"{parts.scheme}://{min(str(address[4][0]) for address in found)}:{parts.port}"
