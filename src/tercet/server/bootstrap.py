"""Bootstrap: a member's identity on its first start, in a new cluster or in an existing one.

In a new cluster a member's ID is a hash of its peer URLs and the cluster token; in an existing one it is the ID that the
cluster assigned when the member was added. On a restart the head of the write-ahead log holds both IDs.

Invariant: a member with an empty data directory never starts under an ID that has been in use. It has lost its votes and
acknowledged entries (etcd #3504, #10254), and must be removed and added again under a new ID.

Source: etcd server/etcdserver/bootstrap.go, membership/cluster.go (ValidateClusterAndAssignIDs).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from tercet.config.initial_cluster import parse_initial_cluster
from tercet.config.server_config import ServerConfig
from tercet.errors import ConfigError
from tercet.gotext.urls import parse_url
from tercet.peer import ClusterView, NoAnswer
from tercet.replica.identity import cluster_id, member_id
from tercet.replica.membership import Member, hex_id
from tercet.server.cluster_version import check_compatible

RESOLVE_SECONDS_MAX: Final = 30.0
UNFINISHED: Final = "member.tmp"
"""In a data directory: what `tercetutl snapshot restore` has written so far. It becomes `member` when it is complete."""

InitialCluster = Mapping[str, tuple[str, ...]]
FetchMembers = Callable[[list[str]], Awaitable[ClusterView]]
"""Fetches the cluster's members from the first peer URL that answers. Raises NoAnswer."""

FetchVersions = Callable[[Mapping[int, Sequence[str]]], Awaitable[dict[int, dict[str, str] | None]]]
"""Fetches the /version objects of members by their peer URLs; None for a member that does not answer."""

FetchDowngrade = Callable[[Sequence[str]], Awaitable[bool]]
"""Fetches whether a downgrade is enabled from the first peer URL that answers. Raises NoAnswer."""


class Bootstrap(NamedTuple):
    """The outcome of a first start. members: all members of the cluster, this one included."""

    member_id: int
    cluster_id: int
    members: tuple[Member, ...]

    @property
    def others(self) -> list[Member]:
        return [member for member in self.members if member.id != self.member_id]


def initial_cluster(config: ServerConfig) -> dict[str, tuple[str, ...]]:
    """--initial-cluster: peer URLs by member name. Raises ConfigError."""
    parsed = parse_initial_cluster(config.initial_cluster)
    return {name: tuple(url.text for url in urls) for name, urls in parsed.items()}


def initial_members(cluster: InitialCluster, token: str) -> tuple[Member, ...]:
    """The members of --initial-cluster, by ascending ID. Raises ConfigError."""
    members = [Member(member_id(urls, token), tuple(sorted(urls)), name) for name, urls in cluster.items()]
    ids = {member.id for member in members}
    if len(ids) < len(members) or 0 in ids:
        raise ConfigError("two members of --initial-cluster have the same ID: give them different peer URLs")
    return tuple(sorted(members, key=lambda member: member.id))


async def bootstrap_new(name: str, cluster: InitialCluster, token: str, fetch: FetchMembers) -> Bootstrap:
    """First start in a new cluster. Raises ConfigError if a peer knows this member as started."""
    members = initial_members(cluster, token)
    own = next(member for member in members if member.name == name)
    bootstrap = Bootstrap(own.id, cluster_id(member.id for member in members), members)
    urls = [url for member in bootstrap.others for url in member.peer_urls]
    if urls:
        try:
            view = await fetch(urls)
        except NoAnswer:
            return bootstrap  # no peer is up yet
        _check_not_started(own.id, view.members)
    return bootstrap


async def bootstrap_existing(
    name: str,
    cluster: InitialCluster,
    fetch: FetchMembers,
    fetch_versions: FetchVersions,
    fetch_downgrade: FetchDowngrade,
) -> Bootstrap:
    """First start in an existing cluster. Raises ConfigError, with etcd's texts, if flags and cluster do not agree."""
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
    _check_not_started(own.id, view.members)
    others = [member for member in existing if member.id != own.id]
    versions = await fetch_versions({member.id: member.peer_urls for member in others})
    try:
        is_downgrading = await fetch_downgrade([url for member in others for url in member.peer_urls])
    except NoAnswer:
        is_downgrading = False
    check_compatible(versions, own.id, is_downgrading=is_downgrading)
    members = tuple(member._replace(name=name) if member.id == own.id else member for member in existing)
    return Bootstrap(own.id, view.cluster_id, members)


def _check_not_started(own_id: int, members: Iterable[dict[str, Any]]) -> None:
    """The cluster must not know this ID as started (see the module). Raises ConfigError."""
    if any(one.get("id") == own_id and one.get("clientURLs") for one in members):
        raise ConfigError(
            f"member {hex_id(own_id)} has already been bootstrapped, but its data directory is empty: "
            "remove the member from the cluster and add it again"
        )


async def _match(own_urls: tuple[str, ...], initial: InitialCluster, existing: list[Member], its_id: int) -> Member:
    """This member, after matching every existing member with an entry of --initial-cluster by peer URLs."""
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
    """URLs with host names resolved, for comparison."""
    return frozenset([await _resolve(url) for url in urls])


async def _resolve(url: str) -> str:
    """The URL with its host resolved; a Unix socket, or a URL that does not parse or resolve, is returned unchanged."""
    try:
        parsed = parse_url(url)
        if parsed.is_unix or not parsed.host:
            return url
        async with asyncio.timeout(RESOLVE_SECONDS_MAX):
            found = await asyncio.get_running_loop().getaddrinfo(parsed.host, None, type=socket.SOCK_STREAM)
    except (OSError, ValueError):
        return url
    return f"{parsed.scheme}://{min(str(address[4][0]) for address in found)}:{parsed.port}"
