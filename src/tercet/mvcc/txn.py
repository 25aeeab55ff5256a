"""The Txn request: plan, run.

Plan: all comparisons see the state before the txn, so the branches are known at once (compare.py); the operations of these
branches are checked in order, and the first that cannot be done refuses the whole txn with its error. Run: in order, each
operation seeing the writes of those before it; all writes share one revision. Nothing is written before everything that can be
refused was checked.

Each phase is done in slices. Of the reads in a txn only the point in history where they stand is noted, and what the client
learns of a write can be told from it: the answer is made afterwards (txn_answer.py), when other requests can be applied.
Source: etcd server/etcdserver/txn/txn.go, by its behaviour. Departs in: a Put that keeps the value or lease of a key which an
earlier delete of the same txn removes is refused (etcd panics).
"""

from __future__ import annotations

from tercet.errors import COMPACTED, FUTURE_REVISION, KEY_NOT_FOUND, LEASE_NOT_FOUND
from tercet.mvcc.compare import Comparisons, OperationCheck, Plan
from tercet.mvcc.counts import Counts
from tercet.mvcc.delete import PREV_KVS, RangeDelete, deleted_field
from tercet.mvcc.key_ranges import KeyRanges
from tercet.mvcc.range_read import RangeRead, bounds
from tercet.mvcc.read_txn import ReadTxn
from tercet.mvcc.stored_kvs import StoredKvs
from tercet.mvcc.txn_answer import DELETE, PUT, RANGE, OpResult, TxnAnswer, op_header
from tercet.mvcc.work import OPERATION, WRITE, Answer, Apply, Budget
from tercet.mvcc.write_txn import WriteTxn
from tercet.proto import rpc_pb2

_PLANNING, _RUNNING, _DONE = range(3)
_PREV_KV = 2  # its number in PutResponse


class Operations:
    """The operations of a plan in the order in which they run, those of nested txns in their place."""

    __slots__ = ("_plans", "_positions")

    def __init__(self, plan: Plan) -> None:
        self._plans = [plan]
        self._positions = [0]

    def next(self) -> rpc_pb2.RequestOp | None:
        while self._plans:
            plan, position = self._plans[-1], self._positions[-1]
            if position == len(plan.steps):
                self._plans.pop()
                self._positions.pop()
                continue
            self._positions[-1] += 1
            step = plan.steps[position]
            if not isinstance(step, Plan):
                return step
            self._plans.append(step)
            self._positions.append(0)
        return None


class PlanCheck(OperationCheck):
    """Judges operations by the state before their txn. Raises FUTURE_REVISION, COMPACTED, LEASE_NOT_FOUND or KEY_NOT_FOUND."""

    __slots__ = ("_before", "_compact_revision", "_deleted", "_write")

    def __init__(self, write: WriteTxn, before: ReadTxn, compact_revision: int) -> None:
        self._write = write
        self._before = before
        self._compact_revision = compact_revision
        self._deleted = KeyRanges()  # by the operations checked so far

    def check(self, kind: str | None, op: rpc_pb2.RequestOp) -> None:
        """See `OperationCheck`."""
        if kind == "request_put":
            self._check_put(op.request_put)
        elif kind == "request_range":
            check_range_revision(op.request_range.revision, self._before.revision, self._compact_revision)
        elif kind == "request_delete_range":
            self._deleted.add(*bounds(op.request_delete_range.key, op.request_delete_range.range_end))

    def _check_put(self, put: rpc_pb2.PutRequest) -> None:
        if put.lease and not self._write.leases.lease_exists(put.lease):
            raise LEASE_NOT_FOUND
        if put.ignore_value or put.ignore_lease:
            key = put.key
            if key not in self._write.index or key in self._deleted:
                raise KEY_NOT_FOUND


class TxnApply(Apply):
    """A write txn on its way through the phases. `step` raises RequestError; then nothing was written."""

    __slots__ = ("_before", "_comparisons", "_deleting", "_oldest", "_ops", "_phase", "_results", "_write")

    def __init__(self, write: WriteTxn, request: rpc_pb2.TxnRequest, compact_revision: int) -> None:
        self._write = write
        self._before = write.read()
        self._comparisons = Comparisons(self._before, request, PlanCheck(write, self._before, compact_revision))
        self._ops = Operations(self._comparisons.plan)
        self._oldest = self._before.revision  # that its reads are made at
        self._deleting: RangeDelete | None = None
        self._results: list[OpResult | int] = []
        self._phase = _PLANNING
        self.is_awaited = False

    def step(self, budget: Budget) -> bool:
        """See `work.Steps`."""
        if self._phase == _PLANNING:
            if self._comparisons.step(budget):
                return True
            self._ops = Operations(self._comparisons.plan)
            self._phase = _RUNNING
        if self._phase == _RUNNING:
            if self._run(budget):
                return True
            self._phase = _DONE
            self._write.end()
        return False

    def outcome(self) -> Answer:
        oldest = self._before if self._oldest == self._before.revision else self._before.at(self._oldest)
        return TxnAnswer(oldest, self._before, self._comparisons.plan, self._results)

    # Run.

    def _run(self, budget: Budget) -> bool:
        """Returns whether the budget ended it. An operation that is not complete goes on in the next slice."""
        deleting = self._deleting
        if deleting is not None:
            if deleting.step(budget):
                return True
            self._end_delete(deleting)
        while (op := self._ops.next()) is not None:
            kind = op.WhichOneof("request")
            if kind == "request_put":
                self._put(op.request_put)
                budget.left -= WRITE
            elif kind == "request_range":
                self._range(op.request_range)
                budget.left -= OPERATION
            elif kind == "request_delete_range":
                deleting = self._begin_delete(op.request_delete_range)
                budget.left -= WRITE
                if deleting.step(budget):
                    return True
                self._end_delete(deleting)
            elif self.is_awaited:
                self._results.append(OpResult(0, b"", b""))
            if budget.left <= 0:
                return True
        return False

    def _put(self, request: rpc_pb2.PutRequest) -> None:
        previous = self._write.put(request)
        if not self.is_awaited:
            return
        if previous and request.prev_kv:
            self._results.append(OpResult(PUT, self._header(), b"", StoredKvs(self._before, previous, _PREV_KV)))
        else:
            self._results.append(self._write.index.written)

    def _range(self, request: rpc_pb2.RangeRequest) -> None:
        self._write.count_range()
        if not self.is_awaited:
            return
        revision = request.revision
        if 0 < revision < self._oldest:
            self._oldest = revision
        if request.limit or request.count_only:  # it may need the number of keys as they are now, which is known without a walk
            txn = self._write.read()
            read = RangeRead(txn.at(revision) if revision > 0 else txn, request)
            self._results.append(OpResult(RANGE, self._header(), b"", read))
        else:
            self._results.append(self._write.index.written)

    def _begin_delete(self, request: rpc_pb2.DeleteRangeRequest) -> RangeDelete:
        start, end = bounds(request.key, request.range_end)
        self._write.count_deletes(1, prev_kv=request.prev_kv)
        deleting = self._deleting = RangeDelete(self._write, start, end, remember=request.prev_kv and self.is_awaited)
        return deleting

    def _end_delete(self, deleting: RangeDelete) -> None:
        self._deleting = None
        if self.is_awaited:
            body = deleted_field(deleting.deleted)
            read = StoredKvs(self._before, deleting.previous, PREV_KVS, body) if deleting.previous else None
            self._results.append(OpResult(DELETE, self._header(), body, read))

    def _header(self) -> bytes:
        return op_header(self._write.revision)


def check_range_revision(requested: int, current: int, compact_revision: int) -> None:
    """Raises FUTURE_REVISION or COMPACTED for a Range of a Txn; unlike alone, a negative revision is one long past."""
    if requested > current:
        raise FUTURE_REVISION
    if requested and requested < compact_revision:
        raise COMPACTED


class TxnRead(Answer):
    """A read-only txn: all of it at one revision."""

    __slots__ = ("_answer", "_compact_revision", "_comparisons", "_counts", "_oldest", "_txn")

    def __init__(self, txn: ReadTxn, request: rpc_pb2.TxnRequest, compact_revision: int, counts: Counts) -> None:
        self._txn = txn
        self._compact_revision = compact_revision
        self._comparisons = Comparisons(txn, request)
        self._counts = counts
        # Which branch it takes is not known yet: one that reads the past may need any revision that is not compacted.
        reads_past = any(op.request_range.revision for branch in (request.success, request.failure) for op in branch)
        self._oldest = txn.at(compact_revision) if reads_past else txn
        self._answer: TxnAnswer | None = None
        self.parts = []

    @property
    def size_bytes(self) -> int:
        return 0 if self._answer is None else self._answer.size_bytes

    def pin(self) -> None:
        self._oldest.pin()

    def unpin(self) -> None:
        self._oldest.unpin()

    def step(self, budget: Budget) -> bool:
        """See `work.Steps`. Raises FUTURE_REVISION or COMPACTED."""
        answer = self._answer
        if answer is None:
            if self._comparisons.step(budget):
                return True
            answer = self._answer = self._begin_reads()
        if answer.step(budget):
            return True
        self.parts = answer.parts
        return False

    def _begin_reads(self) -> TxnAnswer:
        plan = self._comparisons.plan
        ranges = [step.request_range for step in plan.steps if not isinstance(step, Plan)]
        for request in ranges:
            check_range_revision(request.revision, self._txn.revision, self._compact_revision)
        self._counts.ranges += len(ranges)
        if len(ranges) > 1:
            self._counts.txns += 1
        reads = [RangeRead(self._txn.at(one.revision) if one.revision > 0 else self._txn, one) for one in ranges]
        header = op_header(self._txn.revision)
        return TxnAnswer(self._oldest, self._txn, plan, [OpResult(RANGE, header, b"", read) for read in reads])
