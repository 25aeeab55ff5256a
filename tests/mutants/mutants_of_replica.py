"""Mutants of replica/."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

MUTANTS: Final[tuple[Mutant, ...]] = (
    # --- reads
    Mutant(
        "stale_read_index_context",
        "replica/reads.py",
        "if context != self._context or not self._in_flight:",
        "if not self._in_flight:",
        "the late answer to an abandoned round releases reads that began after it was given",
        unit_test="tests/replica/test_waiting.py::TestReads::test_a_retry_has_a_new_context_and_ignores_the_old_answer",
    ),
    Mutant(
        "read_joins_the_round_in_flight",
        "replica/reads.py",
        "        self._queued.append(then)\n",
        "        (self._in_flight or self._queued).append(then)\n",
        "a read is answered by a round that was sent before the read began",
    ),
    Mutant(
        "reads_do_not_wait_for_the_index",
        "replica/reads.py",
        "            if index <= applied_index:\n",
        "            if True:\n",
        "a read is answered before this member has applied what was committed when the read began",
    ),
    Mutant(
        "contexts_repeat_after_a_restart",
        "replica/requests.py",
        "(now_ms & (1 << 40) - 1) << 1",
        "(64 & (1 << 40) - 1) << 1",
        "a restarted member uses the request ids of its earlier incarnation again",
    ),
    # --- apply
    Mutant(
        "entries_applied_over_a_newer_database",
        "replica/apply.py",
        "elif data and entry.index > data_index:",
        "elif data:",
        "entries that a received database holds already are applied a second time",
    ),
    Mutant(
        "change_applied_over_a_newer_database",
        "replica/apply.py",
        "        if entry.index <= self._database_point[0]:\n            if membership",
        "        if False:\n            if membership",
        "a change of membership that a received database holds already is refused, and raft does not hear of it",
        unit_test="tests/replica/test_replica.py::test_changes_in_a_newer_database_reach_raft_but_not_the_membership_again",
    ),
    Mutant(
        "change_in_a_newer_database_not_told_to_raft",
        "replica/apply.py",
        "            if membership.has_effect_of(change):\n",
        "            if False:\n",
        "raft keeps the configuration of a snapshot although later changes are committed",
        unit_test="tests/replica/test_replica.py::test_changes_in_a_newer_database_reach_raft_but_not_the_membership_again",
    ),
    Mutant(
        "database_point_not_stored",
        "replica/apply.py",
        "backend.applied(*max((self.index, self.term), self._database_point))",
        "backend.applied(self.index, self.term)",
        "after a restart, entries that a received database holds already are applied a second time",
        unit_test="tests/replica/test_newer_database.py"
        "::test_entries_that_a_newer_database_holds_are_applied_once_also_after_a_crash",
    ),
    Mutant(
        "database_point_closed_too_late",
        "replica/apply.py",
        "        self._install_database(snapshot, snapshots)\n        self.index",
        "        self._install_database(snapshot, snapshots)\n        self._database_point = (0, 0)\n        self.index",
        "a newer database is taken for that of the snapshot's index",
    ),
    Mutant(
        "index_stored_before_the_data",
        "replica/apply.py",
        "        while self._apply is not None or queue:\n",
        "        if queue and self._apply is None:\n"
        "            self._state_machine.backend.applied(queue[-1].index, queue[-1].term)\n"
        "        while self._apply is not None or queue:\n",
        "the backend can commit an applied index without the data of its entries",
    ),
    Mutant(
        "configuration_not_stored",
        "replica/apply.py",
        "self._state_machine.save_conf_state(self._raft.apply_conf_change(change))",
        "self._raft.apply_conf_change(change)",
        "a restart begins with an old configuration",
    ),
    Mutant(
        "configuration_of_a_snapshot_not_stored",
        "replica/apply.py",
        "if self._database_point[0] == snapshot.index:",
        "if False:",
        "an installed database keeps the configuration that it came with",
        equivalent="a database of the snapshot's index holds the snapshot's configuration already",
    ),
    Mutant(
        "failed_request_answered_as_done",
        "replica/apply.py",
        "                outcome = strip_traceback(error)\n",
        '                outcome = b""\n',
        "a client learns that its refused request succeeded",
    ),
    Mutant(
        "large_txn_of_nobody",
        "replica/txn_applies.py",
        'self.request = AppliedRequest("txn", None, identity)',
        'self.request = AppliedRequest("txn", None)',
        "a large Txn is applied as if nobody had sent it, on the members that did not propose it",
    ),
    Mutant(
        "answered_before_it_is_applied",
        "replica/proposals.py",
        "                waiter.is_proposed = True\n                live.append(data)\n",
        '                waiter.is_proposed = True\n                live.append(data)\n                waiter.then(b"")\n'
        "                waiter.then = lambda outcome: None\n",
        "a client is answered when its request is proposed",
    ),
    Mutant(
        "part_of_an_entry_committed",
        "replica/apply.py",
        "        if self.is_within_entry:\n            return self._apply is not None",
        "        self.close_writes()\n        if self.is_within_entry:\n            return self._apply is not None",
        "a crash between two slices of an entry leaves a part of it, and the restart applies all of it again",
    ),
    Mutant(
        "compaction_closes_a_part_of_an_entry",
        "replica/store_compaction.py",
        "        if self._applier.is_within_entry:\n",
        "        if False:\n",
        "a step of a compaction between two slices of an entry lets the backend commit the first of them",
    ),
    Mutant(
        "removals_wait_for_the_next_entry",
        "replica/store_compaction.py",
        "        self._applier.close_writes()",
        "        pass",
        "what a compaction removed belongs to no commit, and blocks them until the next entry",
    ),
    # --- snapshots and the log
    Mutant(
        "log_snapshot_too_new",
        "replica/log_compaction.py",
        "        self._log_store.save_snapshot(snapshot, then=partial(self._saved, snapshot))\n",
        "        index = self._raft.applied_index\n"
        "        snapshot = Snapshot(index, self._raft.log.term(index) or snapshot.term, self._raft.conf_state)\n"
        "        self._log_store.save_snapshot(snapshot, then=partial(self._saved, snapshot))\n",
        "the log is cut behind entries that the backend has not committed",
    ),
    Mutant(
        "log_snapshot_before_the_backend",
        "replica/log_compaction.py",
        "self._backend.commit(then=partial(self._committed, snapshot))",
        "self._committed(snapshot)",
        "the log is cut before the backend has committed what it is cut behind",
    ),
    Mutant(
        "snapshot_described_too_new",
        "replica/snapshots.py",
        'index = int.from_bytes(view.get(Bucket.META, b"consistent_index") or b"", "big")\n',
        'index = int.from_bytes(view.get(Bucket.META, b"consistent_index") or b"", "big") + 1\n',
        "a snapshot is described as holding an entry that its database lacks",
    ),
    Mutant(
        "snapshot_acknowledged_before_it_is_recorded",
        "replica/replica.py",
        "        persisted = partial(self._persisted, ready.number)\n",
        "        persisted = partial(self._persisted, ready.number)\n        persisted()\n        persisted = _nothing\n",
        "a snapshot is acknowledged before the log has recorded it",
    ),
    Mutant(
        "restart_keeps_entries_behind_a_newer_backend",
        "replica/recovery.py",
        "    if applied > last or (applied > mark and recovered.entries[applied - mark - 1].term != backend.applied_term):\n",
        "    if applied > last:\n",
        "after a snapshot that the log does not record, a restart keeps entries of another leader",
        unit_test="tests/replica/test_recovery.py::test_a_power_cut_between_database_and_log_keeps_the_snapshot[8]",
    ),
    Mutant(
        "snapshots_offered_ahead_of_the_log",
        "replica/replica.py",
        "        if self._applier.is_database_ahead:\n            return None\n",
        "",
        "a follower gets a snapshot of entries that its leader does not know to be committed",
        unit_test="tests/replica/test_replica.py::test_entries_of_a_newer_database_are_applied_once_and_not_sent_before_their_commit",
    ),
    # --- repair
    Mutant(
        "damaged_record_skips_the_entry",
        "replica/apply.py",
        "self._block(record)\n                    break\n",
        "outcome = errors.CORRUPT\n",
        "an entry that reads a damaged record is answered with an error and counts as applied on this member alone",
    ),
    Mutant(
        "damaged_record_skips_a_long_entry",
        "replica/apply.py",
        "            self._block(record)\n            return True\n",
        "            outcome = errors.CORRUPT\n",
        "an entry that takes steps, and reads a damaged record, counts as applied on this member alone",
    ),
    Mutant(
        "blocked_entry_is_lost",
        "replica/apply.py",
        "        if self.is_within_entry and entry is not None:\n            self._queue.appendleft(entry)\n",
        "        if self._apply is not None and entry is not None:\n            self._queue.appendleft(entry)\n",
        "a member whose entry waits for another database goes on with the entry after it",
    ),
    Mutant(
        "repair_takes_an_older_database",
        "replica/repair.py",
        "if point[0] < self._applier.index or self._raft.id",
        "if self._raft.id",
        "the database that replaces a damaged one lacks entries that this member has applied",
        unit_test="tests/replica/test_lost_database.py::test_a_database_behind_the_snapshot_record_is_not_installed",
    ),
    Mutant(
        "repair_with_entries_applied_again",
        "replica/apply.py",
        "        self._install_database(snapshot, snapshots)\n        self.close_writes()\n",
        "        self._install_database(snapshot, snapshots)\n"
        "        self._database_point = (0, 0)\n"
        "        self.close_writes()\n",
        "entries that the database of a repair holds are applied a second time",
    ),
    Mutant(
        "repaired_member_applies_nothing",
        "replica/repair.py",
        "            self._alarms.withdraw_corrupt()\n            self._release()\n",
        "            self._alarms.withdraw_corrupt()\n",
        "a member with a new database goes on to wait for one",
    ),
    # --- a lost database
    Mutant(
        "empty_database_stored_as_the_lost_one",
        "replica/apply.py",
        "        if not self.is_database_lost:\n",
        "        if True:\n",
        "a step of compaction stores the lost database's index in the empty one, which passes for sound at the next start",
    ),
    Mutant(
        "lost_database_is_served",
        "replica/repair.py",
        "self.is_holding = self._is_wanted = applier.is_database_lost",
        "self.is_holding = self._is_wanted = False",
        "a member without its database applies what follows to an empty one",
    ),
    Mutant(
        "member_without_database_campaigns",
        "replica/repair.py",
        "raft.may_campaign = not applier.is_database_lost",
        "raft.may_campaign = True",
        "a member leads that cannot apply, and whose configuration may be old",
    ),
    Mutant(
        "leader_removed_before_it_has_sent_its_database",
        "raft/follower.py",
        "    if not raft.may_campaign and entries:\n",
        "    if False:\n",
        "a leader's removal is committed by a member without a database, and nobody who remains can lead",
        unit_test="tests/sim/test_lost_database.py",
    ),
    Mutant(
        "commit_index_before_the_snapshot_record",
        "replica/replica.py",
        "        self._log_store.save_snapshot(snapshot, then=persisted if is_alone else _nothing)\n",
        "        if ready.hard_state is not None:\n"
        "            self._log_store.append(ready.hard_state, (), then=_nothing)\n"
        "        self._log_store.save_snapshot(snapshot, then=persisted if is_alone else _nothing)\n",
        "a database that is lost before the record is durable is made again from entries that the snapshot replaced",
        unit_test="tests/replica/test_recovery.py::test_stale_entries_do_not_count_as_committed_when_the_snapshots_database_is_lost",
    ),
    Mutant(
        "large_operation_overtakes_those_before_it",
        "replica/txn_parser.py",
        "                self._parse_pending(budget)\n                return _Operation",
        "                return _Operation",
        "the members that parse a large Txn run its operations in another order than its proposer",
    ),
    Mutant(
        "large_nested_txn_in_the_other_branch",
        "replica/txn_parser.py",
        "branch = frame.target.success if operation.branch == _BRANCHES[0] else frame.target.failure",
        "branch = frame.target.success",
        "the members that parse a large Txn run a nested one that its proposer does not run",
    ),
    Mutant(
        "refused_change_in_a_newer_database_told_to_raft",
        "replica/membership.py",
        "return member is not None and member.is_learner == is_for_learner",
        "return member is not None",
        "a member makes a voter a learner by a change that all others have refused",
        unit_test="tests/replica/test_replica.py::test_a_refused_change_in_a_newer_database_does_not_reach_raft",
    ),
    Mutant(
        "database_behind_its_snapshot_installed",
        "replica/state_machine.py",
        "            if reached < index:\n",
        "            if False:\n",
        "entries between a received database and its snapshot are never applied",
        unit_test="tests/replica/test_received_databases.py",
    ),
)
