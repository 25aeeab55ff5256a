"""Small requests: a Range of one key, a Put, and a Txn of a few comparisons of single keys, then puts and deletes of them.

A fast path (bench: reads, put, compare and put) for what locks, leases and Kubernetes send most. The requests are read from
their bytes once and applied at once: a Txn in a third of the time of the general path (txn_check.py, compare.py, txn.py). The
readers take only what protobuf would write for a request without a fault, so that its bytes can be proposed as they are; all
else, faults too, takes the general path. So does a Txn whose branch turns out to read (`SmallTxn.apply`).
tests/mvcc/test_small_requests.py compares the two paths.
"""

from __future__ import annotations

from typing import Any, Final

from tercet.errors import LEASE_NOT_FOUND
from tercet.mvcc.compare import Condition, Conditions
from tercet.mvcc.delete import deleted_field
from tercet.mvcc.work import Budget
from tercet.mvcc.write_txn import WriteTxn
from tercet.proto import rpc_pb2
from tercet.proto.wire import varint

BYTES_MAX: Final = 16 << 10
"""Of a small request: two bytes tell each length in it."""
LIST_MAX: Final = 4
"""Comparisons of a small Txn, and operations of a branch: each entry of the log counts as much as a put (replica/apply.py)."""

# The tags of fields, number << 3 | wire type; those in TxnRequest first.
_COMPARE: Final = 0x0A
_SUCCESS: Final = 0x12
_FAILURE: Final = 0x1A
_RANGE: Final = 0x0A  # in RequestOp
_PUT: Final = 0x12
_DELETE: Final = 0x1A
_KEY: Final = 0x0A  # in RangeRequest, PutRequest and DeleteRangeRequest
_VALUE: Final = 0x12  # in PutRequest
_LEASE: Final = 0x18
_RESULT: Final = 0x08  # in Compare
_TARGET: Final = 0x10
_COMPARED_KEY: Final = 0x1A
_COMPARED_VALUE: Final = 0x3A
_COMPARED_NUMBERS: Final = {0x20: 0, 0x28: 1, 0x30: 2, 0x40: 4}  # tags in Compare, and the targets that they are for
_SERIALIZABLE: Final = b"\x38\x01"  # a whole field of RangeRequest
_VALUE_TARGET: Final = 3
_RESULT_MAX: Final = 3
_TARGET_MAX: Final = 4
_SUCCEEDED: Final = b"\x10\x01"
_NOTHING: Final = (0, 0)  # no message or number of the kind that is expected


class SmallRequest:
    """body: its canonical encoding."""

    __slots__ = ("body",)

    def __init__(self, body: bytes) -> None:
        self.body = body

    def request(self) -> Any:
        """The same as a protobuf message, for the general path."""
        raise NotImplementedError


class SmallRange(SmallRequest):
    """A Range of one key, as it is now."""

    __slots__ = ("is_serializable", "key")

    def __init__(self, body: bytes, key: bytes, is_serializable: bool) -> None:
        super().__init__(body)
        self.key = key
        self.is_serializable = is_serializable

    def request(self) -> rpc_pb2.RangeRequest:
        return rpc_pb2.RangeRequest.FromString(self.body)


class SmallPut(SmallRequest):
    """A Put of a value, perhaps with a lease."""

    __slots__ = ("key", "lease", "value")

    def __init__(self, body: bytes, key: bytes, value: bytes, lease: int) -> None:
        super().__init__(body)
        self.key = key
        self.value = value
        self.lease = lease

    def request(self) -> rpc_pb2.PutRequest:
        return rpc_pb2.PutRequest.FromString(self.body)

    def cost(self, put_cost: int) -> int:
        """What the quota counts: `put_cost`, and key and value."""
        return put_cost + len(self.key) + len(self.value)

    def apply(self, write: WriteTxn) -> None:
        """Raises LEASE_NOT_FOUND; then nothing was written."""
        if self.lease and not write.leases.lease_exists(self.lease):
            raise LEASE_NOT_FOUND
        write.put_value(self.key, self.value, self.lease)
        write.end()


class SmallOp:
    """A range, put or delete of one key. Of a range nothing but that is known."""

    __slots__ = ("key", "kind", "lease", "value")

    def __init__(self, kind: int, key: bytes, value: bytes, lease: int) -> None:
        self.kind = kind
        self.key = key
        self.value = value
        self.lease = lease


class SmallTxn(SmallRequest):
    """longest: of its three lists."""

    __slots__ = ("conditions", "failure", "longest", "success")

    def __init__(self, body: bytes) -> None:
        super().__init__(body)
        self.conditions: list[Conditions] = []
        self.success: list[SmallOp] = []
        self.failure: list[SmallOp] = []
        self.longest = 0

    def request(self) -> rpc_pb2.TxnRequest:
        return rpc_pb2.TxnRequest.FromString(self.body)

    def cost(self, put_cost: int) -> int:
        """What the quota counts: see TxnCheck."""
        return max(_cost(self.success, put_cost), _cost(self.failure, put_cost))

    def apply(self, write: WriteTxn) -> bytes | None:
        """Returns the response without its header. None: it reads; nothing was written. Raises LEASE_NOT_FOUND."""
        before = write.read()
        budget = Budget(0)
        succeeded = True
        for conditions in self.conditions:
            conditions.step(before, budget)
            if not conditions.hold:
                succeeded = False
                break
        ops = self.success if succeeded else self.failure
        for op in ops:
            if op.kind == _RANGE:
                return None
            if op.lease and not write.leases.lease_exists(op.lease):
                raise LEASE_NOT_FOUND
        response = _SUCCEEDED if succeeded else b""
        for op in ops:
            if op.kind == _PUT:
                write.put_value(op.key, op.value, op.lease)
                response += _response(_PUT, write.revision, b"")
            else:
                write.count_deletes(1)
                exists = op.key in write.index
                if exists:
                    write.delete([op.key])
                response += _response(_DELETE, write.revision, deleted_field(int(exists)))
        write.end()
        return response


def _response(kind: int, revision: int, body: bytes) -> bytes:
    """A ResponseOp in a TxnResponse. Its header holds the revision alone, which is the new one from the first write on."""
    revision_field = b"\x18" + varint(revision)
    size = len(revision_field) + len(body)
    return bytes((0x1A, size + 4, kind, size + 2, 0x0A, len(revision_field))) + revision_field + body


def _cost(ops: list[SmallOp], put_cost: int) -> int:
    return sum(put_cost + len(op.key) + len(op.value) for op in ops if op.kind == _PUT)


def read_small_range(body: bytes) -> SmallRange | None:
    """None for any other Range, and for bytes that are none."""
    if not body or len(body) >= BYTES_MAX or body[0] != _KEY:
        return None
    start, at = _content(body, 1, len(body))
    key = body[start:at]
    rest = body[at:]
    if not start or not key or (rest and rest != _SERIALIZABLE):
        return None
    return SmallRange(body, key, bool(rest))


def read_small_put(body: bytes) -> SmallPut | None:
    """None for any other Put, and for bytes that are none."""
    if len(body) >= BYTES_MAX:
        return None
    op = _read_put(body, 0, len(body))
    return None if op is None else SmallPut(body, op.key, op.value, op.lease)


def read_small_txn(body: bytes) -> SmallTxn | None:
    """None for any other Txn, and for bytes that are none."""
    if len(body) >= BYTES_MAX:
        return None
    txn = SmallTxn(body)
    at, end, last = 0, len(body), 0
    while at < end:
        tag = body[at]
        start, at = _content(body, at + 1, end)
        if tag < last or not start:
            return None
        last = tag
        if tag == _COMPARE:
            conditions = _read_compare(body, start, at)
            if conditions is None:
                return None
            txn.conditions.append(conditions)
            length = len(txn.conditions)
        elif tag in (_SUCCESS, _FAILURE):
            op = _read_op(body, start, at)
            if op is None:
                return None
            ops = txn.success if tag == _SUCCESS else txn.failure
            ops.append(op)
            length = len(ops)
        else:
            return None
        if length > LIST_MAX:
            return None
        txn.longest = max(txn.longest, length)
    writes = 0
    for ops in (txn.success, txn.failure):
        keys = [op.key for op in ops if op.kind != _RANGE]
        if len(set(keys)) < len(keys):
            return None  # perhaps a fault: a revision holds one change of a key
        writes += len(keys)
    return txn if writes else None


def _read_compare(body: bytes, at: int, end: int) -> Conditions | None:
    result = target = number = 0
    key = value = b""
    compared = -1  # the target whose number or value it has
    last = 0
    while at < end:
        tag = body[at]
        if tag <= last or compared >= 0:
            return None
        last = tag
        if tag in (_COMPARED_KEY, _COMPARED_VALUE):
            start, at = _content(body, at + 1, end)
            if not start:
                return None
            if tag == _COMPARED_KEY:
                key = body[start:at]
            else:
                value, compared = body[start:at], _VALUE_TARGET
            continue
        found, at = _number(body, at + 1, end)
        if not at:
            return None
        if tag == _RESULT and 0 < found <= _RESULT_MAX:
            result = found
        elif tag == _TARGET and 0 < found <= _TARGET_MAX:
            target = found
        elif (compared := _COMPARED_NUMBERS.get(tag, -1)) >= 0:
            number = found
        else:
            return None
    if not key:
        return None
    conditions = Conditions(key, b"")
    conditions.add(Condition(target, result, number if compared == target else 0, value if compared == target else b""))
    return conditions


def _read_op(body: bytes, at: int, end: int) -> SmallOp | None:
    if at == end:
        return None
    kind = body[at]
    at, stop = _content(body, at + 1, end)
    if not at or stop != end:
        return None
    if kind == _PUT:
        return _read_put(body, at, end)
    if kind not in (_RANGE, _DELETE) or at == end or body[at] != _KEY:
        return None
    start, at = _content(body, at + 1, end)
    return SmallOp(kind, body[start:at], b"", 0) if 0 < start < at == end else None


def _read_put(body: bytes, at: int, end: int) -> SmallOp | None:
    if at == end or body[at] != _KEY:
        return None
    start, at = _content(body, at + 1, end)
    key, value, lease = body[start:at], b"", 0
    if not key:
        return None
    if at < end and body[at] == _VALUE:
        start, at = _content(body, at + 1, end)
        value = body[start:at]
        if not value:
            return None
    if at < end and body[at] == _LEASE:
        lease, at = _number(body, at + 1, end)
        if not lease:
            return None
    return SmallOp(_PUT, key, value, lease) if at == end else None


def _content(body: bytes, at: int, end: int) -> tuple[int, int]:
    """Where the content begins and ends whose length is at `at`; `_NOTHING` if it does not fit."""
    if at >= end:
        return _NOTHING
    size = body[at]
    at += 1
    if size >= 0x80:
        if at >= end or not 0 < body[at] < 0x80:
            return _NOTHING
        size = size & 0x7F | body[at] << 7
        at += 1
    return (at, at + size) if at + size <= end else _NOTHING


def _number(body: bytes, at: int, end: int) -> tuple[int, int]:
    """The varint at `at`, and where it ends; `_NOTHING` if it is negative or longer than need be."""
    number = shift = 0
    while at < end and shift < 63:
        byte = body[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (number, at) if byte or not shift else _NOTHING
        shift += 7
    return _NOTHING
