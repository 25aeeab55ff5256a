"""Watches, and the index of them by key and by range.

All watches of one key or range form a group. A group collects the events of its range; what is then sent to its watches is
encoded once for each combination of filters and prev_kv, whatever their number.

A watch is always in one of these states:
    in a group of a cohort's index     it has got everything before the cohort's cursor (watch_cohort.py)
    in a cohort's `waiting`            its next revision is at or after the cohort's cursor
    lagging                            its stream has no room; it continues from `next_revision` when there is
    unsynced                           ready to continue from `next_revision`, not yet in a cohort
    compacted                          ended by a compaction; its id stays in use until the client cancels it, as in etcd
    cancelled
"""

from __future__ import annotations

from typing import Final, Protocol

from tercet.containers import ShardedDict, SortedKeys
from tercet.errors import CorruptRecord
from tercet.mvcc.events import Event
from tercet.mvcc.watch_memory import BATCH_BYTES, LargeBatches
from tercet.mvcc.watch_ranges import KeyRange, KeyRanges

NO_PUT: Final = 1
NO_DELETE: Final = 2
PREV_KV: Final = 4
PIECE_BYTES: Final = 64 << 10  # of small events that are joined


class Batch:
    """Events for the watches of a group, encoded as fields of a WatchResponse. A deletion may make a million at one revision.

    pieces: all of them once `close` is called; small ones joined, large ones as they are, so that no step copies much.
    """

    __slots__ = ("_small", "_small_bytes", "count", "looked_at", "pieces", "size_bytes")

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.count = 0
        self.size_bytes = 0
        self.looked_at = 0  # events of the group
        self._small: list[bytes] = []
        self._small_bytes = 0

    def add(self, event: bytes) -> None:
        self.count += 1
        self.size_bytes += len(event)
        if self._small_bytes + len(event) > PIECE_BYTES:
            self.close()
        self._small.append(event)
        self._small_bytes += len(event)

    def close(self) -> None:
        """No event follows, for now."""
        small = self._small
        if small:
            self.pieces.append(small[0] if len(small) == 1 else b"".join(small))
            self._small = []
            self._small_bytes = 0


class Watch:
    """One watch of a stream.

    key, end: the watched range; end b"" for the key alone, None for all keys from `key` on.
    next_revision: it has been sent everything of the revisions before. flags: NO_PUT, NO_DELETE, PREV_KV.
    """

    __slots__ = (
        "end",
        "flags",
        "group",
        "id",
        "is_over",
        "is_quiet",
        "key",
        "next_revision",
        "place",
        "position",
        "start_revision",
        "stream",
        "waiting",
        "wants_fragments",
        "wants_progress",
    )

    def __init__(
        self,
        stream: WatchStream,
        id: int,
        key: bytes,
        end: bytes | None,
        start_revision: int,
        flags: int,
        wants_progress: bool,
        wants_fragments: bool,
    ) -> None:
        self.stream = stream
        self.id = id
        self.key = key
        self.end = end
        self.start_revision = start_revision
        self.next_revision = start_revision
        self.flags = flags
        self.wants_progress = wants_progress
        self.wants_fragments = wants_fragments
        self.is_over = False  # compacted or cancelled
        self.is_quiet = True  # without events since the last periodic progress notification
        self.group: WatchGroup | None = None
        self.position = 0  # in its group
        self.place = b""  # among those that wait
        self.waiting: WaitingWatches | None = None


class Receiver(Protocol):
    """The outgoing side of a watch stream. Nothing here may call the hub back before it returns."""

    def deliver(self, watch: Watch, revision: int, batch: Batch) -> bool:
        """Queue the events of `batch` for the client. Returns whether there is room for more.

        revision: for the response header.
        """
        ...

    def compacted(self, watch: Watch, compact_revision: int) -> bool:
        """Queue the end of a watch whose revisions have been compacted. Returns whether there is room for more."""
        ...

    def progress(self, watch_id: int, revision: int) -> None:
        """Queue a progress notification."""
        ...

    def fail(self, error: CorruptRecord) -> None:
        """End the stream: a record that one of its watches needs cannot be read."""
        ...

    def wait_for_room(self) -> None:
        """Call `WatchHub.resume` once there is room again."""
        ...


class _Closed:
    """The receiver of a stream that is closed: of its watches that have not ended yet."""

    def deliver(self, watch: Watch, revision: int, batch: Batch) -> bool:
        return False

    def compacted(self, watch: Watch, compact_revision: int) -> bool:
        return False

    def progress(self, watch_id: int, revision: int) -> None: ...

    def fail(self, error: CorruptRecord) -> None: ...

    def wait_for_room(self) -> None: ...


_CLOSED: Final = _Closed()


class WatchStream:
    """The watches of one gRPC stream.

    has_room: whether the client reads fast enough; events are not queued without it.
    blocker, current_in: what was found when all watches were last asked whether they are up to date, so that a client with
    100,000 watches does not have them asked for each of its progress requests. One that was not; or the number of the live
    cohort that holds all. takes_large_batches: whether the receiver queues the pieces of a batch without a copy.
    """

    __slots__ = (
        "_held_bytes",
        "_large_batches",
        "blocker",
        "current_in",
        "has_room",
        "is_progress_due",
        "lagging",
        "next_id",
        "receiver",
        "takes_large_batches",
        "watches",
    )

    def __init__(self, receiver: Receiver, large_batches: LargeBatches, takes_large_batches: bool) -> None:
        self.receiver = receiver
        self.takes_large_batches = takes_large_batches
        self._large_batches = large_batches
        self._held_bytes = 0  # of the large batch that waits to be read
        self.watches: dict[int, Watch] = {}
        self.next_id = 0
        self.has_room = True
        self.is_progress_due = False
        self.lagging: list[Watch] = []
        self.blocker: Watch | None = None
        self.current_in = 0

    def lag(self, watch: Watch) -> None:
        """Let a watch continue when there is room."""
        self.lagging.append(watch)
        self.block(watch)

    def block(self, watch: Watch) -> None:
        """A watch of the stream is not up to date."""
        self.blocker = watch
        self.current_in = 0

    def forget(self) -> None:
        """The stream is closed: refer to no watch or receiver, which would keep both until a garbage collection."""
        self.receiver = _CLOSED
        self.lagging = []
        self.blocker = None
        self.current_in = 0

    def shut(self) -> None:
        """The receiver has no room: queue nothing before `WatchHub.resume`."""
        if self.has_room:
            self.has_room = False
            self.receiver.wait_for_room()

    def hold(self, batch: Batch) -> None:
        """A batch is queued, and the client has not read it."""
        if batch.size_bytes > BATCH_BYTES:
            self._held_bytes += batch.size_bytes
            self._large_batches.hold(batch.size_bytes)

    def release(self) -> None:
        """The client has read what was queued, or has gone."""
        self._large_batches.release(self._held_bytes)
        self._held_bytes = 0


class WatchGroup(KeyRange):
    """The watches of one key or range in one index.

    pending: events for them that are not yet sent. with_previous: how many of them have PREV_KV.
    """

    __slots__ = ("index", "pending", "watches", "with_previous")

    def __init__(self, key: bytes, end: bytes | None, index: WatchIndex) -> None:
        super().__init__(key, end)
        self.index = index
        self.watches: list[Watch] = []
        self.pending: list[Event] = []
        self.with_previous = 0

    def add(self, watch: Watch) -> None:
        watch.group = self
        self.with_previous += (watch.flags & PREV_KV) >> 2
        watch.position = len(self.watches)
        self.watches.append(watch)

    def discard(self, watch: Watch) -> None:
        """Remove a watch; the last one takes its position."""
        last = self.watches.pop()
        if last is not watch:
            self.watches[watch.position] = last
            last.position = watch.position
        self.with_previous -= (watch.flags & PREV_KV) >> 2
        watch.group = None


class WatchIndex:
    """Groups by key and by range. The cost of a search does not grow with the groups that do not match."""

    __slots__ = ("by_key", "count", "ranges", "without_large")

    def __init__(self) -> None:
        self.by_key: dict[bytes, WatchGroup] = {}
        self.ranges = KeyRanges()
        self.count = 0  # of watches
        self.without_large = 0  # those whose streams take no large batches

    def wants(self, key: bytes) -> bool:
        """Whether any watch is interested in `key`."""
        return key in self.by_key or (self.ranges.count > 0 and self.ranges.holds(key))

    def group(self, key: bytes, end: bytes | None) -> WatchGroup | None:
        """The group of exactly this key or range."""
        if end == b"":
            return self.by_key.get(key)
        found = self.ranges.find(key, end)
        assert found is None or isinstance(found, WatchGroup)
        return found

    def add(self, watch: Watch) -> None:
        group = self.group(watch.key, watch.end)
        if group is None:
            group = WatchGroup(watch.key, watch.end, self)
            if watch.end == b"":
                self.by_key[watch.key] = group
            else:
                self.ranges.add(group)
        group.add(watch)
        self.count += 1
        if not watch.stream.takes_large_batches:
            self.without_large += 1

    def remove(self, watch: Watch) -> None:
        group = watch.group
        assert group is not None
        group.discard(watch)
        self.count -= 1
        if not watch.stream.takes_large_batches:
            self.without_large -= 1
        if not group.watches:
            self._drop(group)

    def take(self, limit: int) -> list[Watch]:
        """Remove at most `limit` watches of any one group, which has no events, and return them. Empty: there are none."""
        group: WatchGroup
        if self.by_key:
            key, group = self.by_key.popitem()
            if len(group.watches) > limit:
                self.by_key[key] = group
        else:
            found = self.ranges.last()
            if found is None:
                return []
            assert isinstance(found, WatchGroup)
            group = found
            if len(group.watches) <= limit:
                self.ranges.remove(group)
        taken = group.watches[-limit:]
        del group.watches[-limit:]
        self.count -= len(taken)
        for watch in taken:
            group.with_previous -= (watch.flags & PREV_KV) >> 2
            watch.group = None
            if not watch.stream.takes_large_batches:
                self.without_large -= 1
        return taken

    def _drop(self, group: WatchGroup) -> None:
        group.pending = []
        if group.end == b"":
            del self.by_key[group.start]
        else:
            self.ranges.remove(group)


class WaitingWatches:
    """Watches by their next revision, which is not reached yet. No step is long, whatever is removed in which order."""

    __slots__ = ("_number", "_order", "_watches")

    def __init__(self) -> None:
        self._order = SortedKeys()
        self._watches: ShardedDict[Watch] = ShardedDict()  # by their place in the order
        self._number = 0  # tells watches of one revision apart

    @property
    def count(self) -> int:
        return len(self._order)

    @property
    def first_revision(self) -> int:
        """The revision that the first of them waits for. There must be one."""
        return int.from_bytes(self._order.first(b"", None, 1)[0][:8], "big")

    def add(self, watch: Watch) -> None:
        self._number += 1
        watch.waiting = self
        watch.place = place = watch.next_revision.to_bytes(8, "big") + self._number.to_bytes(8, "big")
        self._order.add(place)
        self._watches.set(place, watch)

    def remove(self, watch: Watch) -> None:
        watch.waiting = None
        self._order.remove(watch.place)
        self._watches.pop(watch.place)

    def pop(self) -> Watch:
        """Remove and return the first watch."""
        watch = self._watches.get(self._order.first(b"", None, 1)[0])
        assert watch is not None
        self.remove(watch)
        return watch
