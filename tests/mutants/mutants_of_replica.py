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
        "(now_ms & (1 << 40) - 1) << 8",
        "(64 & (1 << 40) - 1) << 8",
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
    ),
    Mutant(
        "change_in_a_newer_database_not_told_to_raft",
        "replica/apply.py",
        "            if membership.has_effect_of(change):\n",
        "            if False:\n",
        "raft keeps the configuration of a snapshot although later changes are committed",
    ),
    Mutant(
        "database_point_not_stored",
        "replica/apply.py",
        "backend.applied(*max((self.index, self.term), self._database_point))",
        "backend.applied(self.index, self.term)",
        "after a restart, entries that a received database holds already are applied a second time",
    ),
    Mutant(
        "database_point_closed_too_late",
        "replica/apply.py",
        "        self._database_point = snapshots.install(snapshot)\n        self.close_writes()\n",
        "        snapshots.install(snapshot)\n        self.close_writes()\n",
        "entries that the database of a repair holds are applied a second time",
    ),
)
