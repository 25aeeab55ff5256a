"""Does a Txn hold a Put, in either branch or in a txn nested in it, and how much space do they need? In slices.

The first is what the NOSPACE alarm asks, the second what the quota asks.
"""

from __future__ import annotations

from collections.abc import Iterator

from tercet.mvcc.work import OPERATION, Budget, Steps
from tercet.proto import rpc_pb2


class PutSearch(Steps):
    """`found` is final once `step` has returned False."""

    __slots__ = ("_branches", "found")

    def __init__(self, request: rpc_pb2.TxnRequest) -> None:
        self.found = False
        self._branches: list[Iterator[rpc_pb2.RequestOp]] = [iter(request.failure), iter(request.success)]

    def step(self, budget: Budget) -> bool:
        """See `work.Steps`."""
        branches = self._branches
        while branches:
            if budget.left <= 0:
                return True
            budget.left -= OPERATION
            op = next(branches[-1], None)
            if op is None:
                branches.pop()
            elif op.HasField("request_put"):
                self.found = True
                return False
            elif op.HasField("request_txn"):
                branches += [iter(op.request_txn.failure), iter(op.request_txn.success)]
        return False


class PutCost(Steps):
    """`cost` is final once `step` has returned False: of the branch that needs more, the keys and values of all Puts, and
    `put_cost` for each of them.
    """

    __slots__ = ("_put_cost", "_txns", "cost")

    def __init__(self, request: rpc_pb2.TxnRequest, *, put_cost: int) -> None:
        self.cost = 0
        self._put_cost = put_cost
        self._txns = [_Branches(request)]

    def step(self, budget: Budget) -> bool:
        """See `work.Steps`."""
        txns = self._txns
        while txns:
            if budget.left <= 0:
                return True
            budget.left -= OPERATION
            txn = txns[-1]
            op = next(txn.ops, None)
            if op is None:
                if txn.end_of_branch():
                    continue
                txns.pop()
                if txns:
                    txns[-1].cost += txn.highest
                else:
                    self.cost = txn.highest
            elif op.HasField("request_put"):
                txn.cost += self._put_cost + len(op.request_put.key) + len(op.request_put.value)
            elif op.HasField("request_txn"):
                txns.append(_Branches(op.request_txn))
        return False


class _Branches:
    """The branches of one Txn, one after the other. cost: of the one that is read; highest: of those that were."""

    __slots__ = ("_rest", "cost", "highest", "ops")

    def __init__(self, request: rpc_pb2.TxnRequest) -> None:
        self.ops: Iterator[rpc_pb2.RequestOp] = iter(request.success)
        self._rest: Iterator[rpc_pb2.RequestOp] | None = iter(request.failure)
        self.cost = 0
        self.highest = 0

    def end_of_branch(self) -> bool:
        """Returns whether there is another."""
        self.highest = max(self.highest, self.cost)
        self.cost = 0
        rest, self._rest = self._rest, None
        if rest is None:
            return False
        self.ops = rest
        return True
