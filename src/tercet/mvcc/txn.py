"""What does a txn do? Decide, check, then run; nothing is written before all that can be refused has been.

Decide: every comparison, those of nested txns too, sees the state before the txn, so the branches are known at once and
become a plan. Check: the operations of the plan, in order; the first that cannot be done refuses the whole txn with its
error. Run: in order, each operation seeing the writes of those before it; all writes share one revision.
Source: etcd server/etcdserver/txn/txn.go, by its behaviour. Departs in: a Put that keeps the value or lease of a key which
an earlier delete of the same txn removes is refused (etcd ends the process).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, TypeVar

from tercet.errors import COMPACTED, FUTURE_REVISION, KEY_NOT_FOUND, LEASE_NOT_FOUND
from tercet.mvcc.ranges import Ranges, bounds
from tercet.mvcc.write_txn import WriteTxn
from tercet.proto import kv_pb2, rpc_pb2
from tercet.proto.wire import paste_field, varint

_Compare = rpc_pb2.Compare
_Comparable = TypeVar("_Comparable", int, bytes)
_SUCCEEDED = b"\x10\x01"
_EMPTY_HEADER = b"\n\0"  # a nested answer has one with nothing in it
_RESPONSES = 3
_RANGE, _PUT, _DELETE, _TXN = 1, 2, 3, 4  # numbers in ResponseOp


class Plan(NamedTuple):
    """The branch taken; a nested txn in it is a plan of its own."""

    succeeded: bool
    steps: list[rpc_pb2.RequestOp | Plan]


def decide(ranges: Ranges, request: rpc_pb2.TxnRequest) -> Plan:
    """Evaluate all comparisons that matter."""
    succeeded = all(_holds(ranges, compare) for compare in request.compare)
    branch = request.success if succeeded else request.failure
    return Plan(succeeded, [decide(ranges, op.request_txn) if op.HasField("request_txn") else op for op in branch])


def check(write: WriteTxn, plan: Plan, compact_revision: int) -> None:
    """Raises FUTURE_REVISION, COMPACTED, LEASE_NOT_FOUND or KEY_NOT_FOUND; judged by the state before the txn."""
    deleted: list[tuple[bytes, bytes | None]] = []
    for op in _operations(plan):
        if op.HasField("request_range"):
            asked = op.request_range.revision
            if asked > write.revision:
                raise FUTURE_REVISION
            if asked and asked < compact_revision:
                raise COMPACTED
        elif op.HasField("request_put"):
            _check_put(write, op.request_put, deleted)
        elif op.HasField("request_delete_range"):
            deleted.append(bounds(op.request_delete_range.key, op.request_delete_range.range_end))


def _check_put(write: WriteTxn, put: rpc_pb2.PutRequest, deleted: list[tuple[bytes, bytes | None]]) -> None:
    if put.lease and not write.leases.lease_exists(put.lease):
        raise LEASE_NOT_FOUND
    if put.ignore_value or put.ignore_lease:
        key = put.key
        if key not in write.index.current:
            raise KEY_NOT_FOUND
        if any(start <= key and (end is None or key < end) for start, end in deleted):
            raise KEY_NOT_FOUND


def _operations(plan: Plan) -> Iterator[rpc_pb2.RequestOp]:
    for step in plan.steps:
        if isinstance(step, Plan):
            yield from _operations(step)
        else:
            yield step


def run(write: WriteTxn, plan: Plan, compact_revision: int) -> bytes:
    """Carry out a plan that was checked. The body of a TxnResponse, without its header."""
    parts = [_SUCCEEDED] if plan.succeeded else []
    for step in plan.steps:
        if isinstance(step, Plan):
            answer = paste_field(_TXN, _EMPTY_HEADER + run(write, step, compact_revision))
        else:
            answer = _run_operation(write, step, compact_revision)
        parts.append(paste_field(_RESPONSES, answer))
    return b"".join(parts)


def _run_operation(write: WriteTxn, op: rpc_pb2.RequestOp, compact_revision: int) -> bytes:
    """A ResponseOp. Its header tells only the revision: the new one, from the first change on."""
    if op.HasField("request_range"):
        number, body = _RANGE, write.range(op.request_range, compact_revision)
    elif op.HasField("request_put"):
        number, body = _PUT, write.put(op.request_put)
    elif op.HasField("request_delete_range"):
        number, body = _DELETE, write.delete_range(op.request_delete_range)
    else:
        return b""  # an operation of no kind: refused at the door, but a log may hold one
    return paste_field(number, paste_field(1, b"\x18" + varint(write.revision)) + body)


def _holds(ranges: Ranges, compare: rpc_pb2.Compare) -> bool:
    """Whether every key that `compare` speaks of satisfies it; where there is none, an absent key must."""
    if not compare.range_end:
        return _key_holds(ranges, compare, compare.key)
    start, end = bounds(compare.key, compare.range_end)
    if ranges.index.count(start, end) == 0:
        return _absent_holds(compare)
    return all(_key_holds(ranges, compare, key) for key in ranges.index.keys(start, end))


def _key_holds(ranges: Ranges, compare: rpc_pb2.Compare, key: bytes) -> bool:
    index = ranges.index
    if key not in index.current:
        return _absent_holds(compare)
    match compare.target:
        case _Compare.VERSION:
            return _satisfies(compare.result, index.version(key), compare.version)
        case _Compare.CREATE:
            return _satisfies(compare.result, index.create_revision(key), compare.create_revision)
        case _Compare.MOD:
            return _satisfies(compare.result, index.mod_revision(key), compare.mod_revision)
        case _Compare.VALUE:
            return _satisfies(compare.result, _stored(ranges, key).value, compare.value)
        case _Compare.LEASE:
            return _satisfies(compare.result, _stored(ranges, key).lease, compare.lease)
        case _:
            return _satisfies(compare.result, 0, 0)  # a target of the future compares as equal


def _absent_holds(compare: rpc_pb2.Compare) -> bool:
    """An absent key has all zeros; but no value, not even an empty one, so nothing can be said of it."""
    match compare.target:
        case _Compare.VERSION:
            return _satisfies(compare.result, 0, compare.version)
        case _Compare.CREATE:
            return _satisfies(compare.result, 0, compare.create_revision)
        case _Compare.MOD:
            return _satisfies(compare.result, 0, compare.mod_revision)
        case _Compare.VALUE:
            return False
        case _Compare.LEASE:
            return _satisfies(compare.result, 0, compare.lease)
        case _:
            return _satisfies(compare.result, 0, 0)


def _satisfies(result: int, stored: _Comparable, given: _Comparable) -> bool:
    match result:
        case _Compare.EQUAL:
            return stored == given
        case _Compare.GREATER:
            return stored > given
        case _Compare.LESS:
            return stored < given
        case _Compare.NOT_EQUAL:
            return stored != given
        case _:
            return True


def _stored(ranges: Ranges, key: bytes) -> kv_pb2.KeyValue:
    return kv_pb2.KeyValue.FromString(ranges.get_current(key) or b"")
