"""The writes of one request: puts and deletes that share one revision.

Each write is stored under (main, sub): `main` is the revision of the request, `sub` counts its writes. A request may hold many
operations (Txn); each sees the writes of those before it. `end` closes the request: its revision becomes the store's, unless
nothing was written. A request may take several turns of the event loop; until `end`, reads see none of its writes, since they
read below `main`.

One object serves one request after the other: a Put is too short to pay for a new one.
Invariants: between requests `index.written` is 0; a key in the index is in the backend.
Source: etcd server/storage/mvcc/kvstore_txn.go, storeTxnWrite.
"""

from __future__ import annotations

from typing import Protocol

from tercet.errors import KEY_NOT_FOUND, LEASE_NOT_FOUND
from tercet.mvcc.counts import Counts
from tercet.mvcc.encoding import (
    FIRST_SUB,
    REVISION_BYTES,
    TOMBSTONE,
    encode_deleted,
    encode_key_value,
    encode_revision_key,
    encode_tombstone,
)
from tercet.mvcc.events import EVENTS_MAX, Event, WriteListener
from tercet.mvcc.key_index import KeyIndex
from tercet.mvcc.read_txn import Pins, ReadTxn
from tercet.proto import kv_pb2, rpc_pb2
from tercet.proto.wire import varint
from tercet.storage.interfaces import Backend, Bucket


class Leases(Protocol):
    """What the store needs of the leases (lease.Lessor)."""

    def lease_of(self, key: bytes) -> int: ...
    def lease_exists(self, lease_id: int) -> bool: ...
    def attach(self, key: bytes, lease_id: int) -> None: ...
    def detach(self, keys: list[bytes]) -> None: ...


class NoLeases:
    """For a store without a lessor: no lease exists."""

    def lease_of(self, key: bytes) -> int:
        return 0

    def lease_exists(self, lease_id: int) -> bool:
        return False

    def attach(self, key: bytes, lease_id: int) -> None: ...

    def detach(self, keys: list[bytes]) -> None: ...


class WriteTxn:
    """Put and delete on behalf of the request that is being applied.

    listener: told by `end` of each request that wrote anything.
    """

    __slots__ = (
        "_backend",
        "_counts",
        "_events",
        "_has_more_events",
        "_operations",
        "_pins",
        "index",
        "leases",
        "listener",
    )

    def __init__(self, index: KeyIndex, backend: Backend, leases: Leases, counts: Counts, pins: Pins) -> None:
        self.index = index
        self.leases = leases
        self._backend = backend
        self._counts = counts
        self._pins = pins
        self._operations = 0  # of this request
        self._events: list[Event] = []
        self._has_more_events = False  # than are kept
        self.listener: WriteListener | None = None

    @property
    def revision(self) -> int:
        """The revision as an operation of this request sees it: the request's own, once it has written anything."""
        return self.index.main if self.index.written else self.index.main - 1

    def end(self) -> None:
        """Close the request: from now on reads see its writes."""
        index = self.index
        if self._operations > 1:
            self._counts.txns += 1
        self._operations = 0
        if index.written:
            index.main += 1
            index.written = 0
            listener = self.listener
            if listener is not None and (self._events or listener.is_watching):
                self._report(listener)

    def _report(self, listener: WriteListener) -> None:
        events, self._events = self._events, []
        is_too_large, self._has_more_events = self._has_more_events, False
        listener.completed(None if is_too_large else events)

    def read(self) -> ReadTxn:
        """What the next operation sees: the state before this request and its writes so far."""
        return ReadTxn(self.index, self._backend, self._pins, self.index.main - 1, self.index.written)

    def count_range(self) -> None:
        """Count a Range operation of this request."""
        self._counts.ranges += 1
        self._operations += 1

    # Operations.

    def put(self, request: rpc_pb2.PutRequest) -> bytes:
        """Returns the revision key of the replaced KeyValue if the request asks for it or keeps a part of it; else b"".

        Raises LEASE_NOT_FOUND, or KEY_NOT_FOUND for ignore_value or ignore_lease; then nothing was written.
        """
        lease = request.lease
        if lease and not self.leases.lease_exists(lease):
            raise LEASE_NOT_FOUND
        if request.prev_kv or request.ignore_value or request.ignore_lease:
            return self._put_over(request)
        self.put_value(request.key, request.value, lease)
        return b""

    def _put_over(self, request: rpc_pb2.PutRequest) -> bytes:
        self.count_range()
        entry = self.index.entry(request.key)
        previous = b"" if entry is None else entry[:REVISION_BYTES]
        value, lease = request.value, request.lease
        if request.ignore_value or request.ignore_lease:
            if entry is None:
                self._operations = 0
                raise KEY_NOT_FOUND
            kept = kv_pb2.KeyValue.FromString(self.read().fetch(previous))
            value = kept.value if request.ignore_value else value
            lease = kept.lease if request.ignore_lease else lease
        self.put_value(request.key, value, lease)
        return previous

    def count_deletes(self, operations: int, *, prev_kv: bool = False) -> None:
        """Count DeleteRange operations of this request; one with prev_kv counts as a Range too, as in etcd."""
        self._counts.deletes += operations
        self._operations += operations
        if prev_kv:
            self.count_range()

    # Writes.

    def put_value(self, key: bytes, value: bytes, lease: int) -> None:
        """A Put whose lease exists, if it names one."""
        index = self.index
        revision, sub = index.main, index.written
        self._operations += 1
        self._counts.puts += 1
        self._counts.put_bytes += len(key) + len(value)
        revision_key = encode_revision_key(revision, sub) if sub else revision.to_bytes(8, "big") + FIRST_SUB
        mod = varint(revision)
        create, version = index.put(key, revision_key, mod)
        kv = encode_key_value(key, create, mod, version, value, lease)
        self._backend.put(Bucket.KEY, revision_key, kv)
        index.written = sub + 1
        held = self.leases.lease_of(key)
        if lease != held:
            self._change_lease(key, held, lease)
        listener = self.listener
        if listener is not None and listener.is_watching and listener.wants(key):
            self._add_event(Event(revision, sub, key, kv, False))

    def _add_event(self, event: Event) -> None:
        if len(self._events) < EVENTS_MAX:
            self._events.append(event)
        else:
            self._has_more_events = True

    def _change_lease(self, key: bytes, held: int, lease: int) -> None:
        """A key belongs to the lease of its last Put, or to none."""
        if held:
            self.leases.detach([key])
        if lease:
            self.leases.attach(key, lease)

    def delete(self, keys: list[bytes]) -> None:
        """keys: sorted and existing."""
        index, put = self.index, self._backend.put
        revision, first = index.main, index.written
        prefix = revision.to_bytes(8, "big") + b"_"
        tombstones = [prefix + sub.to_bytes(8, "big") + TOMBSTONE for sub in range(first, first + len(keys))]
        index.delete(keys, tombstones)
        index.written = first + len(keys)
        for key, tombstone in zip(keys, tombstones, strict=True):
            put(Bucket.KEY, tombstone, encode_tombstone(key))
        self.leases.detach(keys)
        listener = self.listener
        if listener is not None and listener.is_watching:
            mod = varint(revision)
            for sub, key in enumerate(keys, first):
                if self._has_more_events:
                    break
                if listener.wants(key):
                    self._add_event(Event(revision, sub, key, encode_deleted(key, mod), True))
