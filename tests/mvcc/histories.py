"""Random requests over few keys, so that they conflict. Requests that crash a real etcd are not generated.

A history has six keys: etcd's sort is stable for so few; with more, the order of ties would be undefined.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from google.protobuf.message import Message

from tercet.proto import rpc_pb2

KEYS = [b"a", b"a\0", b"ab", b"b", b"c", b"d/1", b"d/2", b"\xff", b"\xff\xff", b"\0"]
VALUES = [b"", b"1", b"2", b"22", bytes(range(256))]
LEASES = [7, 0x7FFFFFFFFFFFFFFF, -3]

_Range = rpc_pb2.RangeRequest
_Compare = rpc_pb2.Compare


class Histories:
    """The test sets `revision` and `compacted` before each request, so that requests ask for revisions near these limits."""

    def __init__(self, seed: int, leases: Sequence[int] = LEASES) -> None:
        self.random = random.Random(seed)
        self.leases = leases
        self.keys = self.random.sample(KEYS, 6)
        self.revision = 1
        self.compacted = -1

    def request(self) -> Message:
        make, *_ = self.random.choices(
            [self.put, self.range, self.delete, self.txn, self.compaction, self.grant, self.revoke], [30, 25, 10, 25, 2, 3, 2]
        )
        return make()

    def key(self, *, empty: float = 0.02) -> bytes:
        return b"" if self.random.random() < empty else self.random.choice(self.keys)

    def range_end(self) -> bytes:
        return self.random.choice([b"", b"", b"\0", b"d0", *KEYS])

    def some_revision(self) -> int:
        chance = self.random
        if chance.random() < 0.6:
            return 0
        near = [
            -5,
            -1,
            self.compacted - 1,
            self.compacted,
            self.compacted + 1,
            self.revision - 1,
            self.revision,
            self.revision + 1,
        ]
        return chance.choice([*near, chance.randint(max(1, self.compacted), self.revision)])

    def grant(self) -> rpc_pb2.LeaseGrantRequest:
        return rpc_pb2.LeaseGrantRequest(
            ID=self.random.choice(self.leases), TTL=self.random.choice([5000, 100_000, 9_000_000_001])
        )

    def revoke(self) -> rpc_pb2.LeaseRevokeRequest:
        return rpc_pb2.LeaseRevokeRequest(ID=self.random.choice([*self.leases, 99]))

    def compaction(self) -> rpc_pb2.CompactionRequest:
        revision = self.random.choice([self.compacted, self.revision + 1, 0, -1, *[self.random.randint(0, self.revision)] * 6])
        return rpc_pb2.CompactionRequest(revision=revision, physical=True)

    def put(self) -> rpc_pb2.PutRequest:
        chance = self.random
        request = rpc_pb2.PutRequest(key=self.key(), value=chance.choice(VALUES), prev_kv=chance.random() < 0.3)
        request.lease = chance.choice([0, 0, 0, 99, *self.leases])
        if chance.random() < 0.15:
            request.ignore_value = True
            request.value = b"" if chance.random() < 0.9 else request.value
        if chance.random() < 0.15:
            request.ignore_lease = True
            request.lease = 0 if chance.random() < 0.9 else request.lease
        return request

    def delete(self) -> rpc_pb2.DeleteRangeRequest:
        return rpc_pb2.DeleteRangeRequest(key=self.key(), range_end=self.range_end(), prev_kv=self.random.random() < 0.5)

    def range(self) -> rpc_pb2.RangeRequest:
        chance = self.random
        request = _Range(key=self.key(), range_end=self.range_end(), revision=self.some_revision())
        request.serializable = chance.random() < 0.3
        request.limit = chance.choice([0, 0, 0, 1, 2, 3, 5, -1])
        request.count_only = chance.random() < 0.1
        request.keys_only = chance.random() < 0.2
        request.sort_order = chance.choice([_Range.NONE, _Range.NONE, _Range.ASCEND, _Range.DESCEND])
        request.sort_target = chance.randint(0, 4) if chance.random() < 0.5 else _Range.KEY
        for name in ("min_mod_revision", "max_mod_revision", "min_create_revision", "max_create_revision"):
            if chance.random() < 0.1:
                setattr(request, name, chance.choice([-1, chance.randint(0, self.revision)]))
        return request

    def compare(self) -> rpc_pb2.Compare:
        chance = self.random
        compare = _Compare(key=self.key(empty=0.01), result=chance.choice([0, 1, 2, 3, 3, 0, 9]))
        compare.target = chance.choice([0, 1, 2, 3, 4, 0, 2, 9])
        union = chance.choice(["version", "create_revision", "mod_revision", "value", "lease", None])
        if chance.random() < 0.7:  # mostly the field that the target reads
            union = ["version", "create_revision", "mod_revision", "value", "lease"][compare.target % 5]
        if union == "value":
            compare.value = chance.choice(VALUES)
        elif union == "lease":
            compare.lease = chance.choice([0, *self.leases])
        elif union is not None:
            setattr(compare, union, chance.choice([0, 1, 2, self.revision, chance.randint(1, self.revision)]))
        if chance.random() < 0.3:
            compare.range_end = self.range_end()
        return compare

    def txn(self, depth: int = 0) -> rpc_pb2.TxnRequest:
        request = rpc_pb2.TxnRequest(compare=[self.compare() for _ in range(self.random.choice([0, 0, 1, 1, 2]))])
        for branch in (request.success, request.failure):
            branch.extend(self._operation(depth) for _ in range(self.random.choice([0, 1, 2, 3])))
        if depth == 0 and any(_is_open_delete(op) for op in operations(request)):
            for op in operations(request):
                op.request_put.ClearField("ignore_value") if op.HasField("request_put") else None
                op.request_put.ClearField("ignore_lease") if op.HasField("request_put") else None
        return request

    def _operation(self, depth: int) -> rpc_pb2.RequestOp:
        dice = self.random.random()
        if dice < 0.01:
            return rpc_pb2.RequestOp()
        if dice < 0.35:
            return rpc_pb2.RequestOp(request_put=self.put())
        if dice < 0.6:
            return rpc_pb2.RequestOp(request_delete_range=self.delete())
        if dice < 0.8 or depth == 2:
            return rpc_pb2.RequestOp(request_range=self.range())
        return rpc_pb2.RequestOp(request_txn=self.txn(depth + 1))


def operations(request: rpc_pb2.TxnRequest) -> Iterator[rpc_pb2.RequestOp]:
    """The operations of both branches, including those of nested txns."""
    for branch in (request.success, request.failure):
        for op in branch:
            if op.HasField("request_txn"):
                yield from operations(op.request_txn)
            else:
                yield op


def _is_open_delete(op: rpc_pb2.RequestOp) -> bool:
    return op.HasField("request_delete_range") and op.request_delete_range.range_end == b"\0"
