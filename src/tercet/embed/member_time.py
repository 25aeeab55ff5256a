"""The time of an embedded member: moved forward by its caller, and leases ended at their time or before."""

from __future__ import annotations

import asyncio
from typing import Final

from tercet.embed.clock import ClockKind, MemberClock
from tercet.embed.leases import end_due, has_due
from tercet.server.replica_driver import ReplicaDriver

_END_SECONDS_MAX: Final = 5.0
_REVOKE_SECONDS: Final = 0.01  # in which a leader may revoke some leases: their number a second is limited


class MemberTime:
    """What a member offers for the time of its leases, tokens and automatic compaction."""

    def __init__(self, clock: ClockKind) -> None:
        self.clock = MemberClock(clock)

    def _running(self) -> ReplicaDriver:
        """The member, if it runs."""
        raise NotImplementedError

    async def advance(self, seconds: float) -> None:
        """Move the time of leases, tokens and automatic compaction forward, and end the leases that have expired by then.

        In a cluster, the leader ends them: advance all members. Raises TimeoutError if they cannot be ended within 5 s.
        """
        self.advance_now(seconds)
        async with asyncio.timeout(_END_SECONDS_MAX):
            while has_due(self._running().replica):
                await asyncio.sleep(0.001)

    def advance_now(self, seconds: float) -> None:
        """`advance` without waiting for the end of the leases."""
        member = self._running()
        self.clock.advance(seconds)
        member.guard(end_due, member.replica)

    def end_lease(self, lease_id: int) -> bool:
        """Let a lease expire, if this member is the leader. False: there is none, or another member leads."""
        replica = self._running().replica
        if not replica.leases.end_now(lease_id):
            return False
        if self.clock.is_manual:
            self.advance_now(_REVOKE_SECONDS)
        return True
