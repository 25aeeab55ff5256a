"""One change of one key, as watchers see it.

An event is encoded once, whoever watches it: as field 11 of a WatchResponse, without and with the KeyValue that it replaced.
"""

from __future__ import annotations

from typing import Final

from tercet.mvcc.encoding import encode_deleted, encode_tombstone, is_tombstone, key_of, main_of, sub_of
from tercet.proto.wire import varint

_EVENTS: Final = b"\x5a"  # field 11 of WatchResponse, an mvccpb.Event
_DELETE: Final = b"\x08\x01"
_KV: Final = b"\x12"
_PREV_KV: Final = b"\x1a"
EVENTS_MAX: Final = 1000
"""Of one request, to be kept; what a larger request wrote is read from the backend."""

_OVERHEAD_BYTES: Final = 200  # of the objects of one event


class Event:
    """A put or a delete: write number `sub` of its revision.

    kv: the encoded KeyValue of the watch event; of a delete, key and mod_revision alone.
    """

    __slots__ = ("_encoded", "_encoded_with_previous", "is_delete", "key", "kv", "revision", "sub")

    def __init__(self, revision: int, sub: int, key: bytes, kv: bytes, is_delete: bool) -> None:
        self.revision = revision
        self.sub = sub
        self.key = key
        self.kv = kv
        self.is_delete = is_delete
        self._encoded: bytes | None = None
        self._encoded_with_previous: bytes | None = None

    @property
    def size_bytes(self) -> int:
        """Memory that it holds, about."""
        return len(self.kv) + _OVERHEAD_BYTES

    def encoded(self) -> bytes:
        """The event as a field of a WatchResponse."""
        encoded = self._encoded
        if encoded is None:
            encoded = self._encoded = self._encode(b"")
        return encoded

    @property
    def encoded_with_previous(self) -> bytes | None:
        """The event with prev_kv; None until `add_previous`."""
        return self._encoded_with_previous

    def add_previous(self, previous: bytes | None) -> bytes:
        """Encode the event with prev_kv: the encoded KeyValue at the revision before, None if the key did not exist."""
        if previous is None:
            encoded = self.encoded()
        else:
            encoded = self._encode(b"%b%b%b" % (_PREV_KV, varint(len(previous)), previous))
        self._encoded_with_previous = encoded
        return encoded

    @property
    def is_create(self) -> bool:
        """Whether a put created the key: it has no prev_kv, even if the same Txn deleted the key before (etcd)."""
        if self.is_delete:
            return False
        kv, start = self.kv, len(encode_tombstone(self.key)) + 1  # behind the tag of create_revision
        revision = varint(self.revision)
        return kv[start : start + len(revision)] == revision

    def _encode(self, tail: bytes) -> bytes:
        kv = self.kv
        length = varint(len(kv))
        content = len(kv) + len(length) + 1 + len(tail) + (2 if self.is_delete else 0)
        return b"".join((_EVENTS, varint(content), _DELETE if self.is_delete else b"", _KV, length, kv, tail))


class WriteListener:
    """What a store tells about the requests that it applies."""

    __slots__ = ()

    @property
    def is_watching(self) -> bool:
        """Whether any event may be wanted."""
        raise NotImplementedError

    def wants(self, key: bytes) -> bool:
        """Whether the events of `key` must be reported."""
        raise NotImplementedError

    def completed(self, events: list[Event] | None) -> None:
        """A request that wrote is complete. events: of the keys that are wanted; None: there are more than EVENTS_MAX."""
        raise NotImplementedError


def stored_event(stored_key: bytes, value: bytes) -> Event:
    """The event of a record of the backend's `key` bucket."""
    revision, sub = main_of(stored_key), sub_of(stored_key)
    key = key_of(value)
    if is_tombstone(stored_key):
        return Event(revision, sub, key, encode_deleted(key, varint(revision)), True)
    return Event(revision, sub, key, value, False)
