"""The parts of a transaction: compares, and the operations of its branches.

client.value("k") == b"1"           a Compare, not a bool
client.mod_revision("k") <= 7
client.put_op("k", b"2")            an Operation
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, SupportsInt

from tercet.client.errors import InvalidArgument
from tercet.client.key_space import KeySpace, Text, to_bytes
from tercet.errors import Code
from tercet.proto import rpc_pb2

_Target = rpc_pb2.Compare.CompareTarget
_Result = rpc_pb2.Compare.CompareResult


class HasLeaseId(Protocol):
    """A lease, as the client's own."""

    @property
    def id(self) -> int: ...


LeaseRef = int | HasLeaseId


def lease_id(lease: LeaseRef) -> int:
    if isinstance(lease, int):
        return lease
    if not hasattr(lease, "id"):
        raise TypeError(f"a lease is a number or has an id, not {type(lease).__name__}")
    return lease.id


class Guard(Protocol):
    """A lock that is held: `key` as its client sees it, and the fencing token, which is the key's create_revision.

    A guard with `is_held`, as the recipes have it, is asked first.
    """

    @property
    def key(self) -> bytes: ...

    @property
    def token(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Compare:
    """A condition on the current state of a key, or of each key of a range."""

    raw: rpc_pb2.Compare

    def __bool__(self) -> bool:
        raise TypeError("a compare has no value of its own: pass it to txn(when=[...])")


@dataclass(frozen=True, slots=True)
class Operation:
    """A put, get, delete or transaction inside a transaction. is_read: it changes nothing."""

    raw: rpc_pb2.RequestOp
    is_read: bool


class NumberOperand:
    """A number of a key, to be compared. A key that does not exist has 0 everywhere."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, key: bytes, range_end: bytes, target: _Target.ValueType, field: str) -> None:
        self._key = key
        self._range_end = range_end
        self._target = target
        self._field = field

    def __eq__(self, number: object) -> Compare:  # type: ignore[override]
        return self._compare(rpc_pb2.Compare.EQUAL, number)

    def __ne__(self, number: object) -> Compare:  # type: ignore[override]
        return self._compare(rpc_pb2.Compare.NOT_EQUAL, number)

    def __lt__(self, number: SupportsInt) -> Compare:
        return self._compare(rpc_pb2.Compare.LESS, number)

    def __gt__(self, number: SupportsInt) -> Compare:
        return self._compare(rpc_pb2.Compare.GREATER, number)

    def __le__(self, number: SupportsInt) -> Compare:
        return self._compare(rpc_pb2.Compare.LESS, int(number) + 1)

    def __ge__(self, number: SupportsInt) -> Compare:
        return self._compare(rpc_pb2.Compare.GREATER, int(number) - 1)

    def _compare(self, result: _Result.ValueType, number: object) -> Compare:
        if not isinstance(number, SupportsInt):
            raise TypeError(f"compared with a {type(number).__name__}, not with a number")
        raw = rpc_pb2.Compare(result=result, target=self._target, key=self._key, range_end=self._range_end)
        setattr(raw, self._field, int(number))
        return Compare(raw)


class ValueOperand:
    """A key's value, to be compared as bytes. A compare with the value of a key that does not exist fails."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, key: bytes, range_end: bytes) -> None:
        self._key = key
        self._range_end = range_end

    def __eq__(self, value: object) -> Compare:  # type: ignore[override]
        return self._compare(rpc_pb2.Compare.EQUAL, value)

    def __ne__(self, value: object) -> Compare:  # type: ignore[override]
        return self._compare(rpc_pb2.Compare.NOT_EQUAL, value)

    def __lt__(self, value: Text) -> Compare:
        return self._compare(rpc_pb2.Compare.LESS, value)

    def __gt__(self, value: Text) -> Compare:
        return self._compare(rpc_pb2.Compare.GREATER, value)

    def _compare(self, result: _Result.ValueType, value: object) -> Compare:
        if not isinstance(value, bytes | bytearray | memoryview | str):
            raise TypeError(f"values are bytes or str, not {type(value).__name__}")
        return Compare(
            rpc_pb2.Compare(
                result=result, target=rpc_pb2.Compare.VALUE, key=self._key, range_end=self._range_end, value=to_bytes(value)
            )
        )


class Operations:
    """Builders of compares and operations; the keys are in the client's namespace.

    Each compare is of one key, or with `prefix=True` of every key that begins with it: then all of them must satisfy it.
    """

    _keys: KeySpace

    def value(self, key: Text, *, prefix: bool = False) -> ValueOperand:
        return ValueOperand(*self._compared(key, prefix))

    def version(self, key: Text, *, prefix: bool = False) -> NumberOperand:
        return NumberOperand(*self._compared(key, prefix), rpc_pb2.Compare.VERSION, "version")

    def create_revision(self, key: Text, *, prefix: bool = False) -> NumberOperand:
        return NumberOperand(*self._compared(key, prefix), rpc_pb2.Compare.CREATE, "create_revision")

    def mod_revision(self, key: Text, *, prefix: bool = False) -> NumberOperand:
        return NumberOperand(*self._compared(key, prefix), rpc_pb2.Compare.MOD, "mod_revision")

    def lease_of(self, key: Text, *, prefix: bool = False) -> NumberOperand:
        return NumberOperand(*self._compared(key, prefix), rpc_pb2.Compare.LEASE, "lease")

    def get_op(
        self, key: Text, *, prefix: bool = False, limit: int = 0, keys_only: bool = False, count_only: bool = False
    ) -> Operation:
        first, end = self._compared(key, prefix)
        raw = rpc_pb2.RangeRequest(key=first, range_end=end, limit=limit, keys_only=keys_only, count_only=count_only)
        return Operation(rpc_pb2.RequestOp(request_range=raw), True)

    def put_op(self, key: Text, value: Text, *, lease: LeaseRef = 0, prev_kv: bool = False) -> Operation:
        raw = rpc_pb2.PutRequest(key=self._keys.key(key), value=to_bytes(value), lease=lease_id(lease), prev_kv=prev_kv)
        return Operation(rpc_pb2.RequestOp(request_put=raw), False)

    def delete_op(self, key: Text, *, prefix: bool = False, prev_kv: bool = False) -> Operation:
        first, end = self._compared(key, prefix)
        raw = rpc_pb2.DeleteRangeRequest(key=first, range_end=end, prev_kv=prev_kv)
        return Operation(rpc_pb2.RequestOp(request_delete_range=raw), False)

    def txn_op(
        self, when: Iterable[Compare] = (), then: Iterable[Operation] = (), else_: Iterable[Operation] = ()
    ) -> Operation:
        then, else_ = tuple(then), tuple(else_)
        request = txn_request(when, then, else_)
        return Operation(rpc_pb2.RequestOp(request_txn=request), all(one.is_read for one in (*then, *else_)))

    def _compared(self, key: Text, prefix: bool) -> tuple[bytes, bytes]:
        return self._keys.prefix(key) if prefix else (self._keys.key(key), b"")


def txn_request(when: Iterable[Compare], then: Iterable[Operation], else_: Iterable[Operation]) -> rpc_pb2.TxnRequest:
    compares, success, failure = tuple(when), tuple(then), tuple(else_)
    if not all(isinstance(one, Compare) for one in compares):
        raise InvalidArgument("`when` holds compares such as client.value(key) == b'1'", Code.INVALID_ARGUMENT)
    if not all(isinstance(one, Operation) for one in (*success, *failure)):
        raise InvalidArgument("`then` and `else_` hold operations such as client.put_op(key, b'1')", Code.INVALID_ARGUMENT)
    return rpc_pb2.TxnRequest(
        compare=[one.raw for one in compares], success=[one.raw for one in success], failure=[one.raw for one in failure]
    )
