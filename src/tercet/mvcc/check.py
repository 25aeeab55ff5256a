"""What is refused before it is proposed: the shape of a request, with no look at the store.

Pure functions, one a request, each in etcd's order of checks: the first fault found is the one the client is told. What
depends on the state (leases, revisions, whether a key is there) is refused when the entry is applied, in `store` and `txn`.
Source: etcd server/etcdserver/api/v3rpc/key.go, by its behaviour.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from tercet.errors import (
    DUPLICATE_KEY,
    EMPTY_KEY,
    INVALID_SORT_OPTION,
    KEY_NOT_FOUND,
    LEASE_PROVIDED,
    TOO_MANY_OPS,
    VALUE_PROVIDED,
    Code,
    RequestError,
)
from tercet.proto import rpc_pb2

STREAM_SORTED = RequestError(Code.UNIMPLEMENTED, "RangeStream does not support custom sort orders")
STREAM_FILTERED = RequestError(Code.UNIMPLEMENTED, "RangeStream does not support revision filters")


def check_range(request: rpc_pb2.RangeRequest) -> None:
    """Raises EMPTY_KEY or INVALID_SORT_OPTION."""
    if not request.key:
        raise EMPTY_KEY
    if not (0 <= request.sort_order <= 2 and 0 <= request.sort_target <= 4):
        raise INVALID_SORT_OPTION


def check_range_stream(request: rpc_pb2.RangeRequest) -> None:
    """As `check_range`; then only the order of the keys will do, and all of them."""
    check_range(request)
    kind = rpc_pb2.RangeRequest
    if request.sort_order != kind.NONE and (request.sort_order, request.sort_target) != (kind.ASCEND, kind.KEY):
        raise STREAM_SORTED
    if request.min_mod_revision or request.max_mod_revision or request.min_create_revision or request.max_create_revision:
        raise STREAM_FILTERED


def check_put(request: rpc_pb2.PutRequest) -> None:
    """Raises EMPTY_KEY, VALUE_PROVIDED or LEASE_PROVIDED."""
    if not request.key:
        raise EMPTY_KEY
    if request.ignore_value and request.value:
        raise VALUE_PROVIDED
    if request.ignore_lease and request.lease:
        raise LEASE_PROVIDED


def check_delete(request: rpc_pb2.DeleteRangeRequest) -> None:
    """Raises EMPTY_KEY."""
    if not request.key:
        raise EMPTY_KEY


def check_txn(request: rpc_pb2.TxnRequest, max_ops: int) -> None:
    """Raises TOO_MANY_OPS, what the checks of its operations raise, or DUPLICATE_KEY; both branches are checked.

    max_ops: of the longest of its three lists; a nested txn has what its parent left.
    """
    _check_ops(request, max_ops)
    _Claims(request.success)
    _Claims(request.failure)


def is_read_only(request: rpc_pb2.TxnRequest) -> bool:
    """Whether it needs no entry in the log: both branches hold nothing but ranges (not even a nested txn of ranges)."""
    return all(op.WhichOneof("request") == "request_range" for branch in (request.success, request.failure) for op in branch)


def is_serializable(request: rpc_pb2.TxnRequest) -> bool:
    """Whether a read-only txn may be answered without asking the leader: all its ranges may."""
    return all(op.request_range.serializable for branch in (request.success, request.failure) for op in branch)


def contains_put(request: rpc_pb2.TxnRequest) -> bool:
    """Whether either branch, or one nested in it, holds a Put: refused where space is short."""
    for branch in (request.success, request.failure):
        for op in branch:
            kind = op.WhichOneof("request")
            if kind == "request_put" or (kind == "request_txn" and contains_put(op.request_txn)):
                return True
    return False


def _check_ops(request: rpc_pb2.TxnRequest, max_ops: int) -> None:
    ops = max(len(request.compare), len(request.success), len(request.failure))
    if ops > max_ops:
        raise TOO_MANY_OPS
    for compare in request.compare:
        if not compare.key:
            raise EMPTY_KEY
    for branch in (request.success, request.failure):
        for op in branch:
            _check_op(op, max_ops - ops)


def _check_op(op: rpc_pb2.RequestOp, max_ops: int) -> None:
    match op.WhichOneof("request"):
        case "request_range":
            check_range(op.request_range)
        case "request_put":
            check_put(op.request_put)
        case "request_delete_range":
            check_delete(op.request_delete_range)
        case "request_txn":
            _check_ops(op.request_txn, max_ops)
        case _:
            raise KEY_NOT_FOUND  # etcd's answer to an operation that is none


class _Claims:
    """The keys that a list of operations puts and the ranges that it deletes; made only if no key is claimed twice.

    A revision holds one change of a key, so two Puts of a key collide, and a Put with a delete that covers it. Deletes do
    not collide with deletes. Of a nested txn only one branch runs: its two branches may claim the same keys. Two gaps are
    etcd's own and kept, since clients may live in them: a delete to the end of all keys (range_end `\\0`) is not seen, and
    a Put nested in an earlier txn is not compared with a delete nested in a later one.
    """

    def __init__(self, ops: Iterable[rpc_pb2.RequestOp]) -> None:
        self.puts: set[bytes] = set()
        self.deletes = _Intervals()
        kinds = [(op.WhichOneof("request"), op) for op in ops]
        for kind, op in kinds:
            if kind == "request_delete_range":
                self.deletes.add(op.request_delete_range.key, op.request_delete_range.range_end)
        for kind, op in kinds:
            if kind == "request_txn":
                self._nest(_Claims(op.request_txn.success), _Claims(op.request_txn.failure))
        for kind, op in kinds:
            if kind == "request_put":
                self._claim({op.request_put.key})

    def _nest(self, success: _Claims, failure: _Claims) -> None:
        self._claim(success.puts | failure.puts)
        self.deletes.add_all(success.deletes)
        self.deletes.add_all(failure.deletes)

    def _claim(self, keys: set[bytes]) -> None:
        if not self.puts.isdisjoint(keys) or any(key in self.deletes for key in keys):
            raise DUPLICATE_KEY
        self.puts |= keys


class _Intervals:
    """Half-open ranges of keys, joined where they meet, so that a lookup is one bisection."""

    def __init__(self) -> None:
        self._ranges: list[tuple[bytes, bytes]] = []
        self._joined = True

    def add(self, key: bytes, range_end: bytes) -> None:
        end = range_end or key + b"\0"
        if key < end:  # else it covers nothing; so also for `\0`
            self._ranges.append((key, end))
            self._joined = False

    def add_all(self, other: _Intervals) -> None:
        self._ranges += other._ranges
        self._joined = self._joined and not other._ranges

    def __contains__(self, key: bytes) -> bool:
        if not self._joined:
            self._join()
        position = bisect_right(self._ranges, key, key=_start) - 1
        return position >= 0 and key < self._ranges[position][1]

    def _join(self) -> None:
        joined: list[tuple[bytes, bytes]] = []
        for start, end in sorted(self._ranges):
            if joined and start <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
            else:
                joined.append((start, end))
        self._ranges, self._joined = joined, True


def _start(interval: tuple[bytes, bytes]) -> bytes:
    return interval[0]
