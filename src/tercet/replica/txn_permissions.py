"""May a user make a Txn? Its comparisons and both branches are checked, nested txns too, whatever branch will be taken.

In slices: a megabyte holds a hundred thousand operations.
Source: etcd server/etcdserver/txn/txn.go (CheckTxnAuth), by its behaviour.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from tercet.auth import AuthStore, Identity, is_empty
from tercet.mvcc import Steps
from tercet.mvcc.work import OPERATION, Budget
from tercet.proto import rpc_pb2
from tercet.replica.empty_ranges import TreeGrowth


class TxnPermissions(Steps):
    """leases: those that its puts name, whose keys are still to be checked; complete once `step` has returned False."""

    __slots__ = ("_auth", "_compares", "_growth", "_identity", "_item", "_ops", "_pending", "leases")

    def __init__(self, auth: AuthStore, identity: Identity, txn: rpc_pb2.TxnRequest) -> None:
        self.leases: set[int] = set()
        self._auth = auth
        self._identity = identity
        self._pending = [txn]
        self._compares: Iterator[rpc_pb2.Compare] = iter(())
        self._ops: Iterator[rpc_pb2.RequestOp] = iter(())
        self._item: rpc_pb2.Compare | rpc_pb2.RequestOp | None = None  # to be checked once `_growth` is complete
        self._growth: TreeGrowth | None = None

    def step(self, budget: Budget) -> bool:
        """See `work.Steps`. Raises what `AuthStore.check_write` raises."""
        while budget.left > 0:
            growth = self._growth
            if growth is not None:
                if growth.step(budget):
                    return True
                self._growth = None
            budget.left -= OPERATION
            item = self._item
            if item is None:
                item = next(self._compares, None) or next(self._ops, None)
                if item is not None and self._begins_growth(item):
                    self._item = item
                    continue
            self._item = None
            if item is not None:
                self._check(item)
                budget.left -= self._auth.take_search_work()
            elif self._pending:
                txn = self._pending.pop()
                self._compares, self._ops = iter(txn.compare), chain(txn.success, txn.failure)
            else:
                return False
        return True

    def _begins_growth(self, item: rpc_pb2.Compare | rpc_pb2.RequestOp) -> bool:
        """Must the check of this one be prepared?"""
        reads, writes = True, False
        ranged: rpc_pb2.Compare | rpc_pb2.RangeRequest | rpc_pb2.DeleteRangeRequest
        if isinstance(item, rpc_pb2.Compare):
            ranged = item
        else:
            kind = item.WhichOneof("request")
            if kind == "request_range":
                ranged = item.request_range
            elif kind == "request_delete_range":
                ranged = item.request_delete_range
                reads, writes = ranged.prev_kv, True
            else:
                return False
        key, range_end = ranged.key, ranged.range_end
        if not range_end or not is_empty(key, range_end):
            return False
        self._growth = TreeGrowth(self._auth, self._identity, key, range_end, reads=reads, writes=writes)
        return True

    def _check(self, item: rpc_pb2.Compare | rpc_pb2.RequestOp) -> None:
        if isinstance(item, rpc_pb2.Compare):
            self._auth.check_read(self._identity, item.key, item.range_end)
            return
        kind = item.WhichOneof("request")
        if kind == "request_range":
            self._auth.check_read(self._identity, item.request_range.key, item.request_range.range_end)
        elif kind == "request_put":
            check_put_permissions(self._auth, self._identity, item.request_put)
            if item.request_put.lease:
                self.leases.add(item.request_put.lease)
        elif kind == "request_delete_range":
            check_delete_permissions(self._auth, self._identity, item.request_delete_range)
        elif kind == "request_txn":
            self._pending.append(item.request_txn)


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
