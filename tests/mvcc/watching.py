"""A hub over a store of its own, clients that read as slowly as a test wants, and a plain log of what each watch must get."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tercet.errors import CorruptRecord
from tercet.mvcc import NO_DELETE, NO_PUT, PREV_KV, Batch, Budget, Store, Watch, WatchHub, WatchStream, whole_apply
from tercet.proto import kv_pb2, rpc_pb2
from tests.mvcc.dict_backend import DictBackend

Delete = rpc_pb2.DeleteRangeRequest
Op = rpc_pb2.RequestOp
Put = rpc_pb2.PutRequest
Txn = rpc_pb2.TxnRequest


@dataclass(frozen=True)
class Change:
    """An event as a client sees it. `previous` is the value before, where the watch asks for it."""

    revision: int
    key: bytes
    value: bytes | None  # None: deleted
    previous: bytes | None = None


def changes_in(body: bytes) -> list[Change]:
    """The events of a WatchResponse."""
    found: list[Change] = []
    for event in rpc_pb2.WatchResponse.FromString(body).events:
        kv = event.kv
        previous = event.prev_kv.value if event.HasField("prev_kv") else None
        value = None if event.type == kv_pb2.Event.DELETE else kv.value
        found.append(Change(kv.mod_revision, kv.key, value, previous))
    return found


class Client:
    """The receiver of a stream. It takes `room` responses until it reads."""

    def __init__(self, hub: WatchHub, room: int = 1 << 30) -> None:
        self.room = room
        self.queued = 0
        self.wants_room = False
        self.responses: dict[int, list[list[Change]]] = {}
        self.headers: dict[int, list[int]] = {}
        self.ended: dict[int, int] = {}  # the compact revision, by watch
        self.notices: list[tuple[int, int]] = []
        self.errors: list[CorruptRecord] = []
        self._hub = hub
        self.stream: WatchStream = hub.open(self)

    def deliver(self, watch: Watch, revision: int, batch: Batch) -> bool:
        assert watch.id in self.stream.watches, "an event of a watch that is cancelled"
        assert watch.id not in self.ended, "an event after the end"
        self.responses.setdefault(watch.id, []).append(changes_in(b"".join(batch.pieces)))
        self.headers.setdefault(watch.id, []).append(revision)
        return self._queue()

    def compacted(self, watch: Watch, compact_revision: int) -> bool:
        assert watch.id not in self.ended
        self.ended[watch.id] = compact_revision
        return self._queue()

    def progress(self, watch_id: int, revision: int) -> None:
        self.notices.append((watch_id, revision))

    def fail(self, error: CorruptRecord) -> None:
        self.errors.append(error)

    def wait_for_room(self) -> None:
        assert not self.wants_room
        self.wants_room = True

    def _queue(self) -> bool:
        self.queued += 1
        return self.queued < self.room

    def read(self) -> None:
        """Read all that is queued."""
        self.queued = 0
        if self.wants_room:
            self.wants_room = False
            self._hub.resume(self.stream)

    def got(self, watch_id: int) -> list[Change]:
        return [change for response in self.responses.get(watch_id, []) for change in response]


@dataclass
class Watched:
    """A store with a hub, and `log`: every event so far, with the value before its request."""

    backend: DictBackend = field(default_factory=DictBackend)
    log: list[Change] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = Store(self.backend)
        self.hub = WatchHub(self.store)

    def values(self) -> dict[bytes, bytes]:
        values: dict[bytes, bytes] = {}
        for change in self.log:
            if change.value is None:
                del values[change.key]
            else:
                values[change.key] = change.value
        return values

    def put(self, *keys: bytes) -> None:
        """One request, whose values are its revision."""
        values, revision = self.values(), self.store.revision + 1
        value = b"%d" % revision
        self.log += [Change(revision, key, value, values.get(key)) for key in keys]
        whole_apply(self.store.txn(Txn(success=[Op(request_put=Put(key=key, value=value)) for key in keys])))

    def delete(self, start: bytes, end: bytes = b"") -> None:
        self.log_deletes(start, end)
        whole_apply(self.store.delete_range(Delete(key=start, range_end=end)))

    def log_deletes(self, start: bytes, end: bytes) -> None:
        revision = self.store.revision + 1
        for key, value in sorted(self.values().items()):
            if start <= key < (end or start + b"\0"):
                self.log.append(Change(revision, key, None, value))

    def replace_store(self) -> None:
        """What an installed snapshot does: another store takes over, which may hold more."""
        self.store = Store(self.backend)
        self.hub.replace_store(self.store)

    def settle(self, work: int = 1 << 20) -> None:
        for _ in range(100_000):
            if not self.hub.step(Budget(work)):
                return
        raise AssertionError("the hub does not settle")

    def log_without_previous(self) -> list[Change]:
        return [Change(change.revision, change.key, change.value) for change in self.log]

    def expected(self, watch: Watch, first: int) -> list[Change]:
        """What a watch must get whose first revision is `first`."""
        return [
            change if watch.flags & PREV_KV else Change(change.revision, change.key, change.value)
            for change in self.log
            if change.revision >= first and _matches(watch, change)
        ]


def _matches(watch: Watch, change: Change) -> bool:
    if watch.flags & (NO_DELETE if change.value is None else NO_PUT):
        return False
    if watch.end is None:
        return change.key >= watch.key
    return watch.key <= change.key < (watch.end or watch.key + b"\0")


def revisions(responses: list[list[Change]]) -> Iterator[set[int]]:
    for response in responses:
        yield {change.revision for change in response}
