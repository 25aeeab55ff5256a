"""Applies committed entries to the state machine and answers the proposals that wait for them.

An entry is applied exactly once: the backend keeps the applied index in the same commit as the data. A database received with a
snapshot may already hold the effects of later entries (its sender went on applying); entries up to that point are skipped, and
of configuration changes only raft is told.

What takes long is done in steps, so that the member goes on exchanging heartbeats and votes meanwhile: an entry whose handler
returns an `Apply`, and a backlog of many entries. Until an entry is complete, no other is applied, reads see none of its writes
(mvcc/write_txn.py), and the backend commits none of them: a crash in the middle applies the whole entry again.

An entry that cannot be applied because a record is damaged waits for another database (repair.py).

Must never answer a proposal before its entry is applied, or raise anything but a RequestError from a request: other errors
would let members diverge, and stop this one.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Final

from tercet import errors
from tercet.errors import Code, CorruptRecord, RequestError, StatusError, require, strip_traceback
from tercet.log_fields import fields
from tercet.mvcc import Apply, Budget
from tercet.mvcc.work import BYTES_SHIFT
from tercet.raft import ConfChangeRefused, Raft
from tercet.raft.codec import conf_change_in
from tercet.raft.types import ConfChange, Entry, EntryType, Snapshot
from tercet.replica.durations import APPLY_BOUNDS, Durations
from tercet.replica.host import ReplicaHost
from tercet.replica.proposals import Outcome, Proposals, Waiter
from tercet.replica.quota import Quota, highest_cost, request_cost
from tercet.replica.requests import WHOLE_BYTES_MAX, AppliedRequest, decode_request, large_txn_in
from tercet.replica.snapshots import Snapshots
from tercet.replica.state_machine import StateMachine
from tercet.replica.txn_applies import LargeTxn, MeasuredTxn
from tercet.replica.unsupported import JOINT_CHANGE, UnsupportedRequest, refuse_entry

logger = logging.getLogger(__name__)

_NORMAL: Final = int(EntryType.NORMAL)
# A larger turn is processed in batches, so that followers and clients work on the first while this member works on the next: in
# one batch of 256 puts, all of them would wait for each other in turn.
BATCH_ENTRIES: Final = 64

ENTRY_WORK: Final = 8  # of a Put, in units of mvcc/work.py
_BEGIN_WORK: Final = 24  # beyond it, of one that takes steps: 500 deletions of a key took 30 ms
_FAILED_WORK: Final = 64  # beyond it, of one that fails: each is logged, which takes some 60 us
_ANSWER_SHIFT: Final = 6  # one unit for each 64 bytes of an answer, such as a list of all users
APPLY_WORK: Final = 8000  # in one turn: 1,000 puts, 5 to 10 ms


class ApplyTimer:
    """Measures how long requests take to apply, and reports those that take longer than `slow_seconds` and those that fail.

    durations: of all applies. A read of a compacted revision is no failure.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        slow_seconds: float,
        report: Callable[[AppliedRequest, float, Outcome], None],
        report_failed: Callable[[AppliedRequest, float, StatusError], None],
    ) -> None:
        """clock: seconds, also within a turn of the loop. Both reports get the request, its seconds and its outcome."""
        self.clock = clock
        self.slow_seconds = slow_seconds
        self.report = report
        self.report_failed = report_failed
        self.durations = Durations(APPLY_BOUNDS)


class Applier:
    """The apply side of one replica.

    index, term: of the last entry that is applied. is_database_lost: this member has started without the database that holds
    it, and none has come yet: the empty one must not be stored as if it held these entries, so it is told of none.
    """

    def __init__(
        self,
        raft: Raft,
        state_machine: StateMachine,
        proposals: Proposals,
        quota: Quota,
        host: ReplicaHost,
        *,
        raise_no_space: Callable[[], None],
        timer: ApplyTimer | None = None,
        whole_bytes_max: int = WHOLE_BYTES_MAX,
    ) -> None:
        """whole_bytes_max: of an entry that is parsed in one go, if its Txn was proposed by another member."""
        backend = state_machine.backend
        self.index = max(backend.applied_index, raft.applied_index)  # raft's, where the database was lost
        self.term = backend.applied_term
        self.is_database_lost = raft.applied_index > backend.applied_index
        # The (index, term) that the database had reached when its sender read it, where that is later than its snapshot's.
        self._database_point = (0, 0)
        self._raft = raft
        self._state_machine = state_machine
        self._proposals = proposals
        self._quota = quota
        self._host = host
        self._raise_no_space = raise_no_space
        self._whole_bytes_max = whole_bytes_max
        state_machine.entry_index = self._entry_index
        self._timer = timer
        self._began = 0.0  # when the current request was begun; the end of the one before
        self._budget = Budget(0)
        self.steps = 0
        self._is_blocked = False  # an entry reads a damaged record: it can be applied to another database only
        self._queue: deque[Entry] = deque()
        # The entry that is partly applied, if `_apply` is set.
        self._apply: Apply | None = None
        self._entry: Entry | None = None
        self._request: AppliedRequest | None = None
        self._waiter: Waiter | None = None

    @property
    def is_database_ahead(self) -> bool:
        """Does a received database hold the effects of entries that are yet to be committed here?"""
        return self.index < self._database_point[0]

    @property
    def is_within_entry(self) -> bool:
        """Is an entry partly applied? Then nothing else may write to the backend."""
        return self._apply is not None or self._is_blocked

    def _entry_index(self) -> int:
        """The index of the entry that is being applied."""
        return self.index + 1

    def add(self, entries: list[Entry]) -> None:
        """Queue committed entries; `step` applies them."""
        self._queue.extend(entries)

    def step(self, work: int) -> bool:
        """Apply queued entries, in order, up to `work`. Responses are written out between batches.

        Returns whether entries are left, the first of them perhaps partly applied.
        """
        if self._is_blocked:
            return False
        self.steps += 1
        if self._apply is None and self._queue:
            require(self._queue[0].index == self.index + 1, "an entry is skipped", self._queue[0], self.index)
        budget = self._budget
        budget.left = work
        queue, waiting, data_index = self._queue, self._proposals.waiting, self._database_point[0]
        auth, whole_bytes_max = self._state_machine.auth, self._whole_bytes_max
        auth.take_search_work()  # of the checks of proposals and reads
        room = self._quota.room_bytes()
        in_batch = 0
        timer = self._timer
        if timer is not None and self._apply is None:
            self._began = timer.clock()
        while self._apply is not None or queue:
            if budget.left <= 0 or (self._apply is not None and self._step_entry(budget)):
                break
            if not queue:
                continue
            if in_batch == BATCH_ENTRIES:
                in_batch = 0
                self._host.flush_replies()
                if timer is not None:
                    self._began = timer.clock()
            in_batch += 1
            entry = queue.popleft()
            data = entry.data
            budget.left -= ENTRY_WORK + (len(data) >> BYTES_SHIFT)
            if entry.type != _NORMAL:
                self._apply_conf_change(entry)
                if timer is not None:
                    self._began = timer.clock()
            elif data and entry.index > data_index:  # a new leader's first entry is empty
                waiter = waiting.pop(data, None) if waiting else None  # on followers nothing waits: spares the hash of the data
                outcome: Outcome | Apply
                try:
                    if waiter is not None:
                        request = waiter.request
                    elif len(data) > whole_bytes_max and (large := self._large_txn(data)) is not None:
                        self._begin_entry(entry, large.request, None, large)
                        continue
                    else:
                        request = decode_request(data)
                    outcome = self._state_machine.handlers[request.field](request)
                except RequestError as error:
                    outcome = strip_traceback(error)
                except CorruptRecord as record:
                    self._entry, self._waiter = entry, waiter
                    self._block(record)
                    break
                except UnsupportedRequest as unsupported:
                    raise refuse_entry(entry.index, self._raft.id, unsupported) from unsupported
                budget.left -= auth.take_search_work()
                if isinstance(outcome, Apply):
                    budget.left -= _BEGIN_WORK
                    self._begin_entry(entry, request, waiter, outcome)
                    continue
                if isinstance(outcome, bytes):
                    budget.left -= len(outcome) >> _ANSWER_SHIFT
                else:
                    budget.left -= _FAILED_WORK
                exceeds = highest_cost(len(data)) >= room and request_cost(request.field, request.message) >= max(room, 1)
                self._answer(request, waiter, outcome, exceeds)
            self.index, self.term = entry.index, entry.term
        if self.is_within_entry:
            return self._apply is not None  # a blocked entry waits for another database
        self.close_writes()
        return bool(queue)

    def replace_database(self, snapshot: Snapshot, snapshots: Snapshots) -> None:
        """Replace a damaged database, durably, by that of a snapshot that is not behind it. Raft's log stays as it is; entries
        that the database holds are skipped.
        """
        waiter, entry = self._waiter, self._entry
        if self.is_within_entry and entry is not None:
            self._queue.appendleft(entry)
        self._waiter, self._apply, self._is_blocked = None, None, False
        self._install_database(snapshot, snapshots)
        self.close_writes()
        self._state_machine.backend.commit_now()
        if waiter is not None:
            waiter.then(errors.TIMEOUT)

    def close_writes(self) -> None:
        """Let the backend commit what has been put so far, with the index that the data has reached. Between entries only."""
        require(not self.is_within_entry, "a part of an entry would be committed", self.index)
        if not self.is_database_lost:
            self._state_machine.backend.applied(*max((self.index, self.term), self._database_point))

    def _install_database(self, snapshot: Snapshot, snapshots: Snapshots) -> None:
        self._database_point = snapshots.install(snapshot)
        self.is_database_lost = False

    def stop(self, error: StatusError) -> None:
        """Answer the client of an entry that is partly applied: nothing is applied from here on."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.then(error)

    def install(self, snapshot: Snapshot, snapshots: Snapshots) -> None:
        """Replace the state machine by a received snapshot, durably. Raises StorageFailure if its database is missing."""
        self._queue.clear()
        waiter, self._apply, self._waiter, self._is_blocked = self._waiter, None, None, False
        self._install_database(snapshot, snapshots)
        self.index, self.term = snapshot.index, snapshot.term
        if self._database_point[0] == snapshot.index:  # a later database holds its own configuration
            self._state_machine.save_conf_state(snapshot.conf_state)
        self.close_writes()
        # The members that the snapshot's v2 JSON has added to the database must be durable too: it is not sent again.
        self._state_machine.backend.commit_now()
        if waiter is not None:  # the rest of its entry was applied by the sender
            waiter.then(errors.TIMEOUT)

    # An entry that may take several steps.

    def _large_txn(self, data: bytes) -> LargeTxn | None:
        found = large_txn_in(data)
        if found is None:
            return None
        content, identity = found
        return LargeTxn(data, content, identity, self._state_machine.handlers["txn"])

    def _begin_entry(self, entry: Entry, request: AppliedRequest, waiter: Waiter | None, apply: Apply) -> None:
        # A commit must not hold a part of this entry: what was applied before is closed first.
        self.close_writes()
        apply.is_awaited = waiter is not None
        if request.field == "txn" and highest_cost(len(entry.data)) >= (room := self._quota.room_bytes()):
            apply = MeasuredTxn(apply, request, room)
        self._apply, self._entry, self._request, self._waiter = apply, entry, request, waiter

    def _step_entry(self, budget: Budget) -> bool:
        """Go on with the entry that is partly applied. Returns whether the budget ended it."""
        apply, entry, request = self._apply, self._entry, self._request
        assert apply is not None
        assert entry is not None
        assert request is not None
        outcome: Outcome
        try:
            if apply.step(budget):
                return True
            outcome = apply.outcome() if self._waiter is not None else b""
        except RequestError as error:
            outcome = strip_traceback(error)
            budget.left -= _FAILED_WORK
        except CorruptRecord as record:
            self._block(record)
            return True
        except UnsupportedRequest as unsupported:
            raise refuse_entry(entry.index, self._raft.id, unsupported) from unsupported
        require(entry.index == self.index + 1, "an entry ends that is not the next", entry, self.index)
        waiter, self._waiter, self._apply = self._waiter, None, None
        self.index, self.term = entry.index, entry.term
        self._answer(request, waiter, outcome, isinstance(apply, MeasuredTxn) and apply.needs_space)
        return False

    def _block(self, record: CorruptRecord) -> None:
        """Go no further: without the record this member would diverge. Raises it where no other member has a good copy.

        The entry's client gets a timeout, as another member may have applied it: a database may come late, or never.
        """
        if self._raft.tracker.is_only_voter(self._raft.id):
            raise record
        waiter, self._waiter = self._waiter, None
        self._apply, self._is_blocked = None, True
        if waiter is not None:
            waiter.then(errors.TIMEOUT)

    def _answer(self, request: AppliedRequest, waiter: Waiter | None, outcome: Outcome, exceeds_quota: bool) -> None:
        if exceeds_quota and not isinstance(outcome, StatusError):
            # Members with free space have applied it, so this one has too; its client learns that the quota is reached.
            self._raise_no_space()
            outcome = errors.NO_SPACE
        if self._timer is not None:
            self._measure(self._timer, request, waiter, outcome)
        if waiter is not None:
            waiter.then(outcome)

    def _measure(self, timer: ApplyTimer, request: AppliedRequest, waiter: Waiter | None, outcome: Outcome) -> None:
        began = self._began
        self._began = now = timer.clock()
        is_success = not isinstance(outcome, StatusError)
        if isinstance(outcome, StatusError) and outcome is not errors.COMPACTED:
            timer.report_failed(request, now - began, outcome)
        timer.durations.observe(request.field, is_success or outcome is errors.COMPACTED, now - began)
        if waiter is not None:
            self._proposals.durations.observe(request.field, is_success, now - waiter.proposed_at)
        if now - began > timer.slow_seconds:
            timer.report(request, now - began, outcome)

    def _apply_conf_change(self, entry: Entry) -> None:
        """Apply a configuration change to raft and to the membership, as every member does at the same index."""
        change = conf_change_in(entry)
        if not isinstance(change, ConfChange):
            apply_joint_change = self._state_machine.apply_joint_change
            if apply_joint_change is None:
                raise refuse_entry(entry.index, self._raft.id, UnsupportedRequest(f"it holds {JOINT_CHANGE}"))
            apply_joint_change(change, entry.index <= self._database_point[0])
            return
        membership = self._state_machine.membership
        if entry.index <= self._database_point[0]:
            if membership.has_effect_of(change):
                self._raft.apply_conf_change(change)
            return
        refusal = membership.validate(change)
        if refusal is None:
            try:
                self._state_machine.save_conf_state(self._raft.apply_conf_change(change))
            except ConfChangeRefused as error:
                refusal = RequestError(Code.UNKNOWN, str(error))
        if refusal is None:
            member = membership.apply(change)
            if member is None:
                self._host.member_removed(change.node_id)
            else:
                self._host.member_changed(member)
        else:
            logger.error("Validation on configuration change failed", extra=fields(error=refusal.message))
        waiter = self._proposals.waiting.pop(entry.data, None)
        if waiter is not None:
            waiter.then(b"" if refusal is None else refusal)
