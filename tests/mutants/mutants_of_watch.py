"""Mutants of mvcc/watch*.py: watches lose events, get them twice, or do not learn that they are compacted."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

MUTANTS: Final[tuple[Mutant, ...]] = (
    Mutant(
        "watches_skip_what_a_snapshot_brings",
        "mvcc/watch_hub.py",
        "        self._fall_behind(next_revision)\n        self._wake()\n",
        "        self._wake()\n",
        "watches of a member that installs a snapshot never see the revisions that it skipped",
    ),
    Mutant(
        "slow_watch_skips_a_batch",
        "mvcc/watch_cohort.py",
        "            watch.next_revision = max(watch.next_revision, first)\n",
        "            watch.next_revision = last + 1\n",
        "a watch whose client does not read loses the events that it had no room for",
    ),
    Mutant(
        "slow_watch_gets_a_batch_again",
        "mvcc/watch_cohort.py",
        "            watch.next_revision = max(watch.next_revision, first)\n",
        "            watch.next_revision = first - 3\n",
        "a watch that becomes slow continues from a revision that it has seen",
    ),
    Mutant(
        "compaction_does_not_end_watches",
        "mvcc/watch_catch_up.py",
        "                self._compacted.append(watch)\n                continue\n",
        "                watch.next_revision = compact_revision\n",
        "a watch that a compaction has overtaken goes on with a gap, and its client is not told",
    ),
    Mutant(
        "watch_from_the_current_revision_starts_after_it",
        "mvcc/watch_hub.py",
        "        if 0 < start_revision < next_revision:\n",
        "        if 0 < start_revision < next_revision - 1:\n",
        "a watch from the current revision misses that revision",
    ),
    Mutant(
        "history_stops_at_the_first_tombstone",
        "mvcc/watch_history.py",
        "                if value is None:\n                    break\n",
        "                break\n",
        "a watch that reads history does not see deletions",
    ),
)
