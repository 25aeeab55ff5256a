"""Watches that are at the same place in history, and advance together.

    activate(r)   watches that wait for revision r enter the index
    collect(e)    the groups that want event e take it
    flush()       each group with events encodes them once and sends them to its watches

Collecting goes on over many revisions before a flush, so a busy range costs one response a turn, not one a put. A flush may
take several slices; until it is complete nothing else is collected. A revision is never split between two flushes.
"""

from __future__ import annotations

from typing import Final

from tercet.mvcc.events import Event
from tercet.mvcc.watch import NO_DELETE, NO_PUT, PIECE_BYTES, PREV_KV, Batch, WaitingWatches, Watch, WatchGroup, WatchIndex
from tercet.mvcc.watch_history import History, KeptHistory
from tercet.mvcc.watch_memory import BATCH_BYTES, LARGE_BATCH_BYTES, LARGE_BATCH_REVISIONS, LargeBatches
from tercet.mvcc.watch_ranges import KeyRange
from tercet.mvcc.work import BYTES_SHIFT, FETCH, VISIT, WRITE, Budget

BATCH_REVISIONS: Final = 1000  # etcd: watchBatchMaxRevs
BATCH_PENDING: Final = 1 << 20  # events, counted for each group that takes them: 100,000 ranges may hold the same key
_DELIVERY: Final = 2  # work of sending a batch to one watch, beside that of its pieces
_BATCHED: Final = 16  # encoded events that are put together, between two looks at the budget


class Cohort:
    """Watches that have been sent everything before revision `cursor`, writes below `sub` of it included.

    is_live: fed by the requests as they are applied; else it reads history. kept: what holds back compactions meanwhile.
    """

    __slots__ = (
        "_batches",
        "_bytes",
        "_dirty",
        "_encoded",
        "_history",
        "_is_large",
        "_large_batches",
        "_last_revision",
        "_pending",
        "_position",
        "_revisions",
        "_sending",
        "_taken_by",
        "cursor",
        "delivered",
        "index",
        "is_live",
        "kept",
        "sub",
        "waiting",
    )

    def __init__(self, history: History, large_batches: LargeBatches, cursor: int, *, is_live: bool) -> None:
        self._history = history
        self._large_batches = large_batches
        self._is_large = False  # has reserved the memory of a large batch
        self.cursor = cursor
        self.sub = 0
        self.is_live = is_live
        self.kept: KeptHistory | None = None
        self.index = WatchIndex()
        self.waiting = WaitingWatches()
        self.delivered = 0  # events times watches
        self._dirty: list[WatchGroup] = []  # groups with pending events
        self._taken_by: KeyRange | None = None  # the last group that has taken an event which others still must take
        self._last_revision = 0
        self._revisions = 0  # with events, since the last flush
        self._bytes = 0
        self._pending = 0  # events, counted for each group
        self._sending: list[WatchGroup] = []  # groups that the flush in progress has not completed, in reverse
        self._position = -1  # of the next watch to send to, in the last of them; -1: none was begun
        self._encoded = 0  # of its pending events
        self._batches: dict[int, Batch] = {}  # of that group, by flags

    @property
    def count(self) -> int:
        return self.index.count + self.waiting.count

    @property
    def is_clean(self) -> bool:
        """Whether everything that was collected has been sent."""
        return not self._dirty and not self._sending

    @property
    def is_sending(self) -> bool:
        """Whether a flush is not complete."""
        return bool(self._sending)

    @property
    def is_full(self) -> bool:
        """Whether enough is collected for a flush."""
        if self._revisions >= BATCH_REVISIONS or self._pending >= BATCH_PENDING:
            return True
        return self._bytes >= BATCH_BYTES and not self._can_grow()

    def _can_grow(self) -> bool:
        """Whether what is collected may become a large batch, as etcd makes of history; what is live it sends by revisions."""
        if (
            self.is_live
            or self._revisions >= LARGE_BATCH_REVISIONS
            or self._bytes >= LARGE_BATCH_BYTES
            or self.index.without_large
        ):
            return False
        if not self._is_large:
            self._is_large = self._large_batches.reserve()
        return self._is_large

    # Watches

    @property
    def has_begun(self) -> bool:
        """Whether a part of a revision is collected."""
        return self.sub > 0 or self._taken_by is not None

    @property
    def place(self) -> int:
        """The first revision from which a watch can join."""
        return self.cursor + 1 if self.has_begun else self.cursor

    def join(self, watch: Watch) -> None:
        """Add a watch whose next revision is at or after `place`."""
        self.waiting.add(watch)

    def activate(self, revision: int, budget: Budget) -> bool:
        """Let watches that wait for `revision` or an earlier one take part.

        False: not all of them yet. Flush first, since groups may have events, or the budget is used up.
        """
        while self.waiting.count and self.waiting.first_revision <= revision:
            if self._dirty or budget.left <= 0:
                return False
            self.index.add(self.waiting.pop())
            budget.left -= WRITE
        return True

    # Events

    def collect(self, event: Event, budget: Budget) -> bool:
        """Let the groups that want an event take it.

        False: the budget is used up, and some have not taken it yet. Then call it with the same event again.
        """
        index, after = self.index, self._taken_by
        is_taken = after is not None
        self._taken_by = None
        budget.left -= VISIT
        if index.ranges.count:
            while groups := index.ranges.holding(event.key, after, limit := max(1, budget.left)):
                if not is_taken:
                    is_taken = True
                    self._count(event)
                for group in groups:
                    assert isinstance(group, WatchGroup)
                    self._take(group, event)
                self._pending += len(groups)
                budget.left -= VISIT * len(groups)
                if len(groups) < limit:
                    break
                after = groups[-1]
                if budget.left <= 0:
                    self._taken_by = after
                    return False
        group_of_key = index.by_key.get(event.key)
        if group_of_key is not None:
            if not is_taken:
                self._count(event)
            self._take(group_of_key, event)
            self._pending += 1
            budget.left -= VISIT
        return True

    def _take(self, group: WatchGroup, event: Event) -> None:
        if not group.pending:
            self._dirty.append(group)
        group.pending.append(event)

    def _count(self, event: Event) -> None:
        self._bytes += event.size_bytes
        if event.revision != self._last_revision:
            self._last_revision = event.revision
            self._revisions += 1

    def collect_some(self, events: list[Event], start: int, budget: Budget) -> int:
        """Collect the events of a request from number `start` on, as far as the budget allows. Returns the next number."""
        at = start
        while at < len(events) and budget.left > 0 and self.collect(events[at], budget):
            at += 1
        return at

    def skip_event(self) -> None:
        """Nobody wants the next event any more."""
        self._taken_by = None

    def flush(self, budget: Budget) -> bool:
        """Send what is collected. Returns whether there is more to send."""
        if not self._sending:
            if not self._dirty:
                return False
            self._sending, self._dirty = self._dirty, []
            self._sending.reverse()
            self._revisions = self._bytes = self._pending = 0
        while self._sending:
            if budget.left <= 0:
                return True
            self._send(self._sending[-1], budget)
        self._release()
        return False

    def _release(self) -> None:
        """What was collected is sent, or dropped. The streams hold what they have queued of it."""
        if self._is_large:
            self._is_large = False
            self._large_batches.release(LARGE_BATCH_BYTES)

    def drop_collected(self) -> None:
        """Forget what has been collected and not sent: for watches that a compaction ends."""
        for group in (*self._dirty, *self._sending):
            group.pending = []
        self._dirty = []
        self._sending = []
        self._position = -1
        self._encoded = 0
        self._batches = {}
        self._taken_by = None
        self._revisions = self._bytes = self._pending = 0
        self._release()

    def _send(self, group: WatchGroup, budget: Budget) -> None:
        """Send a group's events to its watches until the budget is used up, from the last watch to the first.

        A watch that leaves has its place taken by the last one, which has got them already: its next revision says so.
        """
        if not group.pending:  # its watches have all left
            self._end_group(group)
            return
        if self._position < 0:
            if self._encode(group, budget):
                return
            self._position = len(group.watches)
        first, last = group.pending[0].revision, group.pending[-1].revision
        revision = last if self.is_live else self._history.next_revision - 1
        watches = group.watches
        position = min(self._position, len(watches))
        while position > 0 and budget.left > 0:
            watch = watches[position - 1]
            if watch.next_revision <= last and not self._send_to(watch, group, first, last, revision, budget):
                break
            position -= 1
        self._position = position
        if position == 0:
            self._end_group(group)

    def _encode(self, group: WatchGroup, budget: Budget) -> bool:
        """Encode a group's events, each once for all groups. Returns whether there are more."""
        pending = group.pending
        while self._encoded < len(pending):
            if budget.left <= 0:
                return True
            event = pending[self._encoded]
            self._encoded += 1
            budget.left -= VISIT
            if group.with_previous < len(group.watches):
                budget.left -= len(event.encoded()) >> BYTES_SHIFT
            if group.with_previous:
                budget.left -= FETCH + (len(self._with_previous(event)) >> BYTES_SHIFT)
        return False

    def _send_to(self, watch: Watch, group: WatchGroup, first: int, last: int, revision: int, budget: Budget) -> bool:
        """False: the batch is not complete; go on in a later slice."""
        stream = watch.stream
        budget.left -= _DELIVERY
        if not stream.has_room:
            watch.next_revision = max(watch.next_revision, first)
            self.index.remove(watch)
            stream.lag(watch)
            return True
        batch = self._batch(group, watch.flags, budget)
        if batch is None:
            return False
        watch.next_revision = last + 1
        if not batch.count:  # all of them are filtered out
            return True
        budget.left -= len(batch.pieces)
        self.delivered += batch.count
        if not stream.receiver.deliver(watch, revision, batch):
            stream.shut()
            stream.hold(batch)
        return True

    def _batch(self, group: WatchGroup, flags: int, budget: Budget) -> Batch | None:
        """The group's events with these flags, encoded once. None: the budget is used up."""
        batch = self._batches.get(flags)
        if batch is None:
            batch = self._batches[flags] = Batch()
        pending = group.pending
        if batch.looked_at == len(pending):
            return batch
        unwanted_put, unwanted_delete = flags & NO_PUT != 0, flags & NO_DELETE != 0
        while batch.looked_at < len(pending):
            if budget.left <= 0:
                return None
            for event in pending[batch.looked_at : batch.looked_at + _BATCHED]:
                batch.looked_at += 1
                if not (unwanted_delete if event.is_delete else unwanted_put):
                    encoded = self._with_previous(event) if flags & PREV_KV else event.encoded()
                    batch.add(encoded)
                    if len(encoded) <= PIECE_BYTES:
                        budget.left -= len(encoded) >> BYTES_SHIFT
            budget.left -= VISIT
        batch.close()
        return batch

    def _with_previous(self, event: Event) -> bytes:
        return self._history.encoded_with_previous(event, is_kept=self.kept is not None)

    def release_history(self) -> None:
        """Compactions need not wait for these watches any more."""
        kept, self.kept = self.kept, None
        if kept is not None:
            kept.release()

    def _end_group(self, group: WatchGroup) -> None:
        group.pending = []
        self._sending.pop()
        self._position = -1
        self._encoded = 0
        self._batches = {}
