"""The reference implementation: one real etcd 3.5.1, called through grpcio."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message

from tercet.proto import rpc_pb2
from tests.mvcc.member import ANSWERS
from tests.support.etcd import running_etcd
from tests.support.waiting import scaled

PATHS: dict[type[Message], str] = {
    rpc_pb2.PutRequest: "/etcdserverpb.KV/Put",
    rpc_pb2.RangeRequest: "/etcdserverpb.KV/Range",
    rpc_pb2.DeleteRangeRequest: "/etcdserverpb.KV/DeleteRange",
    rpc_pb2.TxnRequest: "/etcdserverpb.KV/Txn",
    rpc_pb2.CompactionRequest: "/etcdserverpb.KV/Compact",
    rpc_pb2.LeaseGrantRequest: "/etcdserverpb.Lease/LeaseGrant",
    rpc_pb2.LeaseRevokeRequest: "/etcdserverpb.Lease/LeaseRevoke",
    rpc_pb2.HashKVRequest: "/etcdserverpb.Maintenance/HashKV",
    rpc_pb2.HashRequest: "/etcdserverpb.Maintenance/Hash",
}
HASHES = {rpc_pb2.HashKVRequest: rpc_pb2.HashKVResponse, rpc_pb2.HashRequest: rpc_pb2.HashResponse}


class Etcd:
    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel

    def call(self, request: Message) -> Any:
        """The response with a header reduced to the revision, or (code, text) of the error."""
        answer_type = {**ANSWERS, **HASHES}[type(request)]
        method = self._channel.unary_unary(
            PATHS[type(request)],
            request_serializer=lambda it: it.SerializeToString(),
            response_deserializer=answer_type.FromString,
        )
        try:
            answer = method(request, timeout=scaled(10))
        except grpc.RpcError as error:
            return error.code().value[0], error.details()
        answer.header.CopyFrom(rpc_pb2.ResponseHeader(revision=answer.header.revision))
        return answer

    def snapshot(self) -> bytes:
        """The database file without the SHA-256 appended to it."""
        method = self._channel.unary_stream(
            "/etcdserverpb.Maintenance/Snapshot",
            request_serializer=lambda it: it.SerializeToString(),
            response_deserializer=rpc_pb2.SnapshotResponse.FromString,
        )
        return b"".join(chunk.blob for chunk in method(rpc_pb2.SnapshotRequest(), timeout=scaled(20)))[:-32]


@contextlib.contextmanager
def connected_etcd(directory: Path) -> Iterator[Etcd]:
    """A fresh etcd and a channel to it."""
    with running_etcd(directory) as running, grpc.insecure_channel(running.endpoint) as channel:
        yield Etcd(channel)
