"""The comparisons of a Txn: which branch does it take, and which branches do the txns nested in it take?

All comparisons, those of nested txns too, see the state before the txn. A comparison with a range holds if every key of the
range satisfies it; where no key exists, an absent key must. `Plan` is the result: the operations to run, in order.
Source: etcd server/etcdserver/txn/txn.go (applyCompares), by its behaviour.
"""

from __future__ import annotations

from typing import Final, TypeVar

from tercet.mvcc.encoding import main_of
from tercet.mvcc.key_index import create_revision_in, has_details, version_in
from tercet.mvcc.range_read import bounds
from tercet.mvcc.read_txn import ReadTxn
from tercet.mvcc.work import BYTES_SHIFT, FETCH, OPERATION, VISIT, Budget, Steps
from tercet.proto import kv_pb2, rpc_pb2

_Compare = rpc_pb2.Compare
_Comparable = TypeVar("_Comparable", int, bytes)
_CHUNK: Final = 64  # keys visited between two looks at the budget
_HOLDS, _FAILS, _UNDECIDED = range(3)


class Plan:
    """The branch that a txn takes: operations, and the plans of nested txns among them."""

    __slots__ = ("request", "steps", "succeeded")

    def __init__(self, request: rpc_pb2.TxnRequest) -> None:
        self.request = request
        self.succeeded = False
        self.steps: list[rpc_pb2.RequestOp | Plan] = []


class Comparisons(Steps):
    """`plan` is complete once `step` has returned False."""

    __slots__ = ("_position", "_seen", "_start", "_txn", "_undecided", "plan")

    def __init__(self, txn: ReadTxn, request: rpc_pb2.TxnRequest) -> None:
        self._txn = txn
        self.plan = Plan(request)
        self._undecided = [self.plan]
        self._position = 0  # the comparison that comes next, in the last of these
        self._start = b""  # where in its range to go on; empty: at the beginning
        self._seen = False  # whether its range holds a key

    def step(self, budget: Budget) -> bool:
        """See `work.Steps`."""
        while self._undecided:
            plan = self._undecided[-1]
            compares = plan.request.compare
            total = len(compares)
            while self._position < total:
                if budget.left <= 0:
                    return True
                result = self._evaluate(compares[self._position], budget)
                if result == _UNDECIDED:
                    return True
                if result == _FAILS:
                    break
                self._position += 1
            self._undecided.pop()
            self._decide(plan, self._position == total, budget)
            self._position = 0
        return False

    def _decide(self, plan: Plan, succeeded: bool, budget: Budget) -> None:
        plan.succeeded = succeeded
        branch = plan.request.success if succeeded else plan.request.failure
        budget.left -= OPERATION * len(branch)
        for op in branch:
            if op.HasField("request_txn"):
                nested = Plan(op.request_txn)
                plan.steps.append(nested)
                self._undecided.append(nested)
            else:
                plan.steps.append(op)

    def _evaluate(self, compare: rpc_pb2.Compare, budget: Budget) -> int:
        budget.left -= OPERATION
        if not compare.range_end:
            entry = self._txn.find(compare.key)
            holds = _absent_holds(compare) if entry is None else self._entry_holds(compare, entry, budget)
            return _HOLDS if holds else _FAILS
        start, end = bounds(compare.key, compare.range_end)
        while True:
            visits = max(1, min(_CHUNK, budget.left))
            entries, last = self._txn.index.range_at(self._start or start, end, self._txn.bound, visits)
            budget.left -= visits * VISIT
            for key, entry in entries:
                self._seen = True
                if not self._entry_holds(compare, entry, budget):
                    return self._end_range(False)
                if budget.left <= 0:
                    self._start = key + b"\0"
                    return _UNDECIDED
            if last is None:
                return self._end_range(self._seen or _absent_holds(compare))
            self._start = last + b"\0"
            if budget.left <= 0:
                return _UNDECIDED

    def _end_range(self, holds: bool) -> int:
        self._start, self._seen = b"", False
        return _HOLDS if holds else _FAILS

    def _entry_holds(self, compare: rpc_pb2.Compare, entry: bytes, budget: Budget) -> bool:
        target = compare.target
        if target == _Compare.MOD:
            return _satisfies(compare.result, main_of(entry), compare.mod_revision)
        if has_details(entry):
            if target == _Compare.VERSION:
                return _satisfies(compare.result, version_in(entry), compare.version)
            if target == _Compare.CREATE:
                return _satisfies(compare.result, create_revision_in(entry), compare.create_revision)
        stored = self._txn.fetch(entry)
        budget.left -= FETCH + (len(stored) >> BYTES_SHIFT)
        return _kv_holds(compare, kv_pb2.KeyValue.FromString(stored))


def _kv_holds(compare: rpc_pb2.Compare, kv: kv_pb2.KeyValue) -> bool:
    match compare.target:
        case _Compare.VERSION:
            return _satisfies(compare.result, kv.version, compare.version)
        case _Compare.CREATE:
            return _satisfies(compare.result, kv.create_revision, compare.create_revision)
        case _Compare.MOD:
            return _satisfies(compare.result, kv.mod_revision, compare.mod_revision)
        case _Compare.VALUE:
            return _satisfies(compare.result, kv.value, compare.value)
        case _Compare.LEASE:
            return _satisfies(compare.result, kv.lease, compare.lease)
        case _:
            return _satisfies(compare.result, 0, 0)  # a target of a later version compares as equal


def _absent_holds(compare: rpc_pb2.Compare) -> bool:
    """An absent key has zeros for all numbers, but no value, not even an empty one: a comparison with it never holds."""
    return compare.target != _Compare.VALUE and _kv_holds(compare, _ABSENT)


_ABSENT: Final = kv_pb2.KeyValue()


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
