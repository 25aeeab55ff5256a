"""The quota of the backend's size, checked by each member locally, when a request is proposed and again when it is applied.

Source: etcd server/storage/quota.go. A request that would exceed the quota is refused and raises the NOSPACE alarm, which binds
all members. Requests without cost (reads, deletes, compactions) always pass, so that space can be freed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from tercet.proto import rpc_pb2
from tercet.storage.interfaces import Backend

DEFAULT_BYTES: Final = 2 * 1024**3
KEY_OVERHEAD_BYTES: Final = 256
# Pages of LMDB that hold no data: two meta pages, the free list, and copies that the last two commits still need. They are not
# counted: right after a defragmentation, disarming the alarm alone could exceed a small quota again.
FILE_OVERHEAD_BYTES: Final = 32 << 10
_LEASE_BYTES: Final = 64
_UNLIMITED: Final = 1 << 62
_SHORTEST_PUT_BYTES: Final = 4  # of an operation of a txn


class Quota:
    """--quota-backend-bytes: 0 means the default, negative means no quota."""

    def __init__(self, backend: Backend, quota_bytes: int) -> None:
        self._backend = backend
        self.limit_bytes = DEFAULT_BYTES if quota_bytes == 0 else quota_bytes

    def allows(self, cost_bytes: int) -> bool:
        """Does a request of this cost fit into the quota? Cost 0 always fits."""
        return cost_bytes == 0 or cost_bytes < self.room_bytes()

    def room_bytes(self) -> int:
        """A request fits into the quota if its cost is below this number of bytes."""
        if self.limit_bytes < 0:
            return _UNLIMITED
        return self.limit_bytes + FILE_OVERHEAD_BYTES - self._backend.size()


def request_cost(field: str, message: Any) -> int:
    """The cost of a request by its field in InternalRaftRequest; 0 if it needs no space."""
    cost = _COSTS.get(field)
    return cost(message) if cost is not None else 0


def highest_cost(encoded_bytes: int) -> int:
    """No request whose encoding is this long costs more: a bound that needs no look at its operations."""
    return KEY_OVERHEAD_BYTES + encoded_bytes * (1 + KEY_OVERHEAD_BYTES // _SHORTEST_PUT_BYTES)


def put_cost(request: rpc_pb2.PutRequest) -> int:
    return KEY_OVERHEAD_BYTES + len(request.key) + len(request.value)


def lease_cost(request: rpc_pb2.LeaseGrantRequest) -> int:
    return _LEASE_BYTES


def txn_cost(request: rpc_pb2.TxnRequest) -> int:
    """The cost of the larger branch: only one of them is written."""
    return max(_operations_cost(request.success), _operations_cost(request.failure))


def _operations_cost(operations: object) -> int:
    total = 0
    for operation in operations:  # type: ignore[attr-defined]
        kind = operation.WhichOneof("request")
        if kind == "request_put":
            total += put_cost(operation.request_put)
        elif kind == "request_txn":
            total += txn_cost(operation.request_txn)
    return total


_COSTS: Final[dict[str, Callable[[Any], int]]] = {"put": put_cost, "txn": txn_cost, "lease_grant": lease_cost}
