"""Agreement of the members, checked after every event.

raft/invariants.py checks raft's safety properties (election safety, log matching, leader completeness, state machine safety;
paper, figure 3). This module checks what follows for the state: members that have applied the same index have the same
revision, and at the end of a run the same data.

The record covers the whole run and all incarnations of all members.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tercet.errors import require
from tercet.raft.invariants import View, Witness, view
from tercet.sim.member import SimulatedMember
from tercet.storage.interfaces import Bucket

_LOCAL_KEYS: Final = (b"consistent_index", b"term")  # written with each commit, and commits differ between members


class Agreement:
    """What any member has committed or applied so far."""

    def __init__(self) -> None:
        self.witness = Witness()
        self._revisions: dict[int, int] = {}  # by applied index
        self._incarnations: dict[int, int] = {}  # by member: the last one seen
        self._applied: dict[int, int] = {}  # by member: its applied index then
        self._views: dict[int, View] = {}  # by member

    def check(self, member: SimulatedMember) -> None:
        """Call after each event of a member. Raises InvariantViolation."""
        replica = member.replica
        if replica is None:
            return
        incarnation = member.process.incarnation
        if self._incarnations.get(member.id) != incarnation:
            self._incarnations[member.id] = incarnation
            self._applied.pop(member.id, None)
            self._views.pop(member.id, None)
            self.witness.restarted(member.id)
        now = view(replica.raft)
        if now == self._views.get(member.id):
            return
        self._views[member.id] = now
        self.witness.observe(replica.raft)
        applied = replica.applied_index
        if applied != self._applied.get(member.id) and not replica.is_database_ahead:
            self._applied[member.id] = applied
            revision = replica.revision
            expected = self._revisions.setdefault(applied, revision)
            require(revision == expected, f"member {member.id} has another revision at index {applied}", revision, expected)


def check_same_state(members: Iterable[SimulatedMember]) -> None:
    """All members, having applied the same entries, hold the same data, byte for byte. Raises InvariantViolation."""
    first: dict[Bucket, dict[bytes, bytes]] | None = None
    for member in members:
        content = {bucket: dict(member.backend.scan(bucket)) for bucket in Bucket}
        for key in _LOCAL_KEYS:
            content[Bucket.META].pop(key, None)
        if first is None:
            first = content
        for bucket in Bucket:
            require(
                content[bucket] == first[bucket],
                f"member {member.id} has other data in bucket {bucket.value.decode()}",
                _difference(content[bucket], first[bucket]),
            )


def _difference(found: dict[bytes, bytes], expected: dict[bytes, bytes]) -> list[tuple[bytes, bytes | None, bytes | None]]:
    keys = sorted(key for key in {*found, *expected} if found.get(key) != expected.get(key))
    return [(key, found.get(key), expected.get(key)) for key in keys[:5]]
