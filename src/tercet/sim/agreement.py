"""Do the members agree, at every step? What raft and the state machine promise over all members and all of their lives.

Raft's own promises (election safety, log matching, leader completeness, state machine safety; paper, Figure 3) are watched
by raft/invariants.py. Here is what follows from them for the state: having applied the same index, everybody is at the same
revision; and at the end everybody holds the same data.

The record grows with the run: it is the memory that a real cluster does not have.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tercet.errors import require
from tercet.raft.invariants import View, Witness, view
from tercet.sim.member import SimulatedMember
from tercet.storage.interfaces import Bucket

_WRITTEN_WITH_COMMITS: Final = (b"consistent_index", b"term")  # and so not at the same time everywhere


class Agreement:
    """What has been decided so far, by anybody."""

    def __init__(self) -> None:
        self.witness = Witness()
        self._revisions: dict[int, int] = {}  # by applied index
        self._lives: dict[int, int] = {}  # by member: the one last looked at
        self._applied: dict[int, int] = {}  # by member: how far it was then
        self._views: dict[int, View] = {}  # by member

    def check(self, member: SimulatedMember) -> None:
        """Call after each event of a member. Raises InvariantViolation."""
        replica = member.replica
        if replica is None:
            return
        if self._lives.get(member.id) != member.life:
            self._lives[member.id] = member.life
            self._applied.pop(member.id, None)
            self._views.pop(member.id, None)
            self.witness.restarted(member.id)
        now = view(replica.raft)
        if now == self._views.get(member.id):
            return  # the event moved nothing that others rely on
        self._views[member.id] = now
        self.witness.observe(replica.raft)
        applied = replica.applied_index
        if applied != self._applied.get(member.id) and not replica.is_ahead_of_log:
            self._applied[member.id] = applied
            mine = replica.state_machine.store.revision
            others = self._revisions.setdefault(applied, mine)
            require(mine == others, f"member {member.id} has another revision at index {applied}", mine, others)


def check_same_state(members: Iterable[SimulatedMember]) -> None:
    """All members, having applied the same entries, hold the same data, byte for byte. Raises InvariantViolation."""
    first: dict[Bucket, dict[bytes, bytes]] | None = None
    for member in members:
        content = {bucket: dict(member.backend.scan(bucket)) for bucket in Bucket}
        for key in _WRITTEN_WITH_COMMITS:
            content[Bucket.META].pop(key, None)
        if first is None:
            first = content
        for bucket in Bucket:
            require(
                content[bucket] == first[bucket],
                f"member {member.id} holds other data in bucket {bucket.value.decode()}",
                _difference(content[bucket], first[bucket]),
            )


def _difference(mine: dict[bytes, bytes], others: dict[bytes, bytes]) -> list[tuple[bytes, bytes | None, bytes | None]]:
    keys = sorted(key for key in {*mine, *others} if mine.get(key) != others.get(key))
    return [(key, mine.get(key), others.get(key)) for key in keys[:5]]
