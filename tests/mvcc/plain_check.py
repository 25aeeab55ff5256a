"""The checks of a Txn by plain recursion, without slices: the reference that mvcc/txn_check.py is compared with."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from tercet.errors import DUPLICATE_KEY, EMPTY_KEY, KEY_NOT_FOUND, TOO_MANY_OPS
from tercet.mvcc.check import check_delete, check_put, check_range
from tercet.proto import rpc_pb2


def check_txn(request: rpc_pb2.TxnRequest, max_ops: int) -> None:
    """Raises TOO_MANY_OPS, what the checks of its operations raise, or DUPLICATE_KEY; both branches are checked.

    max_ops: limit for the longest of the txn's three lists; a nested txn gets what its parent has left.
    """
    _check_ops(request, max_ops)
    _Claims(request.success)
    _Claims(request.failure)


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
            raise KEY_NOT_FOUND  # etcd's error for an operation without a request


class _Claims:
    """The keys that a list of operations puts and the ranges that it deletes. Raises DUPLICATE_KEY if a key is claimed twice.

    A revision holds one change per key, so two Puts of a key conflict, and so does a Put with a delete that covers it.
    Deletes do not conflict with each other. Only one branch of a nested txn runs, so its branches may claim the same
    keys. Two gaps are etcd's and are kept, since clients may depend on them: a delete to the end of the keyspace
    (range_end `\\0`) is ignored, and a Put in a nested txn is not compared with a delete in a later nested txn.
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
    """Half-open ranges of keys, merged where they touch, so that a lookup is one bisection."""

    def __init__(self) -> None:
        self._ranges: list[tuple[bytes, bytes]] = []
        self._joined = True

    def add(self, key: bytes, range_end: bytes) -> None:
        end = range_end or key + b"\0"
        if key < end:  # an empty range covers nothing; range_end `\0` is ignored too
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
