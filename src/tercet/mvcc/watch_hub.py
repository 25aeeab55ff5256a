"""All watches of a member: what requests write goes out to them, and those that are not up to date read history.

    request applied ─► completed() ─► queue ─► live cohort ─► streams
                                                   ▲ joins, once it has caught up
    start_revision in the past, slow reader ─► catch-up, reads the backend ─► streams

The live cohort holds all watches that are up to date; those that are not read history (watch_catch_up.py) and join it. If the
live cohort cannot follow (its queue is full, one request wrote too much, an installed snapshot has skipped revisions), it
catches up as a whole, from the backend, where it was: nothing is lost, nothing is sent twice, no memory is taken. Compactions
wait for it a while: its clients read as fast as it sends.

A stream without room gets nothing: its watches leave their cohort, and continue from history once the client reads, or end if a
compaction has overtaken them. So a client that does not read costs what its stream may queue, and nobody waits for it.

Sans-I/O: `schedule` asks the host to call `step` in a later turn of the loop; all work is done there, in slices.
Source: etcd server/storage/mvcc/watchable_store.go, by its behaviour. Departs in: groups and cohorts; no poll every 100 ms.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from tercet.mvcc.events import Event, WriteListener
from tercet.mvcc.store import Store
from tercet.mvcc.watch import Receiver, Watch, WatchStream
from tercet.mvcc.watch_catch_up import SLICE_WORK, CatchUp
from tercet.mvcc.watch_cohort import Cohort
from tercet.mvcc.watch_history import History, KeptHistory
from tercet.mvcc.watch_memory import LargeBatches
from tercet.mvcc.work import OPERATION, WRITE, Budget

QUEUE_BYTES_MAX: Final = 64 << 20  # of events that wait to be sent
_LOOKS_SHIFT: Final = 4  # a look at a watch takes 0.05 us
_ENDED_AT_ONCE: Final = 16  # watches of a stream that is closed; those of one that has more end in slices

EMPTY_RANGE: Final = "mvcc: watcher range is empty"
DUPLICATE_ID: Final = "mvcc: duplicate watch ID provided on the WatchStream"


class WatchRefused(Exception):
    """A watch cannot be created. The text is etcd's."""


class WatchHub(WriteListener):
    """The watches of one member.

    queue_bytes_max: of events that wait to be sent; beyond it, watches read them from the backend.
    schedule: called when `step` has something to do. Set by the host, which then looks at is_scheduled: a member that joins may
    have installed a snapshot before it serves clients, so that the call has been made already.
    """

    __slots__ = (
        "_collected",
        "_ending",
        "_history",
        "_large_batches",
        "_live",
        "_live_number",
        "_looked_at",
        "_progress",
        "_queue",
        "_queue_bytes",
        "catch_up",
        "is_scheduled",
        "queue_bytes_max",
        "schedule",
        "streams",
        "watches",
    )

    def __init__(self, store: Store) -> None:
        self._history = History(store)
        self._large_batches = LargeBatches()
        self._live = Cohort(self._history, self._large_batches, 0, is_live=True)
        self._live_number = 1  # its index tells no live cohorts apart: watches that have fallen behind come back with theirs
        self._queue: deque[list[Event]] = deque()  # of one request each
        self._queue_bytes = 0
        self._collected = 0  # events of the first request in the queue
        self.queue_bytes_max = QUEUE_BYTES_MAX
        self.catch_up = CatchUp(self._history, self._large_batches)
        self._progress: deque[tuple[WatchStream, Watch | None]] = deque()  # to be notified: a watch, or all of a stream
        self._ending: deque[Watch] = deque()  # of streams that are closed
        self._looked_at = 0  # watches, to find out whether they are up to date
        self.is_scheduled = False
        self.schedule: Callable[[], None] = _ignore
        self.streams = 0
        self.watches = 0
        store.watch_writes(self)

    # Numbers for metrics.

    @property
    def slow_watches(self) -> int:
        """Watches that are not up to date."""
        return self.watches - self._live.count - self.catch_up.ended

    @property
    def pending_events(self) -> int:
        """Events that wait to be sent, each counted once."""
        return sum(map(len, self._queue))

    @property
    def delivered_events(self) -> int:
        """Events sent so far, counted for each watch."""
        return self._live.delivered + self.catch_up.delivered

    # What requests write (write_txn.py).

    @property
    def is_watching(self) -> bool:
        """Whether any watch is up to date: others read history."""
        live = self._live
        return live.index.count > 0 or live.waiting.count > 0

    def wants(self, key: bytes) -> bool:
        """Whether a change of `key` must be reported to `completed`. Waiting watches may enter at any request."""
        live = self._live
        return live.waiting.count > 0 or live.index.wants(key)

    def completed(self, events: list[Event] | None) -> None:
        """A request that wrote is complete. events: of the keys that `wants` named; None: too many to be kept."""
        if events is None:
            self._fall_behind(self._history.next_revision - 1)
        elif events:
            self._queue.append(events)
            self._queue_bytes += sum([event.size_bytes for event in events])
            if self._queue_bytes > self.queue_bytes_max:
                self._fall_behind(events[0].revision)
        elif not self._live.waiting.count:
            return  # the hot path: nobody watches what was written
        self._wake()

    def _fall_behind(self, revision: int) -> None:
        """Let the live cohort read what it has not collected yet from history. revision: the first, if the queue is empty."""
        cohort = self._live
        cohort.cursor = self._queue[0][0].revision if self._queue else revision
        cohort.sub = self._queue[0][self._collected].sub if self._collected or cohort.has_begun else 0
        cohort.is_live = False
        if cohort.count and cohort.cursor >= self._history.compact_revision:
            cohort.kept = KeptHistory(self._history.store, cohort.cursor)
        self._queue.clear()
        self._queue_bytes = self._collected = 0
        self.queue_bytes_max = QUEUE_BYTES_MAX
        self.catch_up.take_over(cohort)
        self._live = Cohort(self._history, self._large_batches, 0, is_live=True)
        self._live_number += 1

    def replace_store(self, store: Store) -> None:
        """An installed snapshot has replaced the store: watches continue from their revisions in the new one's history."""
        next_revision = self._history.next_revision
        self.catch_up.release_history()
        self._history.store = store
        store.watch_writes(self)
        self._fall_behind(next_revision)
        self._wake()

    # Streams and watches.

    def open(self, receiver: Receiver, *, takes_large_batches: bool = False) -> WatchStream:
        """Begin a stream. takes_large_batches: the receiver queues the pieces of a batch without a copy."""
        self.streams += 1
        return WatchStream(receiver, self._large_batches, takes_large_batches)

    def close(self, stream: WatchStream) -> None:
        """The client has gone: send it nothing more, and end all watches of its stream, in later turns if there are many."""
        self.streams -= 1
        watches, stream.watches = stream.watches, {}
        if self._ending or len(watches) > _ENDED_AT_ONCE:
            stream.has_room = False
            self._ending.extend(watches.values())
            self._wake()
        else:
            for watch in watches.values():
                self._forget(watch)
        stream.forget()
        stream.release()

    def create(
        self,
        stream: WatchStream,
        watch_id: int,
        key: bytes,
        end: bytes | None,
        start_revision: int,
        flags: int,
        *,
        wants_progress: bool = False,
        wants_fragments: bool = False,
    ) -> Watch:
        """Begin a watch. Its events follow in later turns.

        watch_id: 0 to have one assigned; end: b"" for the key alone, None for all keys from `key` on.
        start_revision: 0 for what is written from now on; one that is compacted ends the watch in a later turn.
        Raises WatchRefused.
        """
        if end is not None and end != b"" and key >= end:
            raise WatchRefused(EMPTY_RANGE)
        if watch_id == 0:
            while stream.next_id in stream.watches:
                stream.next_id += 1
            watch_id = stream.next_id
            stream.next_id += 1
        elif watch_id in stream.watches:
            raise WatchRefused(DUPLICATE_ID)
        watch = Watch(stream, watch_id, key, end, start_revision, flags, wants_progress, wants_fragments)
        stream.watches[watch_id] = watch
        self.watches += 1
        self._begin(watch)
        if not _has_reached(watch, self._live, self._history.next_revision - 1):
            stream.block(watch)
        return watch

    def _begin(self, watch: Watch) -> None:
        start_revision, next_revision = watch.start_revision, self._history.next_revision
        if 0 < start_revision < next_revision:
            self.catch_up.add(watch)
            self._wake()
            return
        watch.next_revision = max(start_revision, next_revision)
        if watch.next_revision > next_revision:
            self._live.waiting.add(watch)
        elif self._is_current:
            self._live.index.add(watch)
        elif self._history.is_within_request:  # a part of its writes was not reported
            self.catch_up.add(watch)
            self._wake()
        else:
            self._live.waiting.add(watch)
            self._wake()

    def cancel(self, stream: WatchStream, watch_id: int) -> bool:
        """End a watch. False: the stream has none of this id."""
        watch = stream.watches.pop(watch_id, None)
        if watch is None:
            return False
        self._forget(watch)
        return True

    def _forget(self, watch: Watch) -> None:
        self.watches -= 1
        if watch.is_over:
            self.catch_up.ended -= 1
        watch.is_over = True
        if watch.group is not None:
            watch.group.index.remove(watch)
        elif watch.waiting is not None:
            watch.waiting.remove(watch)

    def resume(self, stream: WatchStream) -> None:
        """The receiver of a stream has room again."""
        stream.has_room = True
        stream.release()
        if stream.lagging:
            for watch in stream.lagging:
                self.catch_up.add(watch)
            stream.lagging = []
            self._wake()

    # Progress.

    def request_progress(self, stream: WatchStream) -> int:
        """Notify the client of the revision that all watches of the stream have reached; no effect if one is not current.

        Returns the work that it took, beside that of a request: a stream may have a million watches.
        """
        looked_at = self._looked_at
        if stream.watches and self._are_current(stream) and not stream.is_progress_due:
            stream.is_progress_due = True
            self._progress_due(stream, None)
        return self._looked_at - looked_at >> _LOOKS_SHIFT

    def notify_progress(self, watch: Watch) -> None:
        """Notify the client of the revision that a watch has reached; without effect if it is not current."""
        if _has_reached(watch, self._live, self._history.next_revision - 1) and watch.stream.has_room:
            self._progress_due(watch.stream, watch)

    def _progress_due(self, stream: WatchStream, watch: Watch | None) -> None:
        """Notify now, or once everything that is in the queue has been sent."""
        if self._is_current and not self._progress:
            self._notify(stream, watch)
        else:
            self._progress.append((stream, watch))
            self._wake()

    @property
    def _is_current(self) -> bool:
        """Whether the live cohort has been sent everything, and no request is half written."""
        return not self._queue and self._live.is_clean and not self._history.is_within_request

    def _are_current(self, stream: WatchStream) -> bool:
        """A watch that is up to date stays so until it lags, or all of the live cohort fall behind."""
        if stream.current_in == self._live_number:
            return True
        revision = self._history.next_revision - 1
        blocker = stream.blocker
        if (
            blocker is not None
            and stream.watches.get(blocker.id) is blocker
            and not _has_reached(blocker, self._live, revision)
        ):
            return False
        self._looked_at += len(stream.watches)
        for watch in stream.watches.values():
            if not _has_reached(watch, self._live, revision):
                stream.block(watch)
                return False
        stream.blocker = None
        stream.current_in = self._live_number
        return True

    def _notify(self, stream: WatchStream, watch: Watch | None) -> None:
        revision = self._history.next_revision - 1
        if watch is None:
            stream.is_progress_due = False
            if stream.watches and self._are_current(stream):
                stream.receiver.progress(-1, revision)
        elif stream.watches.get(watch.id) is watch and not watch.is_over and _has_reached(watch, self._live, revision):
            stream.receiver.progress(watch.id, revision)

    # Work.

    def _wake(self) -> None:
        if not self.is_scheduled:
            self.is_scheduled = True
            self.schedule()

    def step(self, budget: Budget) -> bool:
        """Send what is due, up to the budget. Returns whether there is more to do; then call again, in a later turn."""
        self.is_scheduled = True
        reserve = budget.left // 2
        while self._ending and budget.left > reserve:
            watch = self._ending.popleft()
            self._forget(watch)
            watch.stream.forget()  # it may have lagged since
            budget.left -= WRITE  # to leave the tree of ranges takes as long
        catch_up = self.catch_up
        reserve = min(SLICE_WORK, budget.left // 2) if catch_up.has_work else 0
        budget.left -= reserve
        more = self._step_live(budget)
        budget.left += reserve
        while self._progress and self._is_current and budget.left > 0:
            looked_at = self._looked_at
            self._notify(*self._progress.popleft())
            budget.left -= OPERATION + (self._looked_at - looked_at >> _LOOKS_SHIFT)
        if catch_up.has_work:
            catch_up.step(self._live, self._is_current, budget)
        self.is_scheduled = more = more or catch_up.has_work or bool(self._progress) or bool(self._ending)
        return more

    def _step_live(self, budget: Budget) -> bool:
        """Returns whether something is left in the queue or in the flush."""
        live, queue = self._live, self._queue
        if not self._collected and not live.has_begun and live.flush(budget):
            return True
        while queue:
            if budget.left <= 0:
                return True
            events = queue[0]
            if not self._collected and not live.has_begun and (live.is_full or not live.activate(events[0].revision, budget)):
                if live.flush(budget):
                    return True
                continue
            self._collected = live.collect_some(events, self._collected, budget)
            if self._collected < len(events):
                return True  # nothing is sent before the rest is collected
            self._collected = 0
            self._queue_bytes -= sum([event.size_bytes for event in queue.popleft()])
        if live.flush(budget):
            return True
        return not self._history.is_within_request and not live.activate(self._history.next_revision, budget)


def _has_reached(watch: Watch, live: Cohort, revision: int) -> bool:
    if watch.start_revision > revision:
        return False
    group = watch.group
    if group is not None:
        return group.index is live.index
    return watch.waiting is live.waiting


def _ignore() -> None:
    """Without a host, `step` is called by whoever wants the events."""
