"""Watches that read history until they are up to date: started in the past, or too slow to follow.

A cohort serves many watches by one scan of the backend. Up to COHORTS_MAX of them take turns, so that a watch that needs ten
revisions does not wait for one that needs a million. At the present, a cohort's watches join the live one (watch_hub.py).
"""

from __future__ import annotations

from typing import Final

from tercet.errors import CorruptRecord
from tercet.mvcc.encoding import sub_of
from tercet.mvcc.events import stored_event
from tercet.mvcc.watch import Watch, WatchStream
from tercet.mvcc.watch_cohort import Cohort
from tercet.mvcc.watch_history import History
from tercet.mvcc.watch_memory import LargeBatches
from tercet.mvcc.work import BYTES_SHIFT, FETCH, VISIT, WRITE, Budget

COHORTS_MAX: Final = 8
SHARED_REVISIONS: Final = 5000
SLICE_WORK: Final = 500
_RECORDS: Final = 64
_ADMITTED: Final = 500  # watches in one step
_TAKEN: Final = 50  # watches between two looks at the budget


class CatchUp:
    """The cohorts that read history, and the watches that wait for one.

    ended: compacted watches whose ids are in use. cohorts_max: that read history at the same time. shared_revisions: a watch
    that is nearer to a cohort waits for it rather than start another.
    """

    __slots__ = (
        "_blocked",
        "_cohorts",
        "_compacted",
        "_delivered",
        "_history",
        "_large_batches",
        "_unsynced",
        "cohorts_max",
        "ended",
        "shared_revisions",
    )

    def __init__(self, history: History, large_batches: LargeBatches) -> None:
        self._history = history
        self._large_batches = large_batches
        self._cohorts: list[Cohort] = []
        self._unsynced: list[Watch] = []
        self._blocked: list[Watch] = []  # unsynced, until a cohort has ended
        self._compacted: list[Watch] = []  # to be ended
        self._delivered = 0  # by cohorts that are no more
        self.ended = 0
        self.cohorts_max = COHORTS_MAX
        self.shared_revisions = SHARED_REVISIONS

    @property
    def delivered(self) -> int:
        """Events sent so far, counted for each watch."""
        return self._delivered + sum([cohort.delivered for cohort in self._cohorts])

    @property
    def has_work(self) -> bool:
        return bool(self._cohorts or self._unsynced or self._compacted)

    def add(self, watch: Watch) -> None:
        """Let a watch continue from its next revision."""
        self._unsynced.append(watch)

    def take_over(self, cohort: Cohort) -> None:
        """Let the live cohort continue from its cursor."""
        self._cohorts.append(cohort)

    def release_history(self) -> None:
        """The store is replaced."""
        for cohort in self._cohorts:
            cohort.release_history()

    def step(self, live: Cohort, can_join: bool, budget: Budget) -> None:
        """Do a slice of the work. can_join: whether the live cohort has been sent everything."""
        if self._unsynced:
            self._admit(budget)
        while self._compacted and budget.left > 0:
            self._end_compacted(self._compacted.pop(), budget)
        for cohort in self._cohorts.copy():
            if budget.left <= 0:
                break
            left = budget.left
            budget.left = allowed = min(left, SLICE_WORK)
            try:
                if self._advance(cohort, budget) and can_join:
                    self._join(live, cohort, budget)
            except CorruptRecord as error:
                self._fail(cohort, error)
            budget.left += left - allowed
            if not cohort.count and cohort.is_clean:
                cohort.release_history()
                self._delivered += cohort.delivered
                self._cohorts.remove(cohort)
                self._unsynced += self._blocked
                self._blocked = []
        if self._cohorts:  # take turns
            self._cohorts.append(self._cohorts.pop(0))

    def _admit(self, budget: Budget) -> None:
        """Assign unsynced watches to cohorts."""
        unsynced = sorted(self._unsynced[:_ADMITTED], key=_next_revision)
        budget.left -= len(unsynced) * VISIT
        del self._unsynced[:_ADMITTED]
        compact_revision = self._history.compact_revision
        for watch in unsynced:
            if watch.is_over:
                continue
            if watch.next_revision < compact_revision:
                self._compacted.append(watch)
                continue
            cohort = self._nearest(watch.next_revision)
            if cohort is None or watch.next_revision - cohort.cursor > self.shared_revisions:
                if len(self._cohorts) < self.cohorts_max:
                    cohort = Cohort(self._history, self._large_batches, watch.next_revision, is_live=False)
                    self._cohorts.append(cohort)
                elif cohort is None:
                    self._blocked.append(watch)
                    continue
            cohort.join(watch)

    def _nearest(self, revision: int) -> Cohort | None:
        """The cohort that will reach `revision` first."""
        nearest: Cohort | None = None
        for cohort in self._cohorts:
            if cohort.place <= revision and (nearest is None or cohort.cursor > nearest.cursor):
                nearest = cohort
        return nearest

    def _end_compacted(self, watch: Watch, budget: Budget) -> None:
        budget.left -= FETCH
        if watch.is_over:
            return
        stream = watch.stream
        if not stream.has_room:
            stream.lag(watch)
            return
        watch.is_over = True
        self.ended += 1
        if not stream.receiver.compacted(watch, self._history.compact_revision):
            stream.shut()

    def _advance(self, cohort: Cohort, budget: Budget) -> bool:
        """Read and send a slice of history. Returns whether the cohort is up to date."""
        history = self._history
        if cohort.kept is not None and cohort.cursor >= cohort.kept.until:
            cohort.release_history()
        if cohort.cursor < history.compact_revision and cohort.kept is None and self._expire(cohort, budget):
            return False
        if cohort.is_sending and cohort.flush(budget):
            return False
        while budget.left > 0 and cohort.cursor < history.next_revision:
            if not cohort.has_begun and (cohort.is_full or not cohort.activate(cohort.cursor, budget)):
                if cohort.flush(budget):
                    return False
                continue
            if not cohort.index.count:
                self._skip(cohort)
                continue
            self._read(cohort, budget)
        return cohort.cursor == history.next_revision and not cohort.flush(budget)

    def _read(self, cohort: Cohort, budget: Budget) -> None:
        """Collect a revision, or the next records of a large one."""
        records = self._history.records(cohort.cursor, cohort.sub, _RECORDS)
        for stored_key, value in records:
            if budget.left <= 0:  # many groups wanted those before
                cohort.sub = sub_of(stored_key)
                return
            budget.left -= FETCH + (len(value) >> BYTES_SHIFT)
            event = stored_event(stored_key, value)
            if not cohort.index.wants(event.key):
                cohort.skip_event()
            elif not cohort.collect(event, budget):
                cohort.sub = sub_of(stored_key)
                return
        budget.left -= FETCH
        if len(records) < _RECORDS:
            cohort.cursor += 1
            cohort.sub = 0
        else:
            cohort.sub = sub_of(records[-1][0]) + 1

    def _skip(self, cohort: Cohort) -> None:
        """No watch of the cohort has begun: go to where the first begins."""
        cohort.skip_event()
        cohort.sub = 0
        cohort.cursor = self._history.next_revision
        if cohort.waiting.count:
            cohort.cursor = min(cohort.cursor, cohort.waiting.first_revision)

    def _expire(self, cohort: Cohort, budget: Budget) -> bool:
        """End the watches that a compaction has overtaken. Returns whether there are more."""
        cohort.drop_collected()
        compact_revision = self._history.compact_revision
        while budget.left > 0 and (watches := cohort.index.take(_TAKEN)):
            budget.left -= len(watches) * VISIT
            for watch in watches:
                watch.next_revision = 0
            self._compacted += watches
        waiting = cohort.waiting
        while budget.left > 0 and waiting.count and waiting.first_revision < compact_revision:
            budget.left -= WRITE
            self._compacted.append(waiting.pop())
        if cohort.index.count or (waiting.count and waiting.first_revision < compact_revision):
            return True
        cohort.cursor = compact_revision
        cohort.sub = 0
        return False

    def _fail(self, cohort: Cohort, error: CorruptRecord) -> None:
        """End the streams of all watches that need a record that cannot be read."""
        cohort.drop_collected()
        streams: set[WatchStream] = set()
        while watches := cohort.index.take(_TAKEN):
            streams.update([watch.stream for watch in watches])
        for stream in streams:
            stream.receiver.fail(error)
        cohort.cursor += 1
        cohort.sub = 0

    def _join(self, live: Cohort, cohort: Cohort, budget: Budget) -> None:
        """Both cohorts have been sent everything: move watches over."""
        if not live.count:  # after an installed snapshot, all of them at once
            live.index, cohort.index = cohort.index, live.index
            live.waiting, cohort.waiting = cohort.waiting, live.waiting
            return
        revision = self._history.next_revision
        while budget.left > 0 and (watches := cohort.index.take(_TAKEN)):
            budget.left -= len(watches) * WRITE
            for watch in watches:
                watch.next_revision = revision
                live.index.add(watch)
        while budget.left > 0 and cohort.waiting.count:
            budget.left -= WRITE
            live.waiting.add(cohort.waiting.pop())


def _next_revision(watch: Watch) -> int:
    return watch.next_revision
