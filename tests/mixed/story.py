"""A random history of requests, sent one after the other to random members of a cluster.

Every response reflects the writes acknowledged before it: revisions never decrease, and the next linearizable read at
another member returns the value of the last Put.

Requests that make members of etcd 3.5.1 differ from each other are left out:
  - leases with a negative id or the largest one: etcd loses them in a restart, its scan of the bucket ends before them;
  - a writing txn with a Range at a compacted revision: the etcd that receives it refuses it, other etcds apply the operations
    before the Range (etcd #18667).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import grpc
from google.protobuf.message import Message

from tercet.mvcc.check import is_read_only
from tercet.proto import rpc_pb2
from tests.mvcc.etcd import PATHS
from tests.mvcc.histories import Histories, operations
from tests.mvcc.member import ANSWERS
from tests.support.processes import Member

_UNCERTAIN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNKNOWN)
_LEASES = (7, 8, 0x7FFFFFFFFFFFFFFE)


class Story:
    """`revision` is the newest of all responses; `answered` and `uncertain` count requests."""

    def __init__(self, seed: int) -> None:
        self._histories = Histories(seed, _LEASES)
        self._random = random.Random(seed)
        self.revision = 1
        self.compacted = -1
        self.answered = 0
        self.uncertain = 0

    def send(self, members: Sequence[Member], requests: int) -> None:
        """Send this number of requests, each to a random member."""
        for _ in range(requests):
            self._histories.revision, self._histories.compacted = self.revision, self.compacted
            request = _safe(self._histories.request())
            self._send(self._random.choice(members), request)
            if self._random.random() < 0.1:
                self._put_and_read(members)

    def _send(self, member: Member, request: Message) -> Any:
        """The response; None if it was rejected or its outcome is unknown."""
        path = PATHS[type(request)].removeprefix("/etcdserverpb.")
        try:
            answer = member.client.call(path, request, ANSWERS[type(request)], 10)
        except grpc.RpcError as error:
            self.uncertain += error.code() in _UNCERTAIN
            self.answered += error.code() not in _UNCERTAIN
            return None
        self.answered += 1
        seen = answer.header.revision
        assert seen >= self.revision or _may_be_stale(request), (
            f"{member.name} went back from {self.revision} to {seen}\n{request}"
        )
        self.revision = max(self.revision, seen)
        if isinstance(request, rpc_pb2.CompactionRequest):
            self.compacted = request.revision
        return answer

    def _put_and_read(self, members: Sequence[Member]) -> None:
        value = b"%d" % self._random.randrange(1 << 60)
        if self._send(self._random.choice(members), rpc_pb2.PutRequest(key=b"last", value=value)) is not None:
            found = self._send(self._random.choice(members), rpc_pb2.RangeRequest(key=b"last"))
            assert found is None or [pair.value for pair in found.kvs] == [value]


def _safe(request: Message) -> Message:
    if isinstance(request, rpc_pb2.TxnRequest) and not is_read_only(request):
        for op in operations(request):
            if op.HasField("request_range"):
                op.request_range.ClearField("revision")
    return request


def _may_be_stale(request: Message) -> bool:
    if isinstance(request, rpc_pb2.RangeRequest):
        return request.serializable
    return (
        isinstance(request, rpc_pb2.TxnRequest)
        and is_read_only(request)
        and all(op.request_range.serializable for op in operations(request))
    )
