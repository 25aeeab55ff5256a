"""Leases on the leader: it renews them, revokes those that expire, and checkpoints those that last long.

A leader takes the leases over (`Expiry.promote`) once it has applied an entry of its own term: then it has applied every revoke
of the leaders before it, and does not renew a lease that is to be revoked. Renewals are not replicated; the next leader gives
every lease its whole TTL again, or what the last checkpoint left of it.

Rules:
- A revoke or a checkpoint is appended to this leader's own log or not at all. Were it forwarded, a deposed leader would end
  leases that its successor has renewed (etcd #15247).
- A renewal is answered only by a member that is the leader. It knows from its ticks: an election takes longer than a few of
  them, and check-quorum deposes a leader without a quorum. After a gap between ticks (a stopped process, a stalled disk), and
  after a transfer of leadership, whose election takes no time, a read-index round must confirm the leadership first.
- An expired lease is never renewed: the renewal waits for the revoke and answers that there is no such lease.
- A renewal that finds a checkpoint, or one on its way, clears it through the log before it is answered: the next leader would
  give the lease less than was promised.

Source: etcd server/lease/lessor.go, server/etcdserver/server.go (revokeExpiredLeases, ensureLeadership), by their behaviour.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from math import ceil
from typing import Final

from google.protobuf.message import Message

from tercet import errors
from tercet.errors import StatusError
from tercet.lease import Checkpoints, Expiry, Lease
from tercet.proto import rpc_pb2
from tercet.raft import Raft
from tercet.replica.applied_waits import AppliedCallback, AppliedWaits
from tercet.replica.late_renewals import LateRenewals, Renewed
from tercet.replica.proposals import PENDING_APPLY_MAX, Outcome, Proposals
from tercet.replica.reads import ReadCallback
from tercet.replica.requests import canonical_encoding
from tercet.replica.state_machine import StateMachine

logger = logging.getLogger(__name__)

REVOKES_PER_SECOND: Final = 1000.0  # etcd's leaseRevokeRate
REVOKES_PENDING_MAX: Final = 128
CHECKPOINTS_IN_ENTRY: Final = 1000  # etcd's maxLeaseCheckpointBatchSize
RETRY_SECONDS: Final = 1.0  # from a failed revoke to the next
STALLED_HEARTBEATS: Final = 3  # etcd: a leader that has not ticked for so long confirms that it still is one


class LeaseKeeper:
    """The leases of one member while it leads. Listens to the lessor."""

    def __init__(
        self,
        raft: Raft,
        state_machine: StateMachine,
        proposals: Proposals,
        read: Callable[[ReadCallback], None],
        schedule_flush: Callable[[], None],
        *,
        clock: Callable[[], float],
        wait_clock: Callable[[], float],
        heartbeat_seconds: float,
        extend_seconds: float,
        checkpoint_seconds: float,
        is_fast: bool,
    ) -> None:
        """wait_clock: of the waits for an apply.
        extend_seconds: added to every lease at a promotion, the election timeout. checkpoint_seconds: 0 for no checkpoints.
        is_fast: renew a lease that is known without waiting for what is committed and not yet applied.
        """
        self._raft = raft
        self._state_machine = state_machine
        self._proposals = proposals
        self._read = read
        self._schedule_flush = schedule_flush
        self._clock = clock
        self._stall_seconds = STALLED_HEARTBEATS * heartbeat_seconds
        self._extend_seconds = extend_seconds
        self._is_fast = is_fast
        self._counts = state_machine.lease_counts
        self._expiry = Expiry()
        self._checkpoints = Checkpoints(checkpoint_seconds)
        self.waits = AppliedWaits(wait_clock)
        self._term = 0  # that this member took the leases over in; 0: it has not
        self._ticked_at = clock()
        self._gaps = 0  # of ticks so far, and ticks of transfers of leadership
        self._confirmed_gap = 0  # the number of gaps when leadership was last confirmed
        self._allowance = 0.0  # revokes that may be proposed now
        self._revokes_pending = 0
        self._checkpoint: list[Lease] | None = None  # whose checkpoints are proposed
        self.late = LateRenewals(schedule_flush)
        state_machine.listen_to_leases(self)

    @property
    def is_primary(self) -> bool:
        """Whether this member decides over the leases now."""
        return self._term != 0 and self._term == self._raft.term and self._raft.is_leader

    # --- lease.Listener

    def granted(self, lease: Lease) -> None:
        if self.is_primary:
            now = self._clock()
            self._expiry.renew(lease, now)
            self._checkpoints.schedule(lease, now)

    def checkpointed(self, lease: Lease) -> None:
        if self.is_primary:
            self._checkpoints.schedule(lease, self._clock())

    def revoked(self, lease: Lease) -> None:
        self._expiry.revoked(lease)
        self._checkpoints.forget(lease)
        self.late.end(lease, errors.LEASE_NOT_FOUND)

    # --- events

    def applied(self, index: int, term: int) -> None:
        """This member has applied up to the entry of this index and term."""
        if self.waits.applied(index):
            self._schedule_flush()
        raft = self._raft
        if raft.is_leader and term == raft.term and self._term != term:
            self._term = term
            self._allowance = 0.0
            self._expiry.promote(self._state_machine.lessor, self._clock(), self._extend_seconds)

    def check_leadership(self, *, is_reset: bool = False) -> None:
        """The leader may have changed. is_reset: all leases are gone, and others may get their ids."""
        if self._term and (is_reset or not self.is_primary):
            self._term = 0
            self._expiry.demote()
            self._checkpoints.clear()
            self.late.end_all(errors.NOT_PRIMARY)

    def tick(self) -> None:
        """One heartbeat interval has passed, or more where this process did not run."""
        now = self._clock()
        elapsed = now - self._ticked_at
        self._ticked_at = now
        if elapsed > self._stall_seconds or self._raft.leader_transferee:
            self._gaps += 1
        if self.waits.expire():
            self._schedule_flush()
        self.check_leadership()
        if not self._term:
            return
        for lease in self._expiry.step():
            self._checkpoints.schedule(lease, now)
        self._revoke_expired(now, elapsed)
        self._checkpoint_due(now)

    def stop(self, error: StatusError) -> None:
        """Fail everything that waits."""
        self.waits.fail_all(error)
        self.late.stop(error)

    # --- requests

    def wait_applied(self, then: AppliedCallback) -> None:
        """Call `then(None)` once everything committed by now is applied, or with TIMEOUT_WAIT_APPLIED after a second."""
        self.waits.add(self._raft.commit_index, self._raft.applied_index, then)

    def remaining_seconds(self, lease: Lease) -> float | None:
        """Until the lease expires, 0 if it has. None: this member does not decide over the leases."""
        return max(0.0, self._expiry.deadline(lease) - self._clock()) if self.is_primary else None

    def end_now(self, lease_id: int) -> bool:
        """Let a lease expire at the next tick. False: there is none, or this member does not decide over the leases."""
        lease = self._state_machine.lessor.get(lease_id)
        if lease is None or not self.is_primary:
            return False
        self._expiry.end_now(lease, self._clock())
        return True

    def renew_now(self, lease_id: int) -> int:
        """Renew a lease if that can be done at once. Returns its TTL in seconds; 0: call `renew`, and nothing was done."""
        lease = self._state_machine.lessor.get(lease_id)
        if lease is None or lease.remaining_seconds or lease.is_checkpointing or not self._is_fast or not self.is_primary:
            return 0
        now = self._clock()
        if self._must_confirm(now) or self._expiry.is_expired(lease, now):
            return 0
        self._expiry.renew(lease, now)
        self._counts.renewed += 1
        return lease.ttl_seconds

    def renew(self, lease_id: int, then: Renewed) -> None:
        """Renew a lease, after whatever must be waited for."""
        if not self.is_primary:
            then(errors.NOT_PRIMARY)
        elif self._must_confirm(self._clock()):
            self._read(partial(self._confirmed, lease_id, then, self._gaps))
        else:
            self._renew_confirmed(lease_id, then)

    def _must_confirm(self, now: float) -> bool:
        return self._confirmed_gap != self._gaps or now - self._ticked_at > self._stall_seconds

    def _confirmed(self, lease_id: int, then: Renewed, gaps: int, error: StatusError | None) -> None:
        """A read-index round that began after `gaps` gaps has ended."""
        if error is not None or not self.is_primary:
            then(errors.NOT_CONFIRMED)
            return
        self._confirmed_gap = max(self._confirmed_gap, gaps)
        self._renew_confirmed(lease_id, then)

    def _renew_confirmed(self, lease_id: int, then: Renewed) -> None:
        if self._is_fast and self._state_machine.lessor.get(lease_id) is not None:
            self._renew_applied(lease_id, then, None)
        else:  # its grant may be committed and not applied yet
            self.wait_applied(partial(self._renew_applied, lease_id, then))

    def _renew_applied(self, lease_id: int, then: Renewed, error: StatusError | None) -> None:
        if error is not None:
            then(error)
            return
        lease = self._state_machine.lessor.get(lease_id)
        if not self.is_primary:
            then(errors.NOT_PRIMARY)
        elif lease is None:
            then(errors.LEASE_NOT_FOUND)
        elif self._expiry.is_expired(lease, self._clock()):
            self.late.add(lease, then)
        elif lease.remaining_seconds or lease.is_checkpointing:
            checkpoint = rpc_pb2.LeaseCheckpoint(ID=lease_id, remaining_TTL=0)
            request = rpc_pb2.LeaseCheckpointRequest(checkpoints=[checkpoint])
            if not self._propose("lease_checkpoint", request, partial(self._cleared, lease, then)):
                then(errors.NOT_PRIMARY)
        else:
            self._renew(lease, then)

    def _cleared(self, lease: Lease, then: Renewed, outcome: Outcome) -> None:
        """The checkpoint of a lease that is being renewed has been cleared, or not."""
        if isinstance(outcome, StatusError):
            then(outcome)
        elif not self.is_primary:
            then(errors.NOT_PRIMARY)
        elif lease.is_gone:
            then(errors.LEASE_NOT_FOUND)
        elif self._expiry.is_expired(lease, self._clock()):
            self.late.add(lease, then)
        else:
            if self._checkpoint is None:
                lease.is_checkpointing = False
            self._renew(lease, then)

    def _renew(self, lease: Lease, then: Renewed) -> None:
        self._expiry.renew(lease, self._clock())
        self._counts.renewed += 1
        then(lease.ttl_seconds)

    # --- what the leader proposes

    def _revoke_expired(self, now: float, elapsed: float) -> None:
        self._allowance = min(REVOKES_PER_SECOND, self._allowance + REVOKES_PER_SECOND * elapsed)
        limit = min(int(self._allowance), REVOKES_PENDING_MAX - self._revokes_pending)
        for lease in self._expiry.take_due(now, limit):
            request = rpc_pb2.LeaseRevokeRequest(ID=lease.id)
            if self._propose("lease_revoke", request, partial(self._ended, lease)):
                self._allowance -= 1
                self._revokes_pending += 1
            else:
                self._expiry.retry(lease, now + RETRY_SECONDS)

    def _ended(self, lease: Lease, outcome: Outcome) -> None:
        self._revokes_pending -= 1
        if not isinstance(outcome, StatusError):
            self._counts.expired += 1
        elif not lease.is_gone:
            logger.warning("failed to revoke lease %016x: %s", lease.id & (1 << 64) - 1, outcome.message)
            self._expiry.retry(lease, self._clock() + RETRY_SECONDS)

    def _checkpoint_due(self, now: float) -> None:
        """Propose the checkpoints that are due, in one entry at a time."""
        if self._checkpoint is not None:
            return
        leases, checkpoints = [], []
        for lease in self._checkpoints.take_due(now, CHECKPOINTS_IN_ENTRY):
            remaining = ceil(self._expiry.deadline(lease) - now)
            if 0 < remaining < lease.ttl_seconds:
                leases.append(lease)
                checkpoints.append(rpc_pb2.LeaseCheckpoint(ID=lease.id, remaining_TTL=remaining))
            else:  # renewed just now, or expired: nothing to record
                self._checkpoints.schedule(lease, now)
        request = rpc_pb2.LeaseCheckpointRequest(checkpoints=checkpoints)
        if not leases:
            return
        if self._propose("lease_checkpoint", request, partial(self._checkpoint_ended, leases)):
            self._checkpoint = leases
            for lease in leases:
                lease.is_checkpointing = True
        else:
            for lease in leases:
                self._checkpoints.schedule(lease, now)

    def _checkpoint_ended(self, leases: list[Lease], outcome: Outcome) -> None:
        if self._checkpoint is leases:
            self._checkpoint = None
        for lease in leases:
            if not isinstance(outcome, StatusError):
                lease.is_checkpointing = False
            elif not lease.is_gone and self.is_primary:
                # The entry may still be applied, so renewals go on to clear it.
                self._checkpoints.schedule(lease, self._clock())

    def _propose(self, field: str, message: Message, then: Callable[[Outcome], None]) -> bool:
        """Append a request to this leader's own log. False: it cannot be now, and `then` is never called."""
        if self._raft.commit_index - self._raft.applied_index > PENDING_APPLY_MAX:
            return False
        identity = self._state_machine.auth.internal_identity()
        if not self._proposals.propose_locally(self._raft, field, canonical_encoding(message), message, then, identity):
            return False
        self._schedule_flush()
        return True
