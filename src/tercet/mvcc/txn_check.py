"""What is refused of a Txn before it is proposed, in slices: a megabyte holds a hundred thousand nested operations.

First the shape of every operation, in etcd's order, so that the client gets the first fault; both branches are checked. Then
the keys: a revision holds one change of a key, so two Puts of a key collide, and a Put with a delete that covers it. Deletes do
not collide with deletes. Of a nested txn only one branch runs: its two branches may use the same keys. Two gaps are etcd's own
and kept, since clients may rely on them: a delete to the end of all keys (range_end `\\0`) is not seen, and a Put nested in an
earlier txn is not compared with a delete nested in a later one.
Source: etcd server/etcdserver/api/v3rpc/key.go (checkTxnRequest, checkIntervals), by its behaviour.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from tercet.errors import DUPLICATE_KEY, EMPTY_KEY, KEY_NOT_FOUND, TOO_MANY_OPS, RequestError, strip_traceback
from tercet.mvcc.check import check_delete, check_put, check_range
from tercet.mvcc.key_ranges import KeyRanges
from tercet.mvcc.work import OPERATION, VISIT, Budget, Steps, finish
from tercet.proto import rpc_pb2

_CHUNK: Final = 256
_SHAPE, _SUCCESS, _FAILURE, _DONE = range(4)
_DELETES, _NESTED, _PUTS = range(3)


def check_txn(request: rpc_pb2.TxnRequest, max_ops: int) -> None:
    """Check in one go. Raises TOO_MANY_OPS, what the checks of the operations raise, or DUPLICATE_KEY."""
    check = TxnCheck(request, max_ops, put_cost=0)
    finish(check)
    if check.fault is not None:
        raise check.fault


class TxnCheck(Steps):
    """`fault` and `cost` are final once `step` has returned False.

    fault: the first one found. cost: what the quota counts, of the branch that needs more: the keys and values of all Puts, and
    `put_cost` for each of them.
    is_read_only: it needs no entry in the log, because both branches hold ranges only. A nested txn of ranges needs one, as in
    etcd. is_serializable: a read-only txn may be answered from local state, because all its ranges are serializable.
    """

    __slots__ = ("_lists", "_phase", "_put_cost", "_request", "_txns", "cost", "fault", "is_read_only", "is_serializable")

    def __init__(self, request: rpc_pb2.TxnRequest, max_ops: int, *, put_cost: int) -> None:
        """max_ops: of the longest of its three lists; a nested txn has what its parent left."""
        self._request = request
        self._put_cost = put_cost
        self._txns = [_Txn(request, max_ops)]
        self._lists: list[_KeyList] = []
        self._phase = _SHAPE
        self.fault: RequestError | None = None
        self.cost = 0
        self.is_read_only = self.is_serializable = True

    def step(self, budget: Budget) -> bool:
        """See `work.Steps`."""
        while self._phase != _DONE:
            if budget.left <= 0:
                return True
            if self._phase == _SHAPE:
                self._check_shape(budget)
            else:
                self._check_keys(budget)
        return False

    # Shape.

    def _check_shape(self, budget: Budget) -> None:
        """Go on with the txn that is nested deepest."""
        txn = self._txns[-1]
        if not txn.is_begun:
            txn.is_begun = True
            if self.fault is None:
                self.fault = txn.fault()
            budget.left -= OPERATION
        while budget.left > 0 and txn.compares is not None:
            if not txn.check_compares(budget) and self.fault is None:
                self.fault = EMPTY_KEY
        while budget.left > 0:
            op = next(txn.ops, None)
            budget.left -= OPERATION
            if op is None:
                if txn.end_of_list():
                    continue
                self._txns.pop()
                if not self._txns:
                    self.cost = max(txn.costs)
                    self._end_shape()
                else:
                    self._txns[-1].add_cost(max(txn.costs))
                return
            if op.HasField("request_range"):
                self.is_serializable = self.is_serializable and op.request_range.serializable
            else:
                self.is_read_only = False
            if op.HasField("request_txn"):
                self._txns.append(_Txn(op.request_txn, txn.nested_max_ops))
                return
            if op.HasField("request_put"):
                txn.add_cost(self._put_cost + len(op.request_put.key) + len(op.request_put.value))
            if self.fault is None:
                self.fault = _fault_of(op)

    def _end_shape(self) -> None:
        if self.fault is not None:
            self._phase = _DONE
        else:
            self._phase = _SUCCESS
            self._lists = [_KeyList(self._request.success)]

    # Keys.

    def _check_keys(self, budget: Budget) -> None:
        """Go on with the list that is nested deepest."""
        keys = self._lists[-1]
        try:
            nested = keys.step(budget)
        except RequestError as error:
            self.fault = strip_traceback(error)
            self._phase = _DONE
            return
        if nested is not None:
            self._lists.append(_KeyList(nested))
        elif keys.is_done:
            self._lists.pop()
            if self._lists:
                self._lists[-1].nested.append(keys)
            elif self._phase == _SUCCESS:
                self._phase = _FAILURE
                self._lists = [_KeyList(self._request.failure)]
            else:
                self._phase = _DONE


class _Txn:
    """A txn whose operations are being checked, one list after the other."""

    __slots__ = ("_lists", "_request", "compares", "costs", "is_begun", "max_ops", "nested_max_ops", "ops")

    def __init__(self, request: rpc_pb2.TxnRequest, max_ops: int) -> None:
        self._request = request
        self._lists = 1
        self.max_ops = max_ops
        longest = max(len(request.compare), len(request.success), len(request.failure))
        self.nested_max_ops = max_ops - longest
        self.is_begun = False
        self.compares: Iterator[rpc_pb2.Compare] | None = iter(request.compare) if request.compare else None  # None: checked
        self.ops: Iterator[rpc_pb2.RequestOp] = iter(request.success)
        self.costs = [0]

    def fault(self) -> RequestError | None:
        """Of the txn itself, without its operations."""
        return TOO_MANY_OPS if self.nested_max_ops < 0 else None

    def check_compares(self, budget: Budget) -> bool:
        """Check some comparisons. Returns whether all of these have a key."""
        assert self.compares is not None
        chunk = list(islice(self.compares, _CHUNK))
        budget.left -= len(chunk) * VISIT
        if len(chunk) < _CHUNK:
            self.compares = None
        return all(compare.key for compare in chunk)

    def end_of_list(self) -> bool:
        """Go on with the next list, if there is one."""
        if self._lists == 2:
            return False
        self._lists = 2
        self.ops = iter(self._request.failure)
        self.costs.append(0)
        return True

    def add_cost(self, cost: int) -> None:
        self.costs[-1] += cost


def _fault_of(op: rpc_pb2.RequestOp) -> RequestError | None:
    kind = op.WhichOneof("request")
    try:
        if kind == "request_put":
            check_put(op.request_put)
        elif kind == "request_range":
            check_range(op.request_range)
        elif kind == "request_delete_range":
            check_delete(op.request_delete_range)
        else:
            return KEY_NOT_FOUND  # etcd's answer to an operation without a kind
    except RequestError as error:
        return strip_traceback(error)
    return None


class _KeyList:
    """The keys that a list of operations puts and the ranges that it deletes.

    nested: the lists of the nested txn that comes next, as far as they are done.
    """

    __slots__ = ("_checked", "_ops", "_phase", "_position", "deletes", "is_done", "nested", "puts")

    def __init__(self, ops: Any) -> None:
        """ops: a repeated field of RequestOps."""
        self._ops = ops
        self._position = 0
        self._phase = _DELETES
        self._checked: Iterator[bytes] | None = None  # the keys of the nested txn that are still to be compared with `deletes`
        self.puts: set[bytes] = set()
        self.deletes = KeyRanges()
        self.nested: list[_KeyList] = []
        self.is_done = False

    def step(self, budget: Budget) -> Any:
        """Returns operations of a nested txn that have to be checked first, or None. Raises DUPLICATE_KEY."""
        if self._phase == _NESTED and len(self.nested) == 2:
            self._merge(budget)
        while budget.left > 0 and self._position < len(self._ops):
            op = self._ops[self._position]
            budget.left -= OPERATION
            if self._phase == _NESTED and op.HasField("request_txn"):
                return op.request_txn.failure if self.nested else op.request_txn.success
            if self._phase == _DELETES and op.HasField("request_delete_range"):
                delete = op.request_delete_range
                self._delete(delete.key, delete.range_end or delete.key + b"\0")
            elif self._phase == _PUTS and op.HasField("request_put"):
                key = op.request_put.key
                if key in self.puts or key in self.deletes:
                    raise DUPLICATE_KEY
                self.puts.add(key)
            self._position += 1
        if self._position == len(self._ops):
            self.is_done = self._phase == _PUTS
            if not self.is_done:
                self._phase += 1
                self._position = 0
        return None

    def _delete(self, start: bytes, end: bytes) -> None:
        if start < end:  # a delete to the end of all keys has the end `\0`
            self.deletes.add(start, end)

    def _merge(self, budget: Budget) -> None:
        """Take over the keys of both branches of a nested txn. Raises DUPLICATE_KEY."""
        success, failure = self.nested
        if self._checked is None:
            puts = _union(success.puts, failure.puts)
            if not self.puts.isdisjoint(puts):
                raise DUPLICATE_KEY
            success.puts = puts
            self._checked = iter(puts) if self.deletes else iter(())
        while budget.left > 0:
            chunk = list(islice(self._checked, _CHUNK))
            budget.left -= 1 + len(chunk) * VISIT
            if any(key in self.deletes for key in chunk):
                raise DUPLICATE_KEY
            if len(chunk) < _CHUNK:
                break
        else:
            return
        self.puts = _union(self.puts, success.puts)
        self.deletes.update(success.deletes)
        self.deletes.update(failure.deletes)
        self._checked = None
        self.nested = []
        self._position += 1


def _union(one: set[bytes], other: set[bytes]) -> set[bytes]:
    """Of two sets that are not used any more: the smaller is added to the larger, so that deep nesting copies no key often."""
    if len(one) < len(other):
        one, other = other, one
    one |= other
    return one
