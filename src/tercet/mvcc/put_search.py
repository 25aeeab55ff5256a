"""Does a Txn hold a Put, in either branch or in a txn nested in it? What the quota and the NOSPACE alarm ask."""

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
