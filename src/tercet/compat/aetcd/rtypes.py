"""Results. Their fields are etcd's; protobuf messages stay behind `kvs` and `prev_kvs` of ranges."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

from tercet.proto import kv_pb2


class _Slotted:
    """Shows its fields. `__slots__` are lists in etcd's order, as in the original."""

    __slots__: list[str] = []

    def __repr__(self) -> str:
        return f"{type(self).__name__}[{', '.join(f'{name}={getattr(self, name)}' for name in self.__slots__)}]"


class ResponseHeader(_Slotted):
    """revision: of the store when the request was applied; in a progress notification, all events up to it have been sent."""

    __slots__ = ["cluster_id", "member_id", "revision", "raft_term"]  # noqa: RUF023

    def __init__(self, header: Any) -> None:
        self.cluster_id: int = header.cluster_id
        self.member_id: int = header.member_id
        self.revision: int = header.revision
        self.raft_term: int = header.raft_term


class KeyValue(_Slotted):
    """version: the number of puts since the key was created. lease: the ID, 0 for none."""

    __slots__ = ["key", "value", "create_revision", "mod_revision", "version", "lease"]  # noqa: RUF023

    def __init__(self, keyvalue: Any) -> None:
        self.key: bytes = keyvalue.key
        self.value: bytes = keyvalue.value
        self.create_revision: int = keyvalue.create_revision
        self.mod_revision: int = keyvalue.mod_revision
        self.version: int = keyvalue.version
        self.lease: int = keyvalue.lease


class Get(KeyValue):
    """A key that was read."""

    __slots__ = ["header", "key", "value", "create_revision", "mod_revision", "version", "lease"]  # noqa: RUF023

    def __init__(self, header: Any, keyvalue: Any) -> None:
        self.header = ResponseHeader(header)
        super().__init__(keyvalue)


class GetRange:
    """The keys of a range, as a sequence of KeyValue; true if `count` > 0. more: whether `limit` has cut it."""

    def __init__(self, header: Any, kvs: Any, more: bool, count: int) -> None:
        self.header = ResponseHeader(header)
        self.kvs = kvs
        self.more = more
        self.count = count

    def __bool__(self) -> bool:
        return self.count > 0

    def __len__(self) -> int:
        return len(self.kvs)

    def __iter__(self) -> Iterator[KeyValue]:
        return map(KeyValue, self.kvs)

    def __getitem__(self, index: int) -> KeyValue:
        return KeyValue(self.kvs[index])

    def __repr__(self) -> str:
        return f"{type(self).__name__}[header={self.header!r}, more={self.more!r}, count={self.count!r}]"


class Put(_Slotted):
    """prev_kv: the pair before, if it was asked for."""

    __slots__ = ["header", "prev_kv"]

    def __init__(self, header: Any, prev_kv: Any = None) -> None:
        self.header = ResponseHeader(header)
        self.prev_kv = KeyValue(prev_kv) if prev_kv else None


class Delete(_Slotted):
    """A key that was deleted."""

    __slots__ = ["header", "deleted", "prev_kv"]  # noqa: RUF023

    def __init__(self, header: Any, deleted: int, prev_kv: Any = None) -> None:
        self.header = ResponseHeader(header)
        self.deleted = deleted
        self.prev_kv = KeyValue(prev_kv) if prev_kv else None


class DeleteRange:
    """The deleted pairs, as a sequence of KeyValue, if they were asked for; true if `deleted` > 0."""

    def __init__(self, header: Any, deleted: int, prev_kvs: Any) -> None:
        self.header = ResponseHeader(header)
        self.deleted = deleted
        self.prev_kvs = prev_kvs

    def __bool__(self) -> bool:
        return self.deleted > 0

    def __len__(self) -> int:
        return len(self.prev_kvs)

    def __iter__(self) -> Iterator[KeyValue]:
        return map(KeyValue, self.prev_kvs)

    def __getitem__(self, index: int) -> KeyValue:
        return KeyValue(self.prev_kvs[index])

    def __repr__(self) -> str:
        return f"{type(self).__name__}[header={self.header!r}, deleted={self.deleted!r}]"


class EventKind(str, enum.Enum):  # noqa: UP042, its str() is EventKind.PUT, that of a StrEnum is PUT
    """What happened to the key."""

    PUT = "PUT"
    DELETE = "DELETE"


class Event(_Slotted):
    """kind: 'PUT' or 'DELETE', equal to a member of EventKind. prev_kv: if the watch asks for it."""

    __slots__ = ["kind", "kv", "prev_kv"]

    def __init__(self, kind: int, kv: Any, prev_kv: Any = None) -> None:
        self.kind: str = kv_pb2.Event.EventType.Name(kind)  # type: ignore[arg-type]
        self.kv = KeyValue(kv)
        self.prev_kv = KeyValue(prev_kv) if prev_kv else None


class Watch:
    """`async for event in await client.watch(b"key")`, until `cancel()`."""

    def __init__(
        self, iterator: Callable[[], AsyncIterator[Event]], cancel_func: Callable[[], Awaitable[None]], watch_id: int
    ) -> None:
        self._iterator = iterator
        self._cancel = cancel_func
        self.watch_id = watch_id

    def __aiter__(self) -> AsyncIterator[Event]:
        return self._iterator()

    async def cancel(self) -> None:
        """End the watch, and the iteration."""
        await self._cancel()

    def __repr__(self) -> str:
        return f"Watch[watch_id={self.watch_id!r}]"
