"""Clients that watch, and what a watch guarantees: every event of its range from its first revision on, in order, once, and no
revision in part; over crashes of its member, changes of leader, snapshots and slow reading.

A watcher continues at any member from the revision after the last it has seen. If that is compacted, the server must say so;
it then goes on from the compact revision. All it saw in between two such jumps is compared with the model.
Source: etcd's API guarantees (ordered, unique, reliable, atomic, resumable).
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any, Final, NamedTuple

from tercet.errors import CorruptRecord, require
from tercet.mvcc import Batch, Budget, Watch, WatchHub, WatchStream
from tercet.proto import kv_pb2, rpc_pb2
from tercet.replica.replica import Replica
from tercet.sim.clock import TICK, Clock
from tercet.sim.history import HistoryViolation
from tercet.sim.member import SimulatedMember
from tercet.sim.model import Model

_RANGES: Final = ((b"key-0", b""), (b"set-0", b""), (b"set-", b"set."), (b"key-", b"key."), (b"\0", None))
_ROOMS: Final = (1, 3, 1000)  # responses that a client takes before it reads
_WORK_MAX: Final = 1 << 30


class Seen(NamedTuple):
    """One event."""

    revision: int
    key: bytes
    kv: kv_pb2.KeyValue | None  # None: deleted


class Watcher:
    """One client with one watch. `passages`: what it saw, from a first revision on, without a gap in each."""

    def __init__(self, key: bytes, end: bytes | None, room: int) -> None:
        self.key = key
        self.end = end
        self.next_revision = 1
        self.passages: list[tuple[int, list[Seen]]] = [(1, [])]
        self._room = room
        self._queued = 0
        self._hub: WatchHub | None = None
        self._stream: WatchStream | None = None
        self._wants_room = False
        self._is_compacted = self._has_failed = False

    def attach(self, replica: Replica) -> None:
        """Begin the watch at a member."""
        self._hub = hub = replica.watches
        self._queued = 0
        self._wants_room = self._is_compacted = self._has_failed = False
        self._stream = stream = hub.open(self)
        hub.create(stream, 0, self.key, self.end, self.next_revision, 0)

    def detach(self) -> None:
        """Leave: the client goes away, or its member has crashed."""
        if self._hub is not None and self._stream is not None:
            self._hub.close(self._stream)
        self._hub = self._stream = None

    def is_attached(self, members: Sequence[SimulatedMember]) -> bool:
        """Whether its member still runs and serves the watch."""
        return not (self._is_compacted or self._has_failed) and any(
            member.replica is not None and member.replica.watches is self._hub for member in members
        )

    def read(self) -> None:
        """Read all that the member has sent."""
        self._queued = 0
        if self._wants_room and self._hub is not None and self._stream is not None:
            self._wants_room = False
            self._hub.resume(self._stream)

    def read_everything(self) -> None:
        """Let the member send all that is left."""
        hub = self._hub
        require(hub is not None, "a watcher without a member")
        assert hub is not None
        self._room = _WORK_MAX
        self.read()
        while hub.step(Budget(_WORK_MAX)):
            continue

    # Receiver

    def deliver(self, watch: Watch, revision: int, batch: Batch) -> bool:
        first = self.next_revision
        for event in rpc_pb2.WatchResponse.FromString(b"".join(batch.pieces)).events:
            seen = Seen(event.kv.mod_revision, event.kv.key, None if event.type == kv_pb2.Event.DELETE else event.kv)
            if seen.revision < max(first, self.next_revision - 1):
                raise HistoryViolation(f"a watch got an event again, in parts or out of order: {seen}, expected {first}")
            self.passages[-1][1].append(seen)
            self.next_revision = seen.revision + 1
        if revision < self.next_revision - 1:
            raise HistoryViolation(f"a header of revision {revision} with events up to {self.next_revision - 1}")
        return self._queue()

    def compacted(self, watch: Watch, compact_revision: int) -> bool:
        if compact_revision <= self.next_revision:
            raise HistoryViolation(f"a watch from {self.next_revision} ended by a compaction of {compact_revision}")
        self.next_revision = compact_revision
        self.passages.append((compact_revision, []))
        self._is_compacted = True
        return self._queue()

    def progress(self, watch_id: int, revision: int) -> None: ...

    def fail(self, error: CorruptRecord) -> None:
        """The stream ends; the client goes to some member again."""
        self._has_failed = True

    def wait_for_room(self) -> None:
        self._wants_room = True

    def _queue(self) -> bool:
        self._queued += 1
        return self._queued < self._room


class Watchers:
    """The watchers of one run; every tick some of them read, leave or come back."""

    def __init__(self, clock: Clock, random: Random, members: Sequence[SimulatedMember]) -> None:
        self._clock = clock
        self._random = random
        self._members = members
        self.watchers = [Watcher(key, end, random.choice(_ROOMS)) for key, end in _RANGES]

    def start(self) -> None:
        self._clock.after(TICK, self._tick)

    def _tick(self) -> None:
        self._clock.after(TICK, self._tick)
        random = self._random
        running = [member for member in self._members if member.serves_clients]
        for watcher in self.watchers:
            if not watcher.is_attached(running) or random.random() < 0.02:
                watcher.detach()
                if running and random.random() < 0.5:
                    replica = random.choice(running).replica
                    assert replica is not None
                    watcher.attach(replica)
            elif random.random() < 0.3:
                watcher.read()

    def check(self, members: Sequence[SimulatedMember], model: Model) -> None:
        """Let all watchers see the end of history, each at some member, and compare. Raises HistoryViolation."""
        events = sorted((Seen(revision, key, kv) for key, versions in model.history() for revision, kv in versions), key=_order)
        for watcher in self.watchers:
            watcher.read()
            for _ in range(2):  # the second time after a compaction
                if not watcher.is_attached(members):
                    watcher.detach()
                    replica = self._random.choice([member.replica for member in members])
                    assert replica is not None
                    watcher.attach(replica)
                watcher.read_everything()
            _check_passages(watcher, events)


def _check_passages(watcher: Watcher, events: list[Seen]) -> None:
    wanted = [event for event in events if _is_in_range(event.key, watcher)]
    last = len(watcher.passages) - 1
    for number, (first, seen) in enumerate(watcher.passages):
        expected = [event for event in wanted if event.revision >= first]
        if number < last:  # it ended by a compaction: the revisions before are complete
            expected = [event for event in expected if seen and event.revision <= seen[-1].revision]
        got = sorted(seen, key=_order)
        if got != expected:
            wrong = next((pair for pair in zip(got, expected, strict=False) if pair[0] != pair[1]), (len(got), len(expected)))
            raise HistoryViolation(f"a watch of {watcher.key!r} from revision {first} saw other events than the log's: {wrong}")


def _is_in_range(key: bytes, watcher: Watcher) -> bool:
    if watcher.end == b"":
        return key == watcher.key
    return key >= watcher.key and (watcher.end is None or key < watcher.end)


def _order(event: Seen) -> Any:
    return event.revision, event.key
