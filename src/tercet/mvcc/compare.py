"""The comparisons of a Txn, which decide its branch, and those of the txns nested in it.

All of them, those of nested txns too, see the state before the txn. A comparison with a range holds if every key of the range
satisfies it; where no key exists, an absent key must. `Plan` is the result: the operations to run, in order.

Comparisons with the same range are evaluated in one walk, which reads each value once. Of those with the same target only the
narrowest bounds are kept, and a set of what a key must differ from: so the work for a key does not grow with their number.
Source: etcd server/etcdserver/txn/txn.go (applyCompares), by its behaviour.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tercet.mvcc.encoding import main_of, value_in
from tercet.mvcc.key_index import create_revision_in, has_details, version_in
from tercet.mvcc.range_read import bounds
from tercet.mvcc.read_txn import ReadTxn
from tercet.mvcc.work import BYTES_SHIFT, FETCH, OPERATION, VISIT, Budget, Steps
from tercet.proto import kv_pb2, rpc_pb2

_Compare = rpc_pb2.Compare
_CHUNK: Final = 64  # keys visited between two looks at the budget
_VERSION: Final = int(_Compare.VERSION)
_CREATE: Final = int(_Compare.CREATE)
_MOD: Final = int(_Compare.MOD)
_VALUE: Final = int(_Compare.VALUE)
_LEASE: Final = int(_Compare.LEASE)
_EQUAL: Final = int(_Compare.EQUAL)
_GREATER: Final = int(_Compare.GREATER)
_LESS: Final = int(_Compare.LESS)
_NOT_EQUAL: Final = int(_Compare.NOT_EQUAL)
_ALWAYS: Final = -1  # a result of a later version
_NEVER: Final = -2  # equal to two different operands
_UNKNOWN: Final = -1  # a target of a later version


class Plan:
    """The branch that a txn takes: operations, and the plans of nested txns among them."""

    __slots__ = ("request", "steps", "succeeded")

    def __init__(self, request: rpc_pb2.TxnRequest) -> None:
        self.request = request
        self.succeeded = False
        self.steps: list[rpc_pb2.RequestOp | Plan] = []


class OperationCheck:
    """Told of each operation of a plan, in the order in which they run."""

    __slots__ = ()

    def check(self, kind: str | None, op: rpc_pb2.RequestOp) -> None:
        """kind: which field of `op` is set; never a nested txn. Raises RequestError."""
        raise NotImplementedError


class Comparisons(Steps):
    """`plan` is complete once `step` has returned False.

    check: of each operation that comes into the plan; `step` raises what it raises.
    """

    __slots__ = ("_branch", "_check", "_conditions", "_suspended", "_txn", "_undecided", "plan")

    def __init__(self, txn: ReadTxn, request: rpc_pb2.TxnRequest, check: OperationCheck | None = None) -> None:
        self._txn = txn
        self._check = check
        self.plan = Plan(request)
        self._undecided = [self.plan]
        self._suspended: list[Iterator[rpc_pb2.RequestOp]] = []  # the branches of all of these but the last
        self._conditions: list[Conditions] | None = None  # of the last of these, those that are not evaluated
        self._branch: Iterator[rpc_pb2.RequestOp] | None = None  # of the last of these, operations that are not in its plan yet

    def step(self, budget: Budget) -> bool:
        """See `work.Steps`."""
        while self._undecided:
            if budget.left <= 0:
                return True
            if self._branch is not None:
                self._copy_branch(self._undecided[-1], self._branch, budget)
                continue
            conditions = self._conditions
            if conditions is None:
                budget.left -= OPERATION
                conditions = self._conditions = _grouped(self._undecided[-1].request)
            holds = True
            while conditions:
                if budget.left <= 0:
                    return True
                if conditions[-1].step(self._txn, budget):
                    return True
                holds = conditions.pop().hold
                if not holds:
                    break
            self._conditions = None
            plan = self._undecided[-1]
            plan.succeeded = holds
            self._branch = iter(plan.request.success if holds else plan.request.failure)
        return False

    def _copy_branch(self, plan: Plan, branch: Iterator[rpc_pb2.RequestOp], budget: Budget) -> None:
        """Put the operations of the chosen branch into the plan. A nested txn is decided first, then the branch goes on."""
        check = self._check
        while budget.left > 0:
            op = next(branch, None)
            budget.left -= OPERATION
            if op is None:
                self._undecided.pop()
                self._branch = self._suspended.pop() if self._suspended else None
                return
            kind = op.WhichOneof("request")
            if kind == "request_txn":
                nested = Plan(op.request_txn)
                plan.steps.append(nested)
                self._undecided.append(nested)
                self._suspended.append(branch)
                self._branch = None
                return
            if check is not None:
                check.check(kind, op)
            plan.steps.append(op)


class Conditions:
    """The comparisons of a txn that speak of the same key or range. `hold` is final once `step` has returned False."""

    __slots__ = ("_all", "_end", "_is_range", "_needs_lease", "_needs_value", "_seen", "_start", "hold")

    def __init__(self, key: bytes, range_end: bytes) -> None:
        self._start, self._end = bounds(key, range_end)
        self._is_range = bool(range_end)
        self._all: list[Condition] = []
        self._needs_value = self._needs_lease = False
        self._seen = False  # a key of the range
        self.hold = True

    def add(self, condition: Condition) -> None:
        for other in self._all:
            if other.take_over(condition):
                return
        self._all.append(condition)
        self._needs_value = self._needs_value or condition.target == _VALUE
        self._needs_lease = self._needs_lease or condition.target == _LEASE

    def step(self, txn: ReadTxn, budget: Budget) -> bool:
        """Evaluate up to the budget. Returns whether there is more to do."""
        if not self._is_range:
            entry = txn.find(self._start)
            self.hold = self._absent_holds() if entry is None else self._key_holds(txn, self._start, entry, budget)
            budget.left -= OPERATION
            return False
        while True:
            visits = max(1, min(_CHUNK, budget.left))
            entries, last = txn.index.range_at(self._start, self._end, txn.bound, visits)
            budget.left -= visits * VISIT
            for key, entry in entries:
                self._seen = True
                if not self._key_holds(txn, key, entry, budget):
                    self.hold = False
                    return False
                if budget.left <= 0:
                    self._start = key + b"\0"
                    return True
            if last is None:
                self.hold = self._seen or self._absent_holds()
                return False
            self._start = last + b"\0"
            if budget.left <= 0:
                return True

    def _key_holds(self, txn: ReadTxn, key: bytes, entry: bytes, budget: Budget) -> bool:
        value, lease, version, create = b"", 0, 0, 0
        if self._needs_value or self._needs_lease or not has_details(entry):
            stored = txn.fetch(entry)
            budget.left -= FETCH + (len(stored) >> BYTES_SHIFT)
            if self._needs_value:
                value = value_in(stored, key)
            if self._needs_lease or not has_details(entry):
                kv = kv_pb2.KeyValue.FromString(stored)
                lease, version, create = kv.lease, kv.version, kv.create_revision
        if has_details(entry):
            version, create = version_in(entry), create_revision_in(entry)
        mod = main_of(entry)
        for condition in self._all:
            target = condition.target
            if target == _VALUE:
                holds = condition.holds_for_value(value)
            elif target == _VERSION:
                holds = condition.holds_for(version)
            elif target == _CREATE:
                holds = condition.holds_for(create)
            elif target == _MOD:
                holds = condition.holds_for(mod)
            else:
                holds = condition.holds_for(lease if target == _LEASE else 0)
            if not holds:
                return False
        return True

    def _absent_holds(self) -> bool:
        """An absent key has zeros for all numbers, but no value, not even an empty one: no comparison with that holds."""
        return all(condition.target != _VALUE and condition.holds_for(0) for condition in self._all)


class Condition:
    """One comparison: `result` as in Compare, with a number or, if the target is VALUE, a value.

    It may stand for several with the same target and result: the strictest bound, or all that must not be equal.
    """

    __slots__ = ("_number", "_numbers", "_result", "_value", "_values", "target")

    def __init__(self, target: int, result: int, number: int, value: bytes) -> None:
        self.target = target
        self._result = result if _EQUAL <= result <= _NOT_EQUAL else _ALWAYS
        self._number = number
        self._value = value
        self._numbers: set[int] | None = None  # not equal to any of these, if there are several
        self._values: set[bytes] | None = None

    def take_over(self, other: Condition) -> bool:
        """Hold from now on only where `other` holds too. False if their targets or results differ."""
        result = self._result
        if other.target != self.target or other._result != (_EQUAL if result == _NEVER else result):
            return False
        if result == _GREATER:
            self._number, self._value = max(self._number, other._number), max(self._value, other._value)
        elif result == _LESS:
            self._number, self._value = min(self._number, other._number), min(self._value, other._value)
        elif result == _NOT_EQUAL:
            if self._numbers is None or self._values is None:
                self._numbers, self._values = {self._number}, {self._value}
            self._numbers.add(other._number)
            self._values.add(other._value)
        elif result == _EQUAL and (other._number, other._value) != (self._number, self._value):
            self._result = _NEVER
        return True

    def holds_for(self, stored: int) -> bool:
        result, given = self._result, self._number
        if result == _EQUAL:
            return stored == given
        if result == _GREATER:
            return stored > given
        if result == _LESS:
            return stored < given
        if result == _NOT_EQUAL:
            return stored != given if self._numbers is None else stored not in self._numbers
        return result == _ALWAYS

    def holds_for_value(self, stored: bytes) -> bool:
        result, given = self._result, self._value
        if result == _EQUAL:
            return stored == given
        if result == _GREATER:
            return stored > given
        if result == _LESS:
            return stored < given
        if result == _NOT_EQUAL:
            return stored != given if self._values is None else stored not in self._values
        return result == _ALWAYS


def _grouped(request: rpc_pb2.TxnRequest) -> list[Conditions]:
    """The comparisons by what they speak of, the first one last."""
    found: dict[tuple[bytes, bytes], Conditions] = {}
    for compare in request.compare:
        place = (compare.key, compare.range_end)
        conditions = found.get(place)
        if conditions is None:
            conditions = found[place] = Conditions(*place)
        conditions.add(_condition(compare))
    return list(reversed(found.values()))


def _condition(compare: rpc_pb2.Compare) -> Condition:
    target, number = int(compare.target), 0
    if target == _VERSION:
        number = compare.version
    elif target == _CREATE:
        number = compare.create_revision
    elif target == _MOD:
        number = compare.mod_revision
    elif target == _LEASE:
        number = compare.lease
    elif target != _VALUE:
        target = _UNKNOWN  # compares 0 with 0
    return Condition(target, int(compare.result), number, compare.value)
