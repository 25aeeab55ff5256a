"""One member of the replicated state machine: what comes in goes to raft, what raft decides is carried out, in a safe order.

    propose / read / step / tick  ->  (end of the turn) flush  ->  raft  ->  Ready  ->  disk, peers, state machine  ->
    callbacks

Everything of a turn of the loop is gathered and carried out once: one append to the log, one message to each follower, one
read-index round. The object only passes things on; the ideas live beside it: proposals.py, reads.py, state_machine.py,
membership.py, checkpoint.py, snapshots.py.

Sans-I/O: the log store, the transport, the clock and the scheduling of `flush` are injected. The simulator runs this very
object.

Must never: answer a client before its entry is applied; let a promise out before it is durable (raft holds those back until
`persisted`); apply an entry twice (the backend keeps the applied index in the same commit as the data).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

from tercet import errors
from tercet.errors import Code, RequestError, StatusError, StorageFailure, strip_traceback
from tercet.proto import rpc_pb2
from tercet.raft import ConfChangeRefused, Raft, RawNode
from tercet.raft.codec import conf_change_in, encode_conf_change
from tercet.raft.ready import Ready
from tercet.raft.types import NO_MEMBER, ConfChange, Entry, EntryType, Message, Snapshot
from tercet.replica.log_compaction import Checkpoints
from tercet.replica.membership import Member
from tercet.replica.proposals import PENDING_APPLY_MAX, Outcome, Proposals
from tercet.replica.quota import Quota, request_cost
from tercet.replica.reads import ReadCallback, Reads
from tercet.replica.requests import RequestIds, decode_request
from tercet.replica.snapshots import Snapshots
from tercet.replica.state_machine import StateMachine
from tercet.storage.interfaces import LogStore

logger = logging.getLogger(__name__)

_NORMAL: Final = int(EntryType.NORMAL)
# A turn with more than this goes in parts, so that followers and clients begin with the first while we are at the next: with
# 256 puts in flight and one batch for all of them, everybody would wait for everybody in turn.
BATCH_ENTRIES: Final = 64
READYS_IN_TURN_MAX: Final = 8  # more wait for the next turn: behind a backlog, heartbeats and clients are still heard


class Transport(Protocol):
    """How messages leave. `send` never blocks and may lose anything: raft repeats what matters."""

    def send(self, messages: list[Message]) -> None: ...


class ReplicaHost(Protocol):
    """Whoever runs a replica: the server, or the simulator."""

    def schedule_flush(self) -> None:
        """Call `Replica.flush` at the end of this turn. Asked once a turn."""
        ...

    def flush_now(self) -> None:
        """Call `Replica.flush` at once: enough has been gathered."""
        ...

    def flush_replies(self) -> None:
        """Let answers that have been given leave before anything else is done."""
        ...

    def schedule_commit_broadcast(self) -> None:
        """Call `Replica.broadcast_commit` in a few milliseconds."""
        ...

    def schedule_compaction(self) -> None:
        """Call `Replica.compact_some` now and then, with pauses, until it says that nothing is left."""
        ...

    def member_changed(self, member: Member) -> None:
        """A member was added, or its peer URLs changed."""
        ...

    def member_removed(self, member_id: int) -> None: ...

    def leader_changed(self, leader_id: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Options:
    """Limits of one replica; the defaults are etcd's."""

    request_timeout_seconds: float = 7.0
    election_timeout_seconds: float = 1.0
    request_bytes_max: int = 1_572_864
    snapshot_entries: int = 10_000
    catch_up_entries: int = 5_000
    catch_up_bytes: int = 256 << 20  # entries may be large: no more of them is kept in memory, and as much between checkpoints
    quota_bytes: int = 0


class Replica:
    """One member's share of the replicated state machine. All methods are called on one thread; none of them waits."""

    def __init__(
        self,
        raft: Raft,
        log_store: LogStore,
        transport: Transport,
        state_machine: StateMachine,
        owner: ReplicaHost,
        *,
        clock: Callable[[], float],
        now_ms: int,
        options: Options,
    ) -> None:
        self.raft = raft
        self._node = RawNode(raft)
        self.state_machine = state_machine
        self.quota = Quota(state_machine.backend, options.quota_bytes)
        self.applied_index = state_machine.backend.applied_index
        self.applied_term = state_machine.backend.applied_term
        # A received database may be ahead of its description: data up to this (index, term) is in it already.
        self._data_point = (0, 0)
        self.leader_id = int(NO_MEMBER)
        self.leader_changes_seen = 0
        self.is_stopped = False
        self._options = options
        self._log_store = log_store
        self._transport = transport
        self._owner = owner
        self._clock = clock
        self._flush_is_scheduled = False
        self._is_flushing = False
        self._telling_is_planned = False
        self._untold_index = 0  # the commit for whose sake the telling is planned; a later one has a moment of its own
        self._alarm_proposed_at = float("-inf")
        self._compaction_waiters: list[Callable[[], None]] = []
        state_machine.on_compaction = owner.schedule_compaction
        self._elected_at = self._lost_at = 0.0
        ids = RequestIds(raft.id, now_ms)
        timeout = options.request_timeout_seconds
        self.proposals = Proposals(ids, clock=clock, timeout_seconds=timeout, request_bytes_max=options.request_bytes_max)
        self.reads = Reads(ids, clock=clock, timeout_seconds=timeout)
        self.checkpoints = Checkpoints(
            raft,
            log_store,
            state_machine.backend,
            options.snapshot_entries,
            options.catch_up_entries,
            options.catch_up_bytes,
            clock=clock,
        )
        self.snapshots = Snapshots(state_machine, clock=clock, log_starts=lambda: raft.log.first_index)
        raft.snapshot_source = self._offer_snapshot

    # --- what comes in

    def propose(self, field: str, body: bytes, message: Any, then: Callable[[Outcome], None]) -> None:
        """Have a request applied on every member; `then` hears the outcome of its apply here.

        field: the request's field in InternalRaftRequest; body: its encoding; message: the same, parsed.
        Raises RequestError (too large) or Unavailable (too far behind, or stopped); then `then` is never called.
        """
        if self.is_stopped:
            raise errors.STOPPED
        if self.raft.commit_index - self.applied_index > PENDING_APPLY_MAX:
            raise errors.TOO_MANY_REQUESTS
        if self.proposals.add(field, body, message, then) >= BATCH_ENTRIES and not self._is_flushing:
            self._owner.flush_now()
        elif not self._flush_is_scheduled:
            self._schedule_flush()

    def propose_change(self, change: ConfChange, then: Callable[[Outcome], None]) -> None:
        """Propose a change of membership; `then` hears b"" or the reason why it was refused when the entry is applied.

        `change.id` must be a fresh request id: it tells two proposals of the same change apart.
        """
        if self.is_stopped:
            then(errors.STOPPED)
            return
        data = encode_conf_change(change)
        self.proposals.wait_for(data, "", change, then)
        if not self.raft.propose_conf_change(change):
            self.proposals.waiting.pop(data)
            then(errors.NO_LEADER)
            return
        self._schedule_flush()

    def read(self, then: ReadCallback) -> None:
        """Call `then(None)` when local state holds every write that was acknowledged before now; or with an error."""
        if self.is_stopped:
            then(errors.STOPPED)
        elif self.reads.add(then):
            self._schedule_flush()

    def step(self, message: Message) -> None:
        """A message from a peer."""
        self.raft.step(message)
        if not self._flush_is_scheduled:
            self._schedule_flush()

    def tick(self) -> None:
        """One heartbeat interval has passed."""
        self.raft.tick()
        self.reads.tick(self.raft)
        self.snapshots.close_stale()
        self.proposals.expire(
            leader_elected_at=self._elected_at,
            leader_lost_at=self._lost_at - 2 * self._options.election_timeout_seconds,
            leader_is_reachable=bool(self.leader_id),
        )
        self._schedule_flush()

    def broadcast_commit(self) -> None:
        """The moment is over for which a commit waits to travel with entries."""
        self._telling_is_planned = False
        self.raft.broadcast_commit(self._untold_index)
        self._schedule_flush()

    def transfer_leadership(self, target: int) -> None:
        """Begin to hand the lead to `target`; proposals are refused meanwhile."""
        self.raft.transfer_leadership(target)
        self._schedule_flush()

    def raise_no_space(self) -> None:
        """This member's quota is reached: have the alarm raised, which then binds every member."""
        if (
            self.state_machine.alarms.no_space
            or self._clock() - self._alarm_proposed_at < self._options.request_timeout_seconds
        ):
            return
        alarm = rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.ACTIVATE, memberID=self.raft.id, alarm=rpc_pb2.NOSPACE)
        try:
            self.propose("alarm", alarm.SerializeToString(), alarm, lambda outcome: None)
        except StatusError as error:  # too far behind, say; whoever meets the quota next tries again
            strip_traceback(error)
        else:
            self._alarm_proposed_at = self._clock()

    def when_compacted(self, then: Callable[[], None]) -> None:
        """Call `then` once nothing is left to remove of what compactions so far have superseded, and the removal is durable."""
        self._compaction_waiters.append(then)
        self._owner.schedule_compaction()

    def compact_some(self, limit: int) -> bool:
        """Remove up to `limit` superseded revisions from the backend. Returns whether there is more to do."""
        if self.is_stopped:
            return False
        more = self.state_machine.store.compaction_step(limit)
        # What it removed belongs to no entry: closed here, so that it is committed also on a member that is idle.
        self._close(self.applied_index, self.applied_term)
        if more:
            return True
        waiters, self._compaction_waiters = self._compaction_waiters, []
        if waiters:
            self.state_machine.backend.commit(then=partial(_call_all, waiters))
        return False

    def stop(self, error: StatusError = errors.STOPPED) -> None:
        """Answer everybody who still waits; nothing is carried out from here on."""
        self.is_stopped = True
        self.proposals.fail_all(error)
        self.reads.fail_all(error)

    @property
    def is_ahead_of_log(self) -> bool:
        """Does a received database hold the effects of entries that are still to be applied (and will be passed over)?"""
        return self.applied_index < self._data_point[0]

    def schedule(self) -> None:
        """Something was told to raft directly: see to it at the end of this turn."""
        self._schedule_flush()

    def _schedule_flush(self) -> None:
        if not self._flush_is_scheduled:
            self._flush_is_scheduled = True
            self._owner.schedule_flush()

    # --- what goes out

    def flush(self) -> None:
        """Carry out all that this turn has gathered."""
        self._flush_is_scheduled = False
        if self.is_stopped:
            return
        self._is_flushing = True
        try:
            self._flush()
        finally:
            self._is_flushing = False

    def _flush(self) -> None:
        raft = self.raft
        self.proposals.submit(raft)
        self.reads.submit(raft)
        for _ in range(READYS_IN_TURN_MAX):
            if self.is_stopped or not self._node.has_ready():
                break
            self._carry_out(self._node.take_ready())
            self._notice_leader()
        self.reads.submit(raft)
        if raft.commit_broadcast.has_unsent_commit and not self._telling_is_planned:
            self._telling_is_planned = True
            self._untold_index = raft.commit_index
            self._owner.schedule_commit_broadcast()
        if self._node.has_ready():
            self._schedule_flush()

    def _carry_out(self, ready: Ready) -> None:
        """Speak at once where that is safe; promise only what is on disk; apply what a quorum has."""
        # Entries first on their way, so that followers write while we do. But a leader that has only a commit to tell answers
        # its clients first: they wait, and the followers' work would take the processor from them (a put at a time: 10 %).
        answers_first = bool(ready.committed) and not ready.entries and self.raft.is_leader
        if ready.messages and not answers_first:
            self._transport.send(ready.messages)
        if ready.snapshot is not None:
            self._install(ready)
        elif ready.entries or ready.hard_state is not None:
            then = partial(self._persisted, ready.number) if ready.must_sync else _nothing
            if self._log_store.append(ready.hard_state, ready.entries, then=then, sync=ready.must_sync) and ready.must_sync:
                self._node.persisted(ready.number)
                # The leader waits for our word; for what we apply, nobody does.
                self._transport.send(self._node.take_messages())
        if ready.committed:
            self._apply(ready.committed)
        if answers_first:
            self._owner.flush_replies()
            if ready.messages:
                self._transport.send(ready.messages)
        if ready.read_states:
            self.reads.confirmed(ready.read_states, self.applied_index)

    def _persisted(self, number: int) -> None:
        """One fdatasync may cover several Readys: what follows from all of them is carried out once, at the end of the turn."""
        self._node.persisted(number)
        if not self._flush_is_scheduled:
            self._schedule_flush()

    def _apply(self, entries: list[Entry]) -> None:
        for start in range(0, len(entries), BATCH_ENTRIES):
            if start:
                self._owner.flush_replies()
            self._apply_batch(entries[start : start + BATCH_ENTRIES])
        self._advance(entries[-1].index, entries[-1].term)

    def _apply_batch(self, entries: list[Entry]) -> None:
        waiting = self.proposals.waiting
        handlers = self.state_machine.handlers
        is_full = not self.quota.allows(1)
        for entry in entries:
            data = entry.data
            if entry.type != _NORMAL:
                self._apply_change(entry)
                continue
            if not data or entry.index <= self._data_point[0]:
                continue  # a new leader's first entry only proves that all before it is committed
            waiter = waiting.pop(data, None)
            if waiter is None:
                field, message = decode_request(data)
            else:
                field, message = waiter.field, waiter.message
            outcome: Outcome
            try:
                outcome = handlers[field](message)
            except RequestError as error:
                outcome = strip_traceback(error)
            if field == "alarm":
                handlers = self.state_machine.handlers
            if is_full and request_cost(field, message):
                # What other members have room for is written here too; but whoever asked learns that the end is reached.
                self.raise_no_space()
                outcome = errors.NO_SPACE
            if waiter is not None:
                waiter.then(outcome)

    def _advance(self, index: int, term: int) -> None:
        """All entries up to `index` are in the state machine."""
        self.applied_index, self.applied_term = index, term
        self._close(index, term)
        self.raft.applied_to(index)
        self.reads.applied(index)
        self.checkpoints.applied(index, term)

    def _close(self, index: int, term: int) -> None:
        """Let the backend commit what has been put so far; never with an index behind what the data already holds."""
        self.state_machine.backend.applied(*max((index, term), self._data_point))

    def _apply_change(self, entry: Entry) -> None:
        """A change of membership takes effect here, when it is applied, on every member at the same index."""
        change = conf_change_in(entry)
        if not isinstance(change, ConfChange):
            raise StorageFailure("the log holds a joint configuration change, which no member of etcd proposes or applies")
        membership = self.state_machine.membership
        if entry.index <= self._data_point[0]:
            if membership.has_effect_of(change):
                self.raft.apply_conf_change(change)
            return
        refusal = membership.validate(change)
        if refusal is None:
            try:
                self.state_machine.save_conf_state(self.raft.apply_conf_change(change))
            except ConfChangeRefused as error:
                refusal = RequestError(Code.UNKNOWN, str(error))
        if refusal is None:
            member = membership.apply(change)
            if member is None:
                self._owner.member_removed(change.node_id)
            else:
                self._owner.member_changed(member)
        waiter = self.proposals.waiting.pop(entry.data, None)
        if waiter is not None:
            waiter.then(b"" if refusal is None else refusal)

    def _install(self, ready: Ready) -> None:
        """Become a snapshot's state: first the backend, then the log's mark, then raft's promise to the leader."""
        snapshot = ready.snapshot
        assert snapshot is not None
        before = set(self.state_machine.membership.members)
        self._data_point = self.snapshots.install(snapshot)
        self.applied_index, self.applied_term = snapshot.index, snapshot.term
        if self._data_point[0] == snapshot.index:  # otherwise the database's own is later, and goes with its data
            self.state_machine.save_conf_state(snapshot.conf_state)
        self._close(snapshot.index, snapshot.term)
        # Also what the description added to the data: behind the mark nobody would tell it again.
        self.state_machine.backend.commit_now()
        if ready.hard_state is not None:
            self._log_store.append(ready.hard_state, (), then=_nothing)  # durable at once or with what follows: all the same
        persisted = partial(self._persisted, ready.number)
        self._log_store.save_snapshot(snapshot, then=_nothing if ready.entries else persisted)
        # What follows the snapshot may have come in the same turn.
        if ready.entries and self._log_store.append(None, ready.entries, then=persisted):
            persisted()
        self.checkpoints.installed(snapshot.index)
        self.raft.applied_to(snapshot.index)
        self.reads.applied(snapshot.index)
        for member_id in sorted(before - set(self.state_machine.membership.members)):
            self._owner.member_removed(member_id)
        for member in self.state_machine.membership.sorted():
            self._owner.member_changed(member)
        self._owner.schedule_compaction()  # the sender may have been in the middle of one
        logger.info("installed snapshot at index %d, term %d", snapshot.index, snapshot.term)

    def _offer_snapshot(self) -> Snapshot | None:
        """Raft's `snapshot_source`. A database ahead of the log would describe what raft cannot know to be committed."""
        if self.is_ahead_of_log:
            return None
        self.checkpoints.asked()
        return self.snapshots.offer()

    def _notice_leader(self) -> None:
        leader_id = self.raft.leader_id
        if leader_id == self.leader_id:
            return
        now = self._clock()
        if leader_id:
            self._elected_at = now
            self.leader_changes_seen += 1
            self.reads.leader_changed(self.raft)
            self._schedule_flush()
        else:
            self._lost_at = now
        self.leader_id = leader_id
        self._owner.leader_changed(leader_id)


def _nothing() -> None:
    """A commit index alone is no promise: nobody waits for it to be durable."""


def _call_all(waiters: list[Callable[[], None]]) -> None:
    for then in waiters:
        then()
