"""The methods that a client calls: path, response type, and whether a call of unknown outcome may be retried.

A write is retried only if the server cannot have received it; a read also if the connection broke during the call.
Source: etcd's client/v3/retry.go, which assigns a retry policy to each method.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from tercet.proto import rpc_pb2


class Encodable(Protocol):
    """A protobuf message."""

    def SerializeToString(self) -> bytes: ...  # noqa: N802 - protobuf's name


EncodableT = TypeVar("EncodableT", bound=Encodable)
AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True)
class Method(Generic[EncodableT, AnswerT]):
    """One method of a service; `decode` parses its response."""

    path: str
    decode: Callable[[bytes], AnswerT]
    is_idempotent: bool


def _kv(name: str) -> str:
    return f"/etcdserverpb.KV/{name}"


def _maintenance(name: str) -> str:
    return f"/etcdserverpb.Maintenance/{name}"


RANGE = Method[rpc_pb2.RangeRequest, rpc_pb2.RangeResponse](_kv("Range"), rpc_pb2.RangeResponse.FromString, True)
RANGE_STREAM = Method[rpc_pb2.RangeRequest, rpc_pb2.RangeStreamResponse](
    _kv("RangeStream"), rpc_pb2.RangeStreamResponse.FromString, True
)
PUT = Method[rpc_pb2.PutRequest, rpc_pb2.PutResponse](_kv("Put"), rpc_pb2.PutResponse.FromString, False)
DELETE_RANGE = Method[rpc_pb2.DeleteRangeRequest, rpc_pb2.DeleteRangeResponse](
    _kv("DeleteRange"), rpc_pb2.DeleteRangeResponse.FromString, False
)
TXN = Method[rpc_pb2.TxnRequest, rpc_pb2.TxnResponse](_kv("Txn"), rpc_pb2.TxnResponse.FromString, False)
COMPACT = Method[rpc_pb2.CompactionRequest, rpc_pb2.CompactionResponse](
    _kv("Compact"), rpc_pb2.CompactionResponse.FromString, False
)
MEMBER_LIST = Method[rpc_pb2.MemberListRequest, rpc_pb2.MemberListResponse](
    "/etcdserverpb.Cluster/MemberList", rpc_pb2.MemberListResponse.FromString, True
)
ALARM_GET = Method[rpc_pb2.AlarmRequest, rpc_pb2.AlarmResponse](_maintenance("Alarm"), rpc_pb2.AlarmResponse.FromString, True)
ALARM_SET = Method[rpc_pb2.AlarmRequest, rpc_pb2.AlarmResponse](_maintenance("Alarm"), rpc_pb2.AlarmResponse.FromString, False)
STATUS = Method[rpc_pb2.StatusRequest, rpc_pb2.StatusResponse](_maintenance("Status"), rpc_pb2.StatusResponse.FromString, True)
HASH_KV = Method[rpc_pb2.HashKVRequest, rpc_pb2.HashKVResponse](_maintenance("HashKV"), rpc_pb2.HashKVResponse.FromString, True)
DEFRAGMENT = Method[rpc_pb2.DefragmentRequest, rpc_pb2.DefragmentResponse](
    _maintenance("Defragment"), rpc_pb2.DefragmentResponse.FromString, False
)
MOVE_LEADER = Method[rpc_pb2.MoveLeaderRequest, rpc_pb2.MoveLeaderResponse](
    _maintenance("MoveLeader"), rpc_pb2.MoveLeaderResponse.FromString, False
)
SNAPSHOT = Method[rpc_pb2.SnapshotRequest, rpc_pb2.SnapshotResponse](
    _maintenance("Snapshot"), rpc_pb2.SnapshotResponse.FromString, True
)
AUTHENTICATE = Method[rpc_pb2.AuthenticateRequest, rpc_pb2.AuthenticateResponse](
    "/etcdserverpb.Auth/Authenticate", rpc_pb2.AuthenticateResponse.FromString, True
)
