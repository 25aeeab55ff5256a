"""What other packages may ask of a replica.

Services, probes and metrics depend on these questions instead of on raft, the state machine and the proposal queue behind them.
The answers are those of this moment: an installed snapshot replaces store, alarms and membership, so a caller that waits must
ask again afterwards.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from tercet.auth import AuthStore
from tercet.lease import LeaseCounts, Lessor
from tercet.mvcc import Counts, Store
from tercet.raft import Progress, Raft
from tercet.replica.alarms import Alarms
from tercet.replica.apply import Applier
from tercet.replica.durations import Durations
from tercet.replica.membership import Membership
from tercet.replica.proposals import Proposals
from tercet.replica.quota import Quota
from tercet.replica.reads import Reads
from tercet.replica.state_machine import StateMachine
from tercet.replica.storage_version import stored_version

LEARNER_READY_SHARE: Final = 0.9  # etcd's readyPercentThreshold


class RaftStatus(NamedTuple):
    """etcd's raft.Status."""

    term: int
    vote: int
    leader_id: int
    leader_transferee: int
    role: str
    commit_index: int
    applied_index: int
    progress: dict[int, Progress]
    """By member id; empty on a member that is not leader."""


class ReplicaStatus:
    """The questions; `Replica` adds the requests. `raft` and `state_machine` are for the host and for invariant checks only."""

    def __init__(
        self, raft: Raft, state_machine: StateMachine, applier: Applier, proposals: Proposals, reads: Reads, quota: Quota
    ) -> None:
        self.raft = raft
        self.state_machine = state_machine
        self.backend = state_machine.backend
        self.watches = state_machine.watches
        self.quota = quota
        self.member_id = raft.id
        self._applier = applier
        self._proposals = proposals
        self._reads = reads

    @property
    def storage_version(self) -> str | None:
        """None where it is not known; see storage_version.py."""
        return stored_version(self.backend)

    # --- raft

    @property
    def leader_id(self) -> int:
        """0: no leader is known."""
        return self.raft.leader_id

    @property
    def is_leader(self) -> bool:
        return self.raft.is_leader

    @property
    def is_learner(self) -> bool:
        learners = self.raft.tracker.conf_state.learners
        return bool(learners) and self.member_id in learners  # on the path of every request: mostly an empty tuple

    @property
    def term(self) -> int:
        return self.raft.term

    @property
    def commit_index(self) -> int:
        return self.raft.commit_index

    @property
    def applied_index(self) -> int:
        return self.raft.applied_index

    @property
    def voters(self) -> tuple[int, ...]:
        """The ids of the voting members in raft's configuration."""
        return self.raft.conf_state.voters

    @property
    def leader_transferee(self) -> int:
        """The member that this leader is handing leadership to; 0: none."""
        return self.raft.leader_transferee

    def is_learner_ready(self, member_id: int) -> bool:
        """Has a learner caught up with this leader? etcd's rule: its match index is 90 % of the leader's own."""
        learner, own = self.raft.progress(member_id), self.raft.progress(self.member_id)
        return learner is not None and own is not None and learner.match >= LEARNER_READY_SHARE * own.match

    def raft_status(self) -> RaftStatus:
        raft = self.raft
        return RaftStatus(
            raft.term,
            raft.voted_for,
            raft.leader_id,
            raft.leader_transferee,
            raft.role.name,
            raft.commit_index,
            raft.applied_index,
            dict(raft.tracker.peers) if raft.is_leader else {},
        )

    # --- requests

    @property
    def proposal_counts(self) -> tuple[int, int]:
        """Proposals that wait for their outcome; and those that failed."""
        return len(self._proposals.waiting), self._proposals.failed

    @property
    def request_durations(self) -> Durations:
        """From proposal to outcome, by field of InternalRaftRequest; successes are counted if applies are timed."""
        return self._proposals.durations

    @property
    def read_counts(self) -> tuple[int, int]:
        """Linearizable reads that failed; and rounds that timed out or were answered too late."""
        return self._reads.failed, self._reads.slow

    # --- the applied state

    @property
    def apply_steps(self) -> int:
        """Steps taken so far, each of some entries or of a part of one."""
        return self._applier.steps

    @property
    def is_database_ahead(self) -> bool:
        """Does a received database hold the effects of entries that are yet to be committed here?"""
        return self._applier.is_database_ahead

    @property
    def store(self) -> Store:
        return self.state_machine.store

    @property
    def revision(self) -> int:
        """The store's current revision."""
        return self.state_machine.store.revision

    @property
    def counts(self) -> Counts:
        """The operations of this member since its start."""
        return self.state_machine.counts

    @property
    def membership(self) -> Membership:
        return self.state_machine.membership

    @property
    def lessor(self) -> Lessor:
        return self.state_machine.lessor

    @property
    def lease_counts(self) -> LeaseCounts:
        """What this member has done with leases since its start."""
        return self.state_machine.lease_counts

    @property
    def auth(self) -> AuthStore:
        """The same object for the life of the member, unlike store and membership."""
        return self.state_machine.auth

    @property
    def alarms(self) -> Alarms:
        return self.state_machine.alarms
