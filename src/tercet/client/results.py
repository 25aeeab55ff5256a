"""What calls return: frozen dataclasses, made from protobuf messages, which stay available as `raw`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tercet.client.key_space import KeySpace
from tercet.client.quick_init import maker, quick_init
from tercet.proto import kv_pb2, rpc_pb2


@quick_init
@dataclass(frozen=True, slots=True)
class Header:
    """Of every answer. revision: the store's when the request was served; term: Raft's."""

    cluster_id: int
    member_id: int
    revision: int
    term: int

    @classmethod
    def of(cls, raw: rpc_pb2.ResponseHeader) -> Header:
        return _make_header(raw.cluster_id, raw.member_id, raw.revision, raw.raft_term)


_make_header = maker(Header)


@quick_init
@dataclass(frozen=True, slots=True)
class KV:
    """One key at one revision. version: writes since its creation; lease: the ID of its lease, 0 for none."""

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    version: int
    lease: int
    raw: kv_pb2.KeyValue = field(repr=False, compare=False)

    @classmethod
    def of(cls, raw: kv_pb2.KeyValue, keys: KeySpace) -> KV:
        key = keys.strip(raw.key) if keys.namespace else raw.key
        return make_kv(key, raw.value, raw.create_revision, raw.mod_revision, raw.version, raw.lease, raw)

    def text(self, encoding: str = "utf-8") -> str:
        """The value as text. Raises UnicodeDecodeError."""
        return self.value.decode(encoding)

    def json(self) -> Any:
        """The value parsed as JSON. Raises ValueError."""
        return json.loads(self.value)


make_kv = maker(KV)


@dataclass(frozen=True, slots=True)
class Range:
    """Several keys at one revision. more: the limit left keys out; count: all that the range holds."""

    header: Header
    kvs: tuple[KV, ...]
    more: bool
    count: int
    raw: rpc_pb2.RangeResponse = field(repr=False, compare=False)

    @classmethod
    def of(cls, raw: rpc_pb2.RangeResponse, keys: KeySpace) -> Range:
        return cls(Header.of(raw.header), tuple(KV.of(kv, keys) for kv in raw.kvs), raw.more, raw.count, raw)

    def __iter__(self) -> Iterator[KV]:
        return iter(self.kvs)

    def __len__(self) -> int:
        return len(self.kvs)

    def __getitem__(self, index: int) -> KV:
        return self.kvs[index]


@quick_init
@dataclass(frozen=True, slots=True)
class Put:
    """header.revision: that of the put. prev_kv: what the key held, if it was asked for and the key existed."""

    header: Header
    prev_kv: KV | None
    raw: rpc_pb2.PutResponse = field(repr=False, compare=False)

    @classmethod
    def of(cls, raw: rpc_pb2.PutResponse, keys: KeySpace) -> Put:
        prev_kv = KV.of(raw.prev_kv, keys) if raw.HasField("prev_kv") else None
        return _make_put(Header.of(raw.header), prev_kv, raw)


_make_put = maker(Put)


@dataclass(frozen=True, slots=True)
class Delete:
    """deleted: the number of keys; true if there was one. prev_kvs: what they held, if it was asked for."""

    header: Header
    deleted: int
    prev_kvs: tuple[KV, ...]
    raw: rpc_pb2.DeleteRangeResponse = field(repr=False, compare=False)

    @classmethod
    def of(cls, raw: rpc_pb2.DeleteRangeResponse, keys: KeySpace) -> Delete:
        return cls(Header.of(raw.header), raw.deleted, tuple(KV.of(kv, keys) for kv in raw.prev_kvs), raw)

    def __bool__(self) -> bool:
        return self.deleted > 0


@dataclass(frozen=True, slots=True)
class Txn:
    """True if the compares held. results: of the operations of the branch that ran, in their order."""

    header: Header
    succeeded: bool
    results: tuple[Range | Put | Delete | Txn, ...]
    raw: rpc_pb2.TxnResponse = field(repr=False, compare=False)

    @classmethod
    def of(cls, raw: rpc_pb2.TxnResponse, keys: KeySpace) -> Txn:
        return cls(Header.of(raw.header), raw.succeeded, tuple(_result(one, keys) for one in raw.responses), raw)

    def __bool__(self) -> bool:
        return self.succeeded

    def __getitem__(self, index: int) -> Range | Put | Delete | Txn:
        return self.results[index]


def _result(raw: rpc_pb2.ResponseOp, keys: KeySpace) -> Range | Put | Delete | Txn:
    kind = raw.WhichOneof("response")
    if kind == "response_range":
        return Range.of(raw.response_range, keys)
    if kind == "response_put":
        return Put.of(raw.response_put, keys)
    if kind == "response_delete_range":
        return Delete.of(raw.response_delete_range, keys)
    return Txn.of(raw.response_txn, keys)
