"""What a member makes known through the log: its own name and client URLs, and, while it leads, the cluster's version.

Source: etcd server/etcdserver/server.go (publishV3, monitorClusterVersions).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from tercet.errors import StatusError
from tercet.proto import internal_pb2
from tercet.replica.membership import Member, hex_id
from tercet.replica.replica import Replica
from tercet.server.cluster_version import MONITOR_SECONDS, decide, describe
from tercet.services.awaitables import propose
from tercet.version import ETCD_VERSION

logger = logging.getLogger(__name__)

# Not the timeout of a client's request: an entry that reaches a member inside a snapshot never answers who proposed it, and
# a member that comes back by one should not wait long for that. To say the same twice does no harm.
_PUBLISH_SECONDS: Final = 1.0

FetchVersion = Callable[[Member], Awaitable[str | None]]
"""A member's own version, or None if it does not answer."""


async def publish(replica: Replica, name: str, client_urls: Iterable[str]) -> None:
    """Have this member's attributes applied; from then on it counts as started. Tries until it works or is cancelled."""
    attributes = internal_pb2.MemberAttributes(name=name, client_urls=client_urls)
    request = internal_pb2.ClusterMemberAttrSetRequest(member_ID=replica.raft.id, member_attributes=attributes)
    while True:
        try:
            async with asyncio.timeout(_PUBLISH_SECONDS):
                await propose(replica, "cluster_member_attr_set", request)
        except TimeoutError:
            continue
        except StatusError as error:
            logger.warning("failed to publish local member to cluster through raft: %s", error)
            await asyncio.sleep(0.1)
            continue
        logger.info("published local member to cluster through raft: %s as %s", hex_id(replica.raft.id), name)
        return


async def monitor_cluster_version(replica: Replica, fetch: FetchVersion) -> None:
    """While this member leads, keep the cluster's version at the smallest of all members'. Runs until cancelled."""
    while True:
        if replica.raft.is_leader:
            await _look_once(replica, fetch)
        await _wait_for_change_of_leader(replica, MONITOR_SECONDS)


async def _look_once(replica: Replica, fetch: FetchVersion) -> None:
    membership = replica.state_machine.membership
    members = membership.sorted()
    others = [member for member in members if member.id != replica.raft.id]
    answers = await asyncio.gather(*(fetch(member) for member in others))
    versions = {member.id: answer for member, answer in zip(others, answers, strict=True)} | {replica.raft.id: ETCD_VERSION}
    version = decide(versions, membership.cluster_version)
    if version is None:
        return
    before = membership.cluster_version
    try:
        await propose(replica, "cluster_version_set", internal_pb2.ClusterVersionSetRequest(ver=version))
    except StatusError as error:
        logger.warning("failed to set the cluster version to %s: %s", version, error)
        return
    logger.info("%s cluster version to %s (%s)", "set initial" if before is None else "updated", version, describe(versions))


async def _wait_for_change_of_leader(replica: Replica, seconds: float) -> None:
    """Sleep, but not through an election: a new cluster should not wait for its version."""
    loop = asyncio.get_running_loop()
    until, seen = loop.time() + seconds, replica.leader_changes_seen
    while loop.time() < until and replica.leader_changes_seen == seen:
        await asyncio.sleep(0.05)
