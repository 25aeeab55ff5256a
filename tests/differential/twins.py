"""A real etcd 3.5.1 and a tercet, each a cluster of one, that get the same requests and must give the same responses.

Whole responses are compared, except for member ids and terms. Where API level 3.7, which tercet has, differs from 3.5.1, the
difference is handled here, in one function or constant each, and nowhere else:

    keys_only_clears_lease        a Range with keys_only that is not sorted by value clears the lease (R11)
    TXN_REFUSALS                    a txn with several errors reports the first failing operation; 3.5.1 checks Puts first (T9)
    hash_at_compacted               HashKV at exactly the compacted revision is answered; 3.5.1 rejects it (N23)
    SORT_ORDER_REFUSED              an unknown sort order or target is rejected; 3.5.1 ignores the order, crashes on the target
    hash_revision                   HashKV returns the revision of the hash; 3.5.1 has no such field

Requests that crash 3.5.1 are not sent to it: unknown sort targets, and a txn that deletes to the end of the keyspace and
then puts with ignore_value or ignore_lease.
"""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.message import Message

from tercet import errors
from tercet.proto import rpc_pb2
from tests.mvcc.etcd import PATHS
from tests.mvcc.member import ANSWERS
from tests.support.client import Client

TXN_REFUSALS = [
    (int(error.code), error.message)
    for error in (errors.COMPACTED, errors.FUTURE_REVISION, errors.LEASE_NOT_FOUND, errors.KEY_NOT_FOUND)
]
SORT_ORDER_REFUSED = (int(errors.INVALID_SORT_OPTION.code), errors.INVALID_SORT_OPTION.message)

_ANSWERS: dict[type[Message], type[Any]] = {**ANSWERS, rpc_pb2.HashKVRequest: rpc_pb2.HashKVResponse}
SECONDS = 20.0

Refusal = tuple[int, str]


class Twins:
    """`revision` and `compacted` are those of both members after the last response."""

    def __init__(self, etcd: Client, tercet: Client) -> None:
        self.etcd = etcd
        self.tercet = tercet
        self.revision = 1
        self.compacted = -1

    def call(self, request: Message) -> Any:
        """The response of both, or (code, text) of the error. Fails if they differ."""
        theirs, ours = ask(self.etcd, request), ask(self.tercet, request)
        expected = keys_only_clears_lease(request, theirs)
        if not (isinstance(request, rpc_pb2.TxnRequest) and expected in TXN_REFUSALS and ours in TXN_REFUSALS):
            assert ours == expected, f"\n{request}\n--- etcd ---\n{theirs}\n--- tercet ---\n{ours}"
        if not isinstance(ours, tuple):
            self.revision = max(self.revision, ours.header.revision)
            if isinstance(request, rpc_pb2.CompactionRequest):
                self.compacted = request.revision
        return ours

    def compare_hash(self, revision: int = 0) -> None:
        theirs, ours = (ask(member, rpc_pb2.HashKVRequest(revision=revision)) for member in (self.etcd, self.tercet))
        if revision and revision == self.compacted:
            assert hash_at_compacted(theirs, ours), f"{theirs} {ours}"
            return
        assert not isinstance(ours, tuple)
        assert ours.hash_revision == (revision or self.revision)
        ours.ClearField("hash_revision")
        assert ours == theirs, f"HashKV at {revision}"


def ask(member: Client, request: Message) -> Any:
    """The response with its header reduced to the revision, or (code, text) of the error."""
    path = PATHS[type(request)].removeprefix("/etcdserverpb.")
    try:
        answer = member.call(path, request, _ANSWERS[type(request)], SECONDS)
    except grpc.RpcError as error:
        return refusal(error)
    assert answer.header.cluster_id
    assert answer.header.member_id
    assert answer.header.raft_term
    answer.header.CopyFrom(rpc_pb2.ResponseHeader(revision=answer.header.revision))
    return answer


def refusal(error: Any) -> Refusal:
    return error.code().value[0], error.details()


def keys_only_clears_lease(request: Any, answer: Any) -> Any:
    """A response of 3.5.1 as 3.7 would give it."""
    if isinstance(request, rpc_pb2.RangeRequest) and isinstance(answer, rpc_pb2.RangeResponse):
        if request.keys_only and request.sort_target != rpc_pb2.RangeRequest.VALUE:
            for kv in answer.kvs:
                kv.ClearField("lease")
    elif isinstance(request, rpc_pb2.TxnRequest) and isinstance(answer, rpc_pb2.TxnResponse):
        branch = request.success if answer.succeeded else request.failure
        for op, response in zip(branch, answer.responses, strict=True):
            kind = op.WhichOneof("request")
            if kind in ("request_range", "request_txn"):
                keys_only_clears_lease(getattr(op, kind), getattr(response, kind.replace("request", "response")))
    return answer


def hash_at_compacted(theirs: Any, ours: Any) -> bool:
    return theirs == (int(errors.COMPACTED.code), errors.COMPACTED.message) and isinstance(ours, rpc_pb2.HashKVResponse)


def streamed(member: Client, request: rpc_pb2.RangeRequest) -> Any:
    """The messages of RangeStream, merged as a client merges them, or (code, text) of the error."""
    method = member.channel.unary_stream(
        "/etcdserverpb.KV/RangeStream",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=rpc_pb2.RangeStreamResponse.FromString,
    )
    merged = rpc_pb2.RangeResponse()
    try:
        for chunk in method(request, timeout=SECONDS):
            merged.MergeFrom(chunk.range_response)
    except grpc.RpcError as error:
        return refusal(error)
    merged.header.CopyFrom(rpc_pb2.ResponseHeader(revision=merged.header.revision))
    return merged
