"""Applies committed entries to the state machine and answers the proposals that wait for them.

An entry is applied exactly once: the backend keeps the applied index in the same commit as the data. A database received with a
snapshot may already hold the effects of later entries (its sender went on applying); entries up to that point are skipped, and
of configuration changes only raft is told.

Must never answer a proposal before its entry is applied, or raise anything but a RequestError from a request: other errors
would let members diverge, and stop this one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tercet import errors
from tercet.errors import Code, RequestError, strip_traceback
from tercet.raft import ConfChangeRefused, Raft
from tercet.raft.codec import conf_change_in
from tercet.raft.types import ConfChange, Entry, EntryType, Snapshot
from tercet.replica.host import ReplicaHost
from tercet.replica.proposals import Outcome, Proposals
from tercet.replica.quota import Quota, request_cost
from tercet.replica.requests import decode_request
from tercet.replica.snapshots import Snapshots
from tercet.replica.state_machine import StateMachine
from tercet.replica.unsupported import UnsupportedRequest, refuse_entry

_NORMAL: Final = int(EntryType.NORMAL)
# A larger turn is processed in batches, so that followers and clients work on the first while this member works on the next: in
# one batch of 256 puts, all of them would wait for each other in turn.
BATCH_ENTRIES: Final = 64


class Applier:
    """The apply side of one replica."""

    def __init__(
        self,
        raft: Raft,
        state_machine: StateMachine,
        proposals: Proposals,
        quota: Quota,
        host: ReplicaHost,
        *,
        raise_no_space: Callable[[], None],
    ) -> None:
        backend = state_machine.backend
        self.index = backend.applied_index
        self.term = backend.applied_term
        # The (index, term) that the database had reached when its sender read it, where that is later than its snapshot's.
        self._database_point = (0, 0)
        self._raft = raft
        self._state_machine = state_machine
        self._proposals = proposals
        self._quota = quota
        self._host = host
        self._raise_no_space = raise_no_space

    @property
    def is_database_ahead(self) -> bool:
        """Does a received database hold the effects of entries that are yet to be committed here?"""
        return self.index < self._database_point[0]

    def apply(self, entries: list[Entry]) -> None:
        """Apply committed entries, in order. Responses are written out between batches."""
        for start in range(0, len(entries), BATCH_ENTRIES):
            if start:
                self._host.flush_replies()
            self._apply_batch(entries[start : start + BATCH_ENTRIES])
        self.index, self.term = entries[-1].index, entries[-1].term
        self.close_writes()

    def close_writes(self) -> None:
        """Let the backend commit what has been put so far, with the index that the data has reached."""
        self._state_machine.backend.applied(*max((self.index, self.term), self._database_point))

    def install(self, snapshot: Snapshot, snapshots: Snapshots) -> None:
        """Replace the state machine by a received snapshot, durably. Raises StorageFailure if its database is missing."""
        self._database_point = snapshots.install(snapshot)
        self.index, self.term = snapshot.index, snapshot.term
        if self._database_point[0] == snapshot.index:  # a later database holds its own configuration
            self._state_machine.save_conf_state(snapshot.conf_state)
        self.close_writes()
        # The members that the snapshot's v2 JSON has added to the database must be durable too: it is not sent again.
        self._state_machine.backend.commit_now()

    def _apply_batch(self, entries: list[Entry]) -> None:
        waiting = self._proposals.waiting
        handlers = self._state_machine.handlers
        is_full = not self._quota.allows(1)
        for entry in entries:
            data = entry.data
            if entry.type != _NORMAL:
                self._apply_conf_change(entry)
                continue
            if not data or entry.index <= self._database_point[0]:
                continue  # a new leader's first entry is empty
            waiter = waiting.pop(data, None)
            outcome: Outcome
            try:
                request = decode_request(data) if waiter is None else waiter.request
                outcome = handlers[request.field](request)
            except RequestError as error:
                outcome = strip_traceback(error)
            except UnsupportedRequest as error:
                raise refuse_entry(entry.index, self._raft.id, error) from error
            if request.field == "alarm":
                handlers = self._state_machine.handlers
            if is_full and request_cost(request.field, request.message):
                # Members with free space have applied it, so this one has too; its client learns that the quota is reached.
                self._raise_no_space()
                outcome = errors.NO_SPACE
            if waiter is not None:
                waiter.then(outcome)

    def _apply_conf_change(self, entry: Entry) -> None:
        """Apply a configuration change to raft and to the membership, as every member does at the same index."""
        change = conf_change_in(entry)
        if not isinstance(change, ConfChange):
            try:
                self._state_machine.apply_joint_change(change, entry.index <= self._database_point[0])
            except UnsupportedRequest as error:
                raise refuse_entry(entry.index, self._raft.id, error) from error
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
        waiter = self._proposals.waiting.pop(entry.data, None)
        if waiter is not None:
            waiter.then(b"" if refusal is None else refusal)
