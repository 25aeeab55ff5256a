"""Agreement of the members, checked after every event.

raft/invariants.py checks raft's safety properties (election safety, log matching, leader completeness, state machine safety;
paper, figure 3), acknowledgements.py what members have acknowledged. This module checks what follows for the state: at an
applied index a member has the revision and the auth state that the model computes from the log, and the configuration of all
others; at the end of a run all have the same data.

The record covers the whole run and all incarnations of all members.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tercet.errors import require
from tercet.raft import Raft, confchange
from tercet.raft.invariants import Witness
from tercet.raft.types import ConfState, EntryType, Role
from tercet.replica.recovery import BOOTSTRAP_TERM
from tercet.replica.replica import Replica
from tercet.sim.acknowledgements import Acknowledgements
from tercet.sim.backend import is_within_entry
from tercet.sim.lease_rules import LeaseRules, check_leased_keys
from tercet.sim.member import SimulatedMember
from tercet.sim.model import Model
from tercet.storage.interfaces import Bucket

_LOCAL_KEYS: Final = (b"consistent_index", b"term")  # written with each commit, and commits differ between members


State = tuple[object, ...]


class Agreement:
    """What any member has committed or applied so far."""

    def __init__(self) -> None:
        self.witness = Witness()
        self.acknowledgements = Acknowledgements()
        self.model = Model()
        self.leases = LeaseRules()
        self._conf_states: dict[int, ConfState] = {}  # by applied index
        self._applied: dict[int, int] = {}  # by member: its applied index then
        self._states: dict[int, State] = {}  # by member: as it was last checked

    def check(self, member: SimulatedMember, now: int) -> None:
        """Call after each event of a member. now: virtual microseconds. Raises InvariantViolation."""
        replica = member.replica
        if replica is None:
            return
        state, known = _state(member.process.incarnation, replica), self._states.get(member.id)
        if state == known:
            return
        self._states[member.id] = state
        if known is None or known[0] != state[0]:
            self._applied.pop(member.id, None)
            self.witness.restarted(member.id)
            self.acknowledgements.restarted(replica.raft)
            check_leased_keys(replica.lessor, replica.store)
        self.witness.observe(replica.raft)
        self.acknowledgements.check(replica.raft)
        assert member.log_store is not None
        _check_durable(replica.raft, member.log_store.durable.last_index)
        self._apply_committed(replica.raft, now)
        if replica.raft.role is Role.LEADER:
            self._check_pending_changes(replica.raft)
        elif replica.raft.role is not Role.FOLLOWER:
            self._check_candidate(replica.raft)
        applied = replica.applied_index
        if applied != self._applied.get(member.id) and not replica.is_database_ahead and member.serves_clients:
            self._applied[member.id] = applied
            self._check_applied(replica, is_partly=is_within_entry(member.database.backend))

    def _apply_committed(self, raft: Raft, now: int) -> None:
        """Bring the model up to what this member knows to be committed."""
        model = self.model
        while model.applied_index < raft.commit_index and model.applied_index + 1 >= raft.log.first_index:
            entry = raft.log.entry(model.applied_index + 1)
            model.apply(entry)
            self.leases.committed(entry, now, self.witness.leaders)

    def _check_applied(self, replica: Replica, *, is_partly: bool) -> None:
        """What a member has at an applied index is what the log leads to, its configuration included.

        is_partly: the next entry is partly applied. Reads see none of the keys that it writes, but the end of a role.
        """
        applied, raft, membership = replica.applied_index, replica.raft, replica.membership
        if applied >= len(self.model.revision_at):
            return  # it was restored from a snapshot of entries that no running member has any more
        revision, expected = replica.revision, self.model.revision_at[applied]
        require(revision == expected, f"member {raft.id} has another revision at index {applied}", revision, expected)
        auth, auth_expected = replica.auth, self.model.auth.at[applied]
        require(
            is_partly or (auth.revision, auth.is_enabled) == auth_expected.name,
            f"member {raft.id} has another auth state at index {applied}",
            auth.revision,
            auth.is_enabled,
            auth_expected,
        )
        conf_state = self._conf_states.setdefault(applied, raft.conf_state)
        require(raft.conf_state == conf_state, "another configuration at the same index", raft.id, raft.conf_state, conf_state)
        members, learners = set(membership.members), {one.id for one in membership.sorted() if one.is_learner}
        require(set(confchange.members(conf_state)) == members, "raft and membership differ", raft.id, conf_state, members)
        require(set(conf_state.learners) == learners, "raft and membership differ in learners", raft.id, conf_state, learners)

    def _check_candidate(self, raft: Raft) -> None:
        """A member campaigns as a voter of the configuration that is in force: it has applied every committed change."""
        require(raft.tracker.is_voter(raft.id), "a member that is no voter campaigns", raft.id, raft.conf_state)
        for index in range(max(raft.applied_index + 1, raft.log.first_index), raft.commit_index + 1):
            is_change = raft.log.entry(index).type != EntryType.NORMAL
            require(not is_change, "a candidate has not applied a committed change", raft.id, index, raft.applied_index)

    def _check_pending_changes(self, raft: Raft) -> None:
        """A leader proposes a change of membership only after it has applied the last one (thesis §4.1)."""
        log = raft.log
        first = max(raft.applied_index + 1, log.first_index)
        changes = [
            index
            for index in range(first, log.last_index + 1)
            if log.entry(index).type != EntryType.NORMAL and log.entry(index).term > BOOTSTRAP_TERM
        ]
        require(len(changes) <= 1, "two changes of membership are pending", raft.id, changes)


def _check_durable(raft: Raft, last_index: int) -> None:
    """What a member counts as durable is on its disk, whose log ends at `last_index`; and it applies only that, so that its
    database is not ahead of its log.
    """
    require(raft.stable_index <= last_index, "counts entries as durable that are not", raft.id, raft.stable_index, last_index)
    durable = max(raft.stable_index, raft.log.snapshot_index)
    require(raft.applied_index <= durable, "applies entries that its disk may lose", raft.id, raft.applied_index, durable)


def _state(incarnation: int, replica: Replica) -> State:
    """What the checks depend on, cheap to compare: most events change none of it. The incarnation comes first."""
    raft = replica.raft
    log = raft.log
    acknowledged = raft.read_only.acknowledged
    return (
        incarnation,
        raft.term,
        raft.voted_for,
        raft.leader_id,
        raft.role,
        raft.commit_index,
        raft.applied_index,
        raft.pending_writes.stable_index,
        sum(acknowledged.values()) if acknowledged else 0,
        log.snapshot_index,
        log.last_index,
        replica.repair.is_lost,
    )


def check_same_state(members: Iterable[SimulatedMember]) -> None:
    """All members, having applied the same entries, hold the same data, byte for byte. Raises InvariantViolation."""
    first: dict[Bucket, dict[bytes, bytes]] | None = None
    for member in members:
        content = {bucket: dict(member.database.backend.scan(bucket)) for bucket in Bucket}
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
