"""Transfers leadership away from this member while the cluster has leases.

Only a leader expires leases, and this version cannot: under it they would last until they are revoked. While this member leads
a cluster with leases, it transfers leadership to a voter that can expire them. A member of tercet says so in the /version
object that its peers read, so leadership never moves from one such member to another.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from tercet.errors import StatusError
from tercet.replica.membership import Member, hex_id
from tercet.replica.replica import Replica
from tercet.services.maintenance import transfer_leadership

logger = logging.getLogger(__name__)

TERCET_KEY: Final = "tercet"
"""In the /version object for peers: the version of tercet."""
_CHECK_SECONDS: Final = 1.0
_TRANSFER_SECONDS_MAX: Final = 5.0

FetchVersions = Callable[[Member], Awaitable[Mapping[str, str] | None]]
"""A member's /version object, or None if it does not answer."""


async def hand_over_leases(replica: Replica, fetch: FetchVersions) -> None:
    """Check once a second. Runs until cancelled."""
    has_warned = False
    while True:
        if not (replica.is_leader and replica.has_leases):
            has_warned = False
        elif not await _transfer(replica, fetch) and not has_warned:
            has_warned = True
            logger.warning("leases do not expire: no other member of this cluster can lead and expire them")
        await asyncio.sleep(_CHECK_SECONDS)


async def _transfer(replica: Replica, fetch: FetchVersions) -> bool:
    """Transfer leadership to the voter with the longest log that can expire leases. False: there is none."""
    progress = replica.raft_status().progress
    voters = [member for member in replica.membership.voters() if member.id != replica.member_id and member.id in progress]
    answers = await asyncio.gather(*(fetch(member) for member in voters))
    able = [member.id for member, answer in zip(voters, answers, strict=True) if answer and TERCET_KEY not in answer]
    if not able:
        return False
    target = max(able, key=lambda member_id: progress[member_id].match)
    logger.info("transferring leadership to %s: the cluster has leases, which this member cannot expire", hex_id(target))
    try:
        await transfer_leadership(replica, target, _TRANSFER_SECONDS_MAX)
    except StatusError as error:
        logger.warning("leadership transfer to %s failed: %s", hex_id(target), error)
    return True
