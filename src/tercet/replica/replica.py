"""One member of the replicated state machine.

    propose / read / step / tick  ->  (end of the turn) flush  ->  raft  ->  Ready  ->  disk, peers, state machine  ->
    callbacks

All inputs of a turn of the loop are gathered and carried out once: one append to the log, one message to each follower, one
read-index round. `Replica` connects the parts, each in its own module: proposals.py, reads.py, apply.py, state_machine.py,
log_compaction.py, store_compaction.py, snapshots.py. Others read it through `ReplicaStatus` (status.py).

Sans-I/O: log store, transport, clock and the scheduling of `flush` are injected (host.py). The simulator runs the same object.

Must never send an acknowledgement before it is durable (raft holds it back until `persisted`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

from tercet import errors
from tercet.auth import NOBODY, Identity
from tercet.errors import StatusError
from tercet.log_fields import fields
from tercet.raft import Raft, RawNode
from tercet.raft.codec import encode_conf_change
from tercet.raft.ready import Ready
from tercet.raft.types import NO_MEMBER, ConfChange, Message, MessageType, Snapshot
from tercet.replica.alarm_proposals import AlarmProposals
from tercet.replica.apply import APPLY_WORK, BATCH_ENTRIES, Applier, ApplyTimer
from tercet.replica.forwarded import refusal_of
from tercet.replica.host import ReplicaHost, Transport
from tercet.replica.lease_keeper import LeaseKeeper
from tercet.replica.log_compaction import LogCompaction
from tercet.replica.membership import hex_id
from tercet.replica.proposals import PENDING_APPLY_MAX, IsAwaited, Outcome, Proposals
from tercet.replica.quota import Quota
from tercet.replica.reads import ReadCallback, Reads
from tercet.replica.repair import Repair
from tercet.replica.requests import WHOLE_BYTES_MAX, RequestIds
from tercet.replica.snapshots import Snapshots
from tercet.replica.state_machine import StagedSnapshot, StateMachine
from tercet.replica.status import ReplicaStatus
from tercet.replica.store_compaction import StoreCompaction
from tercet.storage.interfaces import LogStore

logger = logging.getLogger(__name__)

_SNAP: Final = MessageType.SNAP
READYS_IN_TURN_MAX: Final = 8  # the rest waits for the next turn, so that a backlog does not block heartbeats and clients


class Options(NamedTuple):
    """Limits of one replica; the defaults are etcd's."""

    request_timeout_seconds: float = 7.0
    election_timeout_seconds: float = 1.0
    request_bytes_max: int = 1_572_864
    snapshot_entries: int = 10_000
    catch_up_entries: int = 5_000
    catch_up_bytes: int = 256 << 20  # bounds the entries kept in memory, and those between two log compactions
    quota_bytes: int = 0
    heartbeat_seconds: float = 0.1
    lease_checkpoint_seconds: float = 0.0  # 0: leases are not checkpointed
    fast_lease_renewal: bool = True
    prioritize_revokes: bool = False  # accept LeaseRevoke at twice the apply lag of other requests
    apply_work: int = APPLY_WORK  # in one turn, in units of mvcc/work.py
    whole_bytes_max: int = WHOLE_BYTES_MAX  # see apply.py


class Replica(ReplicaStatus):
    """All methods are called on one thread; none of them blocks."""

    def __init__(
        self,
        raft: Raft,
        log_store: LogStore,
        transport: Transport,
        state_machine: StateMachine,
        host: ReplicaHost,
        *,
        clock: Callable[[], float],
        now_ms: int,
        options: Options,
        apply_timer: ApplyTimer | None = None,
        lease_clock: Callable[[], float] | None = None,
    ) -> None:
        """lease_clock: of the leases alone, if it is another one, as in tests."""
        self._ids = RequestIds(raft.id, now_ms)
        timeout = options.request_timeout_seconds
        proposals = Proposals(self._ids, clock=clock, timeout_seconds=timeout, request_bytes_max=options.request_bytes_max)
        reads = Reads(self._ids, clock=clock, timeout_seconds=timeout, search_work=state_machine.auth.take_search_work)
        quota = Quota(state_machine.backend, options.quota_bytes)
        alarms = AlarmProposals(self.propose, state_machine, raft.id, clock=clock, timeout_seconds=timeout)
        applier = Applier(
            raft,
            state_machine,
            proposals,
            quota,
            host,
            raise_no_space=alarms.raise_no_space,
            timer=apply_timer,
            whole_bytes_max=options.whole_bytes_max,
        )
        super().__init__(raft, state_machine, applier, proposals, reads, quota)
        self.is_stopped = False
        self.leader_changes_seen = 0
        self.leader_listeners: list[Callable[[int], None]] = []  # called with the id of a new leader, 0 when it is lost
        self.alarm_proposals = alarms
        self._node = RawNode(raft)
        self._options = options
        self._log_store = log_store
        self._transport = transport
        self._host = host
        self._clock = clock
        self._flush_is_scheduled = False
        self._is_flushing = False
        self._apply_is_scheduled = False
        self._commit_broadcast_is_scheduled = False
        self._unsent_commit = 0  # the commit that the scheduled broadcast is for; a later one gets its own
        self._known_leader = int(NO_MEMBER)
        self._elected_at = self._lost_at = 0.0
        self._leader_unreachable_at = 0.0  # when messages to the known leader were last lost; 0: never
        self.leases = LeaseKeeper(
            raft,
            state_machine,
            proposals,
            self.read,
            self._schedule_flush,
            clock=lease_clock or clock,
            wait_clock=clock,
            heartbeat_seconds=options.heartbeat_seconds,
            extend_seconds=options.election_timeout_seconds,
            checkpoint_seconds=options.lease_checkpoint_seconds,
            is_fast=options.fast_lease_renewal,
        )
        self.compaction = StoreCompaction(state_machine, applier, host)
        self._log_compaction = LogCompaction(
            raft,
            log_store,
            state_machine.backend,
            options.snapshot_entries,
            options.catch_up_entries,
            options.catch_up_bytes,
            clock=clock,
        )
        self._snapshots = Snapshots(state_machine, clock=clock, log_first_index=lambda: raft.log.first_index)
        raft.snapshot_source = self._offer_snapshot
        self.repair = Repair(raft, state_machine, applier, self._snapshots, self._log_compaction, alarms, host, clock=clock)

    # --- requests

    def propose(
        self, field: str, body: bytes, message: Any, then: Callable[[Outcome], None], identity: Identity = NOBODY
    ) -> None:
        """Propose a request; `then` is called with the outcome of its apply on this member.

        field: the request's field in InternalRaftRequest; body: its encoding; message: the same, parsed; identity: the caller,
        or for the member's own requests `auth.internal_identity`. Without authentication, NOBODY.
        Raises RequestError (too large) or Unavailable (too far behind, or stopped); then `then` is never called.
        """
        if self.is_stopped:
            raise errors.STOPPED
        lag = self.raft.commit_index - self.raft.applied_index
        if lag > PENDING_APPLY_MAX and not (
            field == "lease_revoke" and self._options.prioritize_revokes and lag <= 2 * PENDING_APPLY_MAX
        ):
            raise errors.TOO_MANY_REQUESTS
        if self._proposals.add(field, body, message, then, identity) == BATCH_ENTRIES and not self._is_flushing:
            self._host.flush_now()
        elif not self._flush_is_scheduled:
            self._schedule_flush()

    def propose_conf_change(
        self, change: ConfChange, then: Callable[[Outcome], None], is_awaited: IsAwaited = lambda: False
    ) -> bool:
        """Propose a configuration change; `then` is called with b"", or the error, when its entry is applied.

        is_awaited: asked when the timeout of requests has passed, which ends the wait unless it says True.

        `change.id` must be a fresh `next_request_id`: it distinguishes two proposals of the same change.
        False: no leader is known, it is transferring its leadership, or another change is pending; `then` is never called.
        Raises STOPPED.
        """
        if self.is_stopped:
            raise errors.STOPPED
        if not self.raft.propose_conf_change(change):
            return False
        self._proposals.wait_for(encode_conf_change(change), then, is_awaited)
        self._schedule_flush()
        return True

    def next_request_id(self) -> int:
        """An id that no other request in this cluster has."""
        return self._ids.next()

    def read(self, then: ReadCallback) -> None:
        """Call `then(None)` once local state holds every write acknowledged before this call; or with an error."""
        if self.is_stopped:
            then(errors.STOPPED)
        elif self._reads.add(then):
            self._schedule_flush()

    def campaign(self) -> None:
        """Start an election now, if this member may."""
        self.raft.campaign()
        self._schedule_flush()

    def transfer_leadership(self, target: int) -> None:
        """Start handing leadership to `target`; proposals are refused meanwhile."""
        self.raft.transfer_leadership(target)
        self._schedule_flush()

    # --- inputs from the host

    def step(self, message: Message) -> None:
        """Process a message from a peer. A MsgSnap comes through `receive_snapshot`."""
        if message.type is MessageType.PROP:
            is_joint_allowed = self.state_machine.apply_joint_change is not None
            refusal = refusal_of(message.entries, allows_joint_changes=is_joint_allowed)
            if refusal is not None:
                logger.warning("refused a forwarded proposal", extra=fields(sender=hex_id(message.from_), error=refusal))
                return
        self.raft.step(message)
        if not self._flush_is_scheduled:
            self._schedule_flush()

    def receive_snapshot(self, message: Message, staged: StagedSnapshot) -> None:
        """Process a MsgSnap whose database has been received and prepared; raft decides whether to install it."""
        assert message.snapshot is not None
        self._snapshots.received(message.snapshot.index, staged)
        self.step(message)
        self.repair.received(message.snapshot)

    def tick(self) -> None:
        """One heartbeat interval has passed."""
        self.raft.tick()
        self._reads.tick(self.raft)
        self.alarm_proposals.tick()
        self.repair.tick()
        self.leases.tick()
        self._log_compaction.go_on()
        self._snapshots.close_stale()
        self._proposals.expire(
            leader_elected_at=self._elected_at,
            leader_lost_at=self._lost_at - 2 * self._options.election_timeout_seconds,
            leader_unreachable_at=self._leader_unreachable_at,
        )
        self._schedule_flush()

    def broadcast_commit(self) -> None:
        """Stop deferring the commit that `schedule_commit_broadcast` was called for."""
        self._commit_broadcast_is_scheduled = False
        self.raft.broadcast_commit(self._unsent_commit)
        self._schedule_flush()

    def report_unreachable(self, member_id: int) -> None:
        """The transport has lost messages to a member."""
        if member_id == self._known_leader:
            self._leader_unreachable_at = self._clock()
        self.raft.report_unreachable(member_id)
        self._schedule_flush()

    def report_snapshot(self, member_id: int, ok: bool) -> None:
        """The transport has delivered a snapshot to a member, or failed to."""
        self._log_compaction.sent(member_id, ok=ok)
        self.raft.report_snapshot(member_id, ok)
        self._schedule_flush()

    def stop(self, error: StatusError = errors.STOPPED) -> None:
        """Fail all pending requests and release snapshots; nothing is carried out from here on."""
        self.is_stopped = True
        self._proposals.fail_all(error)
        self._applier.stop(error)
        self._reads.fail_all(error)
        self.leases.stop(error)
        self.compaction.stop()
        self._snapshots.close()

    # --- output

    def flush(self) -> None:
        """Carry out everything that this turn has gathered."""
        self._flush_is_scheduled = False
        if self.is_stopped:
            return
        self._is_flushing = True
        try:
            self._flush()
        finally:
            self._is_flushing = False

    def _flush(self) -> None:
        raft, node = self.raft, self._node
        if self._proposals.submit(raft):
            self._schedule_flush()
        self._reads.submit(raft)
        for _ in range(READYS_IN_TURN_MAX):
            if self.is_stopped or not node.has_ready():
                break
            self._carry_out(node.take_ready())
            self._notice_leader()
        self._call_back()
        self._reads.submit(raft)
        if raft.commit_broadcast.has_unsent_commit and not self._commit_broadcast_is_scheduled:
            self._commit_broadcast_is_scheduled = True
            self._unsent_commit = raft.commit_index
            self._host.schedule_commit_broadcast()
        if node.has_ready():
            self._schedule_flush()

    def _call_back(self) -> None:
        """Call back some of those who wait for what is over now: reads, proposals past their deadline, waits for an apply."""
        more = self._reads.answer()
        more = self._proposals.expire_some() or more
        more = self.leases.late.call_back() or more
        if self.leases.waits.call_back() or more:
            self._schedule_flush()

    def _schedule_flush(self) -> None:
        if not self._flush_is_scheduled:
            self._flush_is_scheduled = True
            self._host.schedule_flush()

    def _carry_out(self, ready: Ready) -> None:
        """Send what needs no disk, write, and apply what is committed."""
        # Entries are sent first, so that followers write in parallel with this disk. But a leader with only a commit index to
        # send answers its clients first: the followers' work would delay them (10 % with one put at a time).
        answers_first = bool(ready.committed) and not ready.entries and self.raft.is_leader
        if ready.messages and not answers_first:
            self._send(ready.messages)
        if ready.snapshot is not None:
            self._install(ready)
        elif ready.entries or ready.hard_state is not None:
            then = partial(self._persisted, ready.number) if ready.must_sync else _nothing
            if self._log_store.append(ready.hard_state, ready.entries, then=then, sync=ready.must_sync) and ready.must_sync:
                self._node.persisted(ready.number)
                # Acknowledge before applying: the leader waits for the acknowledgement.
                self._send(self._node.take_messages())
        if ready.committed:
            self._applier.add(ready.committed)
            if not self._apply_is_scheduled:
                self.apply()
        if answers_first:
            self._host.flush_replies()
            if ready.messages:
                self._send(ready.messages)
        if ready.read_states:
            self._reads.confirmed(ready.read_states, self.raft.applied_index)

    def _send(self, messages: list[Message]) -> None:
        """Send messages; a MsgSnap goes with the view that raft's description was made from."""
        for message in messages:
            if message.type is _SNAP:
                break
        else:
            self._transport.send(messages)
            return
        self._transport.send([message for message in messages if message.type is not _SNAP])
        for message in messages:
            if message.snapshot is None:
                continue
            view = self._snapshots.take(message.snapshot.index)
            if view is None:
                self.report_snapshot(message.to, False)
            else:
                self._log_compaction.sending(message.to)
                logger.info("sending merged snapshot", extra=fields(to=hex_id(message.to)))
                self._transport.send_snapshot(message, view)

    def _persisted(self, number: int) -> None:
        """One fdatasync may cover several Readys; their consequences are carried out together at the end of the turn."""
        self._node.persisted(number)
        if not self._flush_is_scheduled:
            self._schedule_flush()

    def apply(self) -> None:
        """Apply as many of the committed entries as one turn may take. The host calls it after `schedule_apply`."""
        self._apply_is_scheduled = False
        if self.is_stopped or self.repair.is_holding:
            return
        applier = self._applier
        if applier.step(self._options.apply_work):
            self._apply_is_scheduled = True
            self._host.schedule_apply()
        index = applier.index
        if index > self.raft.applied_index:
            self.raft.applied_to(index)
            self._reads.applied(index)
            self.leases.applied(index, applier.term)
            self._log_compaction.applied(index, applier.term)
            if not self._is_flushing:
                self._call_back()
        if not self._is_flushing and self._node.has_ready() and not self._flush_is_scheduled:
            self._schedule_flush()

    def _install(self, ready: Ready) -> None:
        """Install a snapshot: first the backend, then the log's snapshot record, then the acknowledgement to the leader."""
        snapshot = ready.snapshot
        assert snapshot is not None
        before = set(self.membership.members)
        self._applier.install(snapshot, self._snapshots)
        self.repair.replaced()
        persisted = partial(self._persisted, ready.number)
        is_alone = ready.hard_state is None and not ready.entries
        self._log_store.save_snapshot(snapshot, then=persisted if is_alone else _nothing)
        # The commit index comes after the record: by the log alone, from which a lost database is made again, it would cover
        # entries that conflict with the snapshot. Entries that follow the snapshot may have arrived in the same turn.
        if not is_alone and self._log_store.append(ready.hard_state, ready.entries, then=persisted):
            persisted()
        self._log_compaction.installed(snapshot.index)
        self.raft.applied_to(snapshot.index)
        self._reads.applied(snapshot.index)
        for member_id in sorted(before - set(self.membership.members)):
            self._host.member_removed(member_id)
        for member in self.membership.sorted():
            self._host.member_changed(member)
        self._host.schedule_compaction()  # the sender may have been in the middle of one
        shown = fields(incoming_leader_snapshot_index=snapshot.index, incoming_leader_snapshot_term=snapshot.term)
        logger.info("applied snapshot", extra=shown)

    def _offer_snapshot(self) -> Snapshot | None:
        """Raft's `snapshot_source`. None while the database is ahead of the log: its later entries may be uncommitted here."""
        if self._applier.is_database_ahead:
            return None
        self._log_compaction.snapshot_requested()
        return self._snapshots.offer()

    def _notice_leader(self) -> None:
        leader_id = self.raft.leader_id
        if leader_id == self._known_leader:
            return
        now = self._clock()
        if leader_id:
            self._elected_at = now
            self.leader_changes_seen += 1
            self._reads.leader_changed(self.raft)
            self._schedule_flush()
        else:
            self._lost_at = now
        self._known_leader = leader_id
        self._leader_unreachable_at = 0.0
        self.leases.check_leadership()
        for listener in self.leader_listeners:
            listener(leader_id)


def _nothing() -> None:
    """The completion of a write that nothing waits for: a commit index needs no fsync."""
