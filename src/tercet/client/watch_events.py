"""What a watch yields: the changes of one revision, as frozen dataclasses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tercet.client.errors import Compacted, PermissionDenied, Rewound, TercetError, typed
from tercet.client.key_space import KeySpace
from tercet.client.quick_init import maker, quick_init
from tercet.client.results import KV, Header
from tercet.client.watch_set import WatchRewound
from tercet.errors import COMPACTED, Code, StatusError
from tercet.proto import kv_pb2, rpc_pb2


@quick_init
@dataclass(frozen=True, slots=True)
class Event:
    """One change of one key. Of a delete, `kv` has only the key and, as mod_revision, the revision of the delete.

    prev_kv: what the key held before, if it was asked for, existed, and is not compacted.
    """

    is_delete: bool
    kv: KV
    prev_kv: KV | None

    @classmethod
    def of(cls, raw: kv_pb2.Event, keys: KeySpace) -> Event:
        prev_kv = KV.of(raw.prev_kv, keys) if raw.HasField("prev_kv") else None
        return _make_event(raw.type == kv_pb2.Event.DELETE, KV.of(raw.kv, keys), prev_kv)

    @property
    def key(self) -> bytes:
        return self.kv.key

    @property
    def value(self) -> bytes:
        """b"" for a delete."""
        return self.kv.value

    @property
    def is_create(self) -> bool:
        """A put of a key that did not exist."""
        return not self.is_delete and self.kv.create_revision == self.kv.mod_revision


@quick_init
@dataclass(frozen=True, slots=True)
class WatchBatch:
    """All changes of one revision that a watch asked for, in the order in which the transaction made them.

    Without events it reports progress: every change up to and including `revision` has been delivered.
    header.revision: the store's when the server sent the batch; not below `revision`.
    """

    revision: int
    events: tuple[Event, ...]
    header: Header

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)


_make_event = maker(Event)
_make_batch = maker(WatchBatch)


def batches(response: rpc_pb2.WatchResponse, keys: KeySpace) -> list[WatchBatch]:
    """One batch for each revision; a server sends several in one response."""
    header = Header.of(response.header)
    if not response.events:
        return [WatchBatch(header.revision, (), header)]
    found: list[WatchBatch] = []
    events: list[Event] = []
    revision = 0
    for raw in response.events:
        event = Event.of(raw, keys)
        mod_revision = event.kv.mod_revision
        if mod_revision != revision and events:
            found.append(_make_batch(revision, tuple(events), header))
            events = []
        revision = mod_revision
        events.append(event)
    found.append(_make_batch(revision, tuple(events), header))
    return found


def end_of_watch(response: rpc_pb2.WatchResponse, error: StatusError | None) -> TercetError:
    """The exception for a watch's last response. error: that of the stream, if it ended the watch."""
    if isinstance(error, WatchRewound):
        return Rewound(error.message, error.code)
    if error is not None:
        return typed(error)
    if response.compact_revision:
        return Compacted(COMPACTED.message, COMPACTED.code, response.compact_revision)
    head, _, text = response.cancel_reason.partition(" desc = ")  # Go's text of a gRPC status, or a bare text
    found = typed(StatusError(_CODES.get(head.removeprefix("rpc error: code = "), Code.UNKNOWN), text or head))
    if type(found) is TercetError and found.message == _PERMISSION_DENIED:
        return PermissionDenied(found.message, Code.PERMISSION_DENIED)
    return found


_PERMISSION_DENIED = "etcdserver: permission denied"
_CODES = {
    "InvalidArgument": Code.INVALID_ARGUMENT,
    "PermissionDenied": Code.PERMISSION_DENIED,
    "Unauthenticated": Code.UNAUTHENTICATED,
    "OutOfRange": Code.OUT_OF_RANGE,
    "Unavailable": Code.UNAVAILABLE,
}
