"""May a user make a Txn? Its comparisons and both branches are checked, nested txns too, whatever branch will be taken.

In slices: a megabyte holds a hundred thousand operations.
Source: etcd server/etcdserver/txn/txn.go (CheckTxnAuth), by its behaviour.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from tercet.auth import AuthStore, Identity
from tercet.mvcc import Steps
from tercet.mvcc.work import OPERATION, Budget
from tercet.proto import rpc_pb2


class TxnPermissions(Steps):
    """leases: those that its puts name, whose keys are still to be checked; complete once `step` has returned False."""

    __slots__ = ("_auth", "_compares", "_identity", "_ops", "_pending", "leases")

    def __init__(self, auth: AuthStore, identity: Identity, txn: rpc_pb2.TxnRequest) -> None:
        self.leases: set[int] = set()
        self._auth = auth
        self._identity = identity
        self._pending = [txn]
        self._compares: Iterator[rpc_pb2.Compare] = iter(())
        self._ops: Iterator[rpc_pb2.RequestOp] = iter(())

    def step(self, budget: Budget) -> bool:
        """See `work.Steps`. Raises what `AuthStore.check_write` raises."""
        while budget.left > 0:
            budget.left -= OPERATION
            if (compare := next(self._compares, None)) is not None:
                self._auth.check_read(self._identity, compare.key, compare.range_end)
            elif (op := next(self._ops, None)) is not None:
                self._check(op)
            elif self._pending:
                txn = self._pending.pop()
                self._compares, self._ops = iter(txn.compare), chain(txn.success, txn.failure)
            else:
                return False
        return True

    def _check(self, op: rpc_pb2.RequestOp) -> None:
        kind = op.WhichOneof("request")
        if kind == "request_range":
            self._auth.check_read(self._identity, op.request_range.key, op.request_range.range_end)
        elif kind == "request_put":
            check_put_permissions(self._auth, self._identity, op.request_put)
            if op.request_put.lease:
                self.leases.add(op.request_put.lease)
        elif kind == "request_delete_range":
            check_delete_permissions(self._auth, self._identity, op.request_delete_range)
        elif kind == "request_txn":
            self._pending.append(op.request_txn)


def check_put_permissions(auth: AuthStore, identity: Identity, put: rpc_pb2.PutRequest) -> None:
    """All but the keys of its lease. Raises what `AuthStore.check_write` raises."""
    auth.check_write(identity, put.key, b"")
    if put.prev_kv:
        auth.check_read(identity, put.key, b"")


def check_delete_permissions(auth: AuthStore, identity: Identity, delete: rpc_pb2.DeleteRangeRequest) -> None:
    """Raises what `AuthStore.check_write` raises."""
    auth.check_write(identity, delete.key, delete.range_end)
    if delete.prev_kv:
        auth.check_read(identity, delete.key, delete.range_end)
