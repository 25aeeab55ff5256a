"""What a watch yields: the changes of one revision, as frozen dataclasses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tercet.client.errors import Compacted, PermissionDenied, Rewound, TercetError, typed
from tercet.client.key_space import KeySpace
from tercet.client.quick_init import make_on_demand, maker, quick_init, unfrozen
from tercet.client.results import KV, Header, make_kv
from tercet.client.watch_set import WatchRewound
from tercet.errors import COMPACTED, Code, StatusError
from tercet.proto import kv_pb2, rpc_pb2


class _AtHand:
    """What an event has besides its fields. Most programs read no more, so that `kv` is made when it is first read.

    An event of which key and value are read then costs 1.1 us instead of 1.9, and one whose `kv` is read no more than before.
    """

    __slots__ = ("_raw", "key", "value")

    key: bytes
    value: bytes
    """b"" for a delete."""
    _raw: kv_pb2.KeyValue


@quick_init
@dataclass(frozen=True, slots=True)
class Event(_AtHand):
    """One change of one key. Of a delete, `kv` has only the key and, as mod_revision, the revision of the delete.

    prev_kv: what the key held before, if it was asked for, existed, and is not compacted.
    """

    is_delete: bool
    kv: KV
    prev_kv: KV | None

    if not TYPE_CHECKING:  # or every name would be an attribute

        def __getattr__(self, name: str) -> object:
            """Of an event that a program has made, `key` and `value` are not set."""
            if name not in ("key", "value"):
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
            return getattr(self.kv, name)

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


def _make_kv(event: Any) -> KV:
    raw = event._raw
    return make_kv(event.key, event.value, raw.create_revision, raw.mod_revision, raw.version, raw.lease, raw)


make_on_demand(Event, "kv", _make_kv)
_Event: Any = unfrozen(Event)
_make_batch = maker(WatchBatch)
_DELETE = kv_pb2.Event.DELETE


def batches(response: rpc_pb2.WatchResponse, keys: KeySpace, *, prev_kv: bool = False) -> Iterator[WatchBatch]:
    """One batch for each revision; a server sends several in one response. prev_kv: the watch asked for it.

    They are made while the iterator advances: where a thousand are made at once, garbage collections visit them all.
    """
    header = Header.of(response.header)
    if not response.events:
        yield WatchBatch(header.revision, (), header)
        return
    events: list[Event] = []
    revision = 0
    prefix = len(keys.namespace)
    for raw in response.events:
        kv = raw.kv
        mod_revision = kv.mod_revision
        if mod_revision != revision:
            if events:
                yield _make_batch(revision, tuple(events), header)
                events.clear()
            revision = mod_revision
        if _Event is None:
            events.append(Event(raw.type == _DELETE, KV.of(kv, keys), _prev_kv(raw, keys)))
            continue
        event = _Event()  # what a maker does, without a call for each event
        event.is_delete = raw.type == _DELETE
        event.kv = None
        event.prev_kv = _prev_kv(raw, keys) if prev_kv else None
        event.key = kv.key[prefix:]
        event.value = kv.value
        event._raw = kv
        event.__class__ = Event
        events.append(event)
    yield _make_batch(revision, tuple(events), header)


def _prev_kv(raw: kv_pb2.Event, keys: KeySpace) -> KV | None:
    return KV.of(raw.prev_kv, keys) if raw.HasField("prev_kv") else None


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
