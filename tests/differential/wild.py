"""Random requests built from the message descriptors: any field may have any value, preferably the extremes of its type."""

from __future__ import annotations

import random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from tercet.proto import rpc_pb2
from tests.mvcc.histories import operations

_KINDS = [rpc_pb2.PutRequest] * 3 + [rpc_pb2.RangeRequest] * 3 + [rpc_pb2.DeleteRangeRequest] + [rpc_pb2.TxnRequest] * 4
_BYTES = [b"", b"\0", b"\0\0", b"a", b"b", b"b\0", b"c", b"\xff", b"\xff\xff"]
_EXTREMES = [-(1 << 63), -(1 << 31) - 1, -2, -1, 1, 2, 3, 1 << 31, 1 << 53, (1 << 63) - 1]
_DEPTH_MAX = 3
_LARGEST_ENUM = 9


def wild_request(chance: random.Random, revision: int) -> Any:
    """A request that does not crash 3.5.1. revision: the newest one; numbers near it are likely."""
    while True:
        request = _wild(chance.choice(_KINDS), chance, revision, 0)
        if not (isinstance(request, rpc_pb2.TxnRequest) and _kills_etcd(request)):
            return request


def _wild(kind: Any, chance: random.Random, revision: int, depth: int) -> Any:
    message = kind()
    chosen: dict[str, str] = {one.name: chance.choice(one.fields).name for one in kind.DESCRIPTOR.oneofs}
    for field in kind.DESCRIPTOR.fields:
        if field.containing_oneof is not None and chosen[field.containing_oneof.name] != field.name:
            continue
        if field.message_type is not None:
            if depth < _DEPTH_MAX:
                _fill(message, field, chance, revision, depth)
        elif chance.random() < _probability(field):
            setattr(message, field.name, _scalar(field, chance, revision))
    return message


def _fill(message: Any, field: FieldDescriptor, chance: random.Random, revision: int, depth: int) -> None:
    made = field.message_type._concrete_class  # type: ignore[union-attr]
    if field.is_repeated:
        many = chance.choice([0, 1, 1, 2, 3])
        getattr(message, field.name).extend(_wild(made, chance, revision, depth + 1) for _ in range(many))
    else:
        getattr(message, field.name).CopyFrom(_wild(made, chance, revision, depth + 1))
        getattr(message, field.name).SetInParent()


def _probability(field: FieldDescriptor) -> float:
    """Low enough that a request has few errors, since the first one hides all others."""
    if field.name in ("key", "value", "result", "target") or field.containing_oneof is not None:
        return 0.97
    return {"range_end": 0.5, "lease": 0.05, "revision": 0.15}.get(field.name, 0.2)


def _scalar(field: FieldDescriptor, chance: random.Random, revision: int) -> Any:
    if field.type == FieldDescriptor.TYPE_BYTES:
        return chance.choice(_BYTES[1:] if field.name == "key" else _BYTES)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return chance.random() < 0.5
    if field.type == FieldDescriptor.TYPE_ENUM:
        valid = len(field.enum_type.values)  # type: ignore[union-attr]
        return chance.randrange(valid if field.name.startswith("sort_") else _LARGEST_ENUM)
    return chance.choice([*_EXTREMES, revision - 1, revision, revision + 1])


def _kills_etcd(request: rpc_pb2.TxnRequest) -> bool:
    """True if it deletes to the end of the keyspace and has a Put that keeps value or lease (see twins.py)."""
    ops = list(operations(request))
    deletes = any(op.request_delete_range.range_end == b"\0" for op in ops)
    return deletes and any(op.request_put.ignore_value or op.request_put.ignore_lease for op in ops)
