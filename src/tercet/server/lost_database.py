"""A member whose database does not load at a restart, though its write-ahead log is sound.

It takes part in its cluster with the log alone, and replaces its database by the leader's (replica/repair.py). First it needs
the addresses of the other members, which were in the database: it asks those that flags and log name for the current members.
Without an answer it does not start, and changes nothing on its disk.

No acknowledged write is lost: what this member has acknowledged is in its log, and what is applied was committed, so that
each leader has it.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Final

from tercet.config.initial_cluster import parse_initial_cluster
from tercet.config.server_config import ServerConfig
from tercet.errors import StorageFailure
from tercet.peer import ClusterView, NoAnswer
from tercet.raft.codec import conf_change_in
from tercet.raft.types import ConfChange, EntryType
from tercet.replica.membership import Member, hex_id
from tercet.storage.wal_recovery import Recovered

logger = logging.getLogger(__name__)

ASK_SECONDS_MAX: Final = 30.0
_PAUSE_SECONDS: Final = 1.0

FetchMembers = Callable[[list[str]], Awaitable[ClusterView]]
"""Fetches the cluster's members from the first peer URL that answers. Raises NoAnswer."""


class LostDatabase(StorageFailure):
    """The database cannot be read, and the log does not reach back to its first entry. peer_urls: of other members."""

    def __init__(self, damage: str, *, member_id: int, cluster_id: int, data: str, peer_urls: Collection[str]) -> None:
        super().__init__(
            f"{damage}. A member cannot start from damaged data, unless another member provides a database: start the other "
            f"members; or remove it from the cluster (etcdctl member remove {hex_id(member_id)}), empty {data}, and add it "
            "again (etcdctl member add). A cluster's only member is restored from a snapshot"
        )
        self.damage = damage
        self.member_id = member_id
        self.cluster_id = cluster_id
        self.peer_urls = sorted(peer_urls)


def known_peer_urls(config: ServerConfig, recovered: Recovered) -> set[str]:
    """Peer URLs of other members, current or not, from --initial-cluster and from the log. Raises ConfigError."""
    urls = {url.text for urls in parse_initial_cluster(config.initial_cluster).values() for url in urls}
    for entry in recovered.entries:
        if entry.type != EntryType.NORMAL:
            change = conf_change_in(entry)
            if isinstance(change, ConfChange) and change.context:
                urls.update(json.loads(change.context).get("peerURLs") or ())
    return urls - {url.text for url in config.initial_advertise_peer_urls}


async def find_members(lost: LostDatabase, fetch: FetchMembers) -> list[Member]:
    """The members of the cluster as another member knows them. Raises `lost`, if nobody else can provide a database."""
    if not lost.peer_urls:
        raise lost
    logger.warning(
        "%s. Asking the other members for the cluster's members, to replace it by the leader's database", lost.damage
    )
    loop = asyncio.get_running_loop()
    deadline = loop.time() + ASK_SECONDS_MAX
    while True:
        try:
            view = await fetch(lost.peer_urls)
        except NoAnswer as error:
            if loop.time() > deadline:
                logger.error("no other member answered: %s", error)
                raise lost from error
            await asyncio.sleep(_PAUSE_SECONDS)
            continue
        members = [Member.from_json(one) for one in view.members]
        if view.cluster_id != lost.cluster_id or lost.member_id not in {member.id for member in members}:
            logger.error("this member has been removed, or the peer URLs are of another cluster (%s)", hex_id(view.cluster_id))
            raise lost
        if len(members) == 1:
            raise lost
        return members
