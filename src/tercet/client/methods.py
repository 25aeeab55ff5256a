"""The methods that a client calls: path, response type, and whether a call of unknown outcome may be retried.

A write is retried only if the server cannot have received it; a read also if the connection broke during the call.
Source: etcd's client/v3/retry.go, which assigns a retry policy to each method.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, NamedTuple, Protocol, TypeVar

from google.protobuf.message import DecodeError

from tercet.errors import Code
from tercet.proto import rpc_pb2
from tercet.rpc import RpcError


class Encodable(Protocol):
    """A protobuf message."""

    def SerializeToString(self) -> bytes: ...  # noqa: N802 - protobuf's name


EncodableT = TypeVar("EncodableT", bound=Encodable)
AnswerT = TypeVar("AnswerT")


class Method(NamedTuple, Generic[EncodableT, AnswerT]):
    """One method of a service; `parse` makes the message of a response."""

    path: str
    parse: Callable[[bytes], AnswerT]
    is_idempotent: bool

    def decode(self, response: bytes) -> AnswerT:
        """Raises RpcError if a server has answered with something else; the request may have been processed."""
        try:
            return self.parse(response)
        except DecodeError as error:
            raise RpcError(Code.INTERNAL, f"grpc: failed to unmarshal the received message: {error}") from error


def _kv(name: str) -> str:
    return f"/etcdserverpb.KV/{name}"


def _maintenance(name: str) -> str:
    return f"/etcdserverpb.Maintenance/{name}"


def _lease(name: str) -> str:
    return f"/etcdserverpb.Lease/{name}"


def _cluster(name: str) -> str:
    return f"/etcdserverpb.Cluster/{name}"


def _auth(name: str) -> str:
    return f"/etcdserverpb.Auth/{name}"


RANGE: Method[rpc_pb2.RangeRequest, rpc_pb2.RangeResponse] = Method(_kv("Range"), rpc_pb2.RangeResponse.FromString, True)
RANGE_STREAM: Method[rpc_pb2.RangeRequest, rpc_pb2.RangeStreamResponse] = Method(
    _kv("RangeStream"), rpc_pb2.RangeStreamResponse.FromString, True
)
PUT: Method[rpc_pb2.PutRequest, rpc_pb2.PutResponse] = Method(_kv("Put"), rpc_pb2.PutResponse.FromString, False)
DELETE_RANGE: Method[rpc_pb2.DeleteRangeRequest, rpc_pb2.DeleteRangeResponse] = Method(
    _kv("DeleteRange"), rpc_pb2.DeleteRangeResponse.FromString, False
)
TXN: Method[rpc_pb2.TxnRequest, rpc_pb2.TxnResponse] = Method(_kv("Txn"), rpc_pb2.TxnResponse.FromString, False)
COMPACT: Method[rpc_pb2.CompactionRequest, rpc_pb2.CompactionResponse] = Method(
    _kv("Compact"), rpc_pb2.CompactionResponse.FromString, False
)
MEMBER_LIST: Method[rpc_pb2.MemberListRequest, rpc_pb2.MemberListResponse] = Method(
    _cluster("MemberList"), rpc_pb2.MemberListResponse.FromString, True
)
ALARM_GET: Method[rpc_pb2.AlarmRequest, rpc_pb2.AlarmResponse] = Method(
    _maintenance("Alarm"), rpc_pb2.AlarmResponse.FromString, True
)
ALARM_SET: Method[rpc_pb2.AlarmRequest, rpc_pb2.AlarmResponse] = Method(
    _maintenance("Alarm"), rpc_pb2.AlarmResponse.FromString, False
)
STATUS: Method[rpc_pb2.StatusRequest, rpc_pb2.StatusResponse] = Method(
    _maintenance("Status"), rpc_pb2.StatusResponse.FromString, True
)
HASH_KV: Method[rpc_pb2.HashKVRequest, rpc_pb2.HashKVResponse] = Method(
    _maintenance("HashKV"), rpc_pb2.HashKVResponse.FromString, True
)
DEFRAGMENT: Method[rpc_pb2.DefragmentRequest, rpc_pb2.DefragmentResponse] = Method(
    _maintenance("Defragment"), rpc_pb2.DefragmentResponse.FromString, False
)
MOVE_LEADER: Method[rpc_pb2.MoveLeaderRequest, rpc_pb2.MoveLeaderResponse] = Method(
    _maintenance("MoveLeader"), rpc_pb2.MoveLeaderResponse.FromString, False
)
SNAPSHOT: Method[rpc_pb2.SnapshotRequest, rpc_pb2.SnapshotResponse] = Method(
    _maintenance("Snapshot"), rpc_pb2.SnapshotResponse.FromString, True
)
AUTHENTICATE: Method[rpc_pb2.AuthenticateRequest, rpc_pb2.AuthenticateResponse] = Method(
    _auth("Authenticate"), rpc_pb2.AuthenticateResponse.FromString, True
)
WATCH: Method[rpc_pb2.WatchRequest, rpc_pb2.WatchResponse] = Method(
    "/etcdserverpb.Watch/Watch", rpc_pb2.WatchResponse.FromString, True
)
LEASE_GRANT: Method[rpc_pb2.LeaseGrantRequest, rpc_pb2.LeaseGrantResponse] = Method(
    _lease("LeaseGrant"), rpc_pb2.LeaseGrantResponse.FromString, False
)
LEASE_REVOKE: Method[rpc_pb2.LeaseRevokeRequest, rpc_pb2.LeaseRevokeResponse] = Method(
    _lease("LeaseRevoke"), rpc_pb2.LeaseRevokeResponse.FromString, False
)
LEASE_TIME_TO_LIVE: Method[rpc_pb2.LeaseTimeToLiveRequest, rpc_pb2.LeaseTimeToLiveResponse] = Method(
    _lease("LeaseTimeToLive"), rpc_pb2.LeaseTimeToLiveResponse.FromString, True
)
LEASE_LEASES: Method[rpc_pb2.LeaseLeasesRequest, rpc_pb2.LeaseLeasesResponse] = Method(
    _lease("LeaseLeases"), rpc_pb2.LeaseLeasesResponse.FromString, True
)
LEASE_KEEP_ALIVE: Method[rpc_pb2.LeaseKeepAliveRequest, rpc_pb2.LeaseKeepAliveResponse] = Method(
    _lease("LeaseKeepAlive"), rpc_pb2.LeaseKeepAliveResponse.FromString, True
)
MEMBER_ADD: Method[rpc_pb2.MemberAddRequest, rpc_pb2.MemberAddResponse] = Method(
    _cluster("MemberAdd"), rpc_pb2.MemberAddResponse.FromString, False
)
MEMBER_REMOVE: Method[rpc_pb2.MemberRemoveRequest, rpc_pb2.MemberRemoveResponse] = Method(
    _cluster("MemberRemove"), rpc_pb2.MemberRemoveResponse.FromString, False
)
MEMBER_UPDATE: Method[rpc_pb2.MemberUpdateRequest, rpc_pb2.MemberUpdateResponse] = Method(
    _cluster("MemberUpdate"), rpc_pb2.MemberUpdateResponse.FromString, False
)
MEMBER_PROMOTE: Method[rpc_pb2.MemberPromoteRequest, rpc_pb2.MemberPromoteResponse] = Method(
    _cluster("MemberPromote"), rpc_pb2.MemberPromoteResponse.FromString, False
)
DOWNGRADE: Method[rpc_pb2.DowngradeRequest, rpc_pb2.DowngradeResponse] = Method(
    _maintenance("Downgrade"), rpc_pb2.DowngradeResponse.FromString, False
)
AUTH_ENABLE: Method[rpc_pb2.AuthEnableRequest, rpc_pb2.AuthEnableResponse] = Method(
    _auth("AuthEnable"), rpc_pb2.AuthEnableResponse.FromString, False
)
AUTH_DISABLE: Method[rpc_pb2.AuthDisableRequest, rpc_pb2.AuthDisableResponse] = Method(
    _auth("AuthDisable"), rpc_pb2.AuthDisableResponse.FromString, False
)
AUTH_STATUS: Method[rpc_pb2.AuthStatusRequest, rpc_pb2.AuthStatusResponse] = Method(
    _auth("AuthStatus"), rpc_pb2.AuthStatusResponse.FromString, True
)
USER_ADD: Method[rpc_pb2.AuthUserAddRequest, rpc_pb2.AuthUserAddResponse] = Method(
    _auth("UserAdd"), rpc_pb2.AuthUserAddResponse.FromString, False
)
USER_GET: Method[rpc_pb2.AuthUserGetRequest, rpc_pb2.AuthUserGetResponse] = Method(
    _auth("UserGet"), rpc_pb2.AuthUserGetResponse.FromString, True
)
USER_LIST: Method[rpc_pb2.AuthUserListRequest, rpc_pb2.AuthUserListResponse] = Method(
    _auth("UserList"), rpc_pb2.AuthUserListResponse.FromString, True
)
USER_DELETE: Method[rpc_pb2.AuthUserDeleteRequest, rpc_pb2.AuthUserDeleteResponse] = Method(
    _auth("UserDelete"), rpc_pb2.AuthUserDeleteResponse.FromString, False
)
USER_CHANGE_PASSWORD: Method[rpc_pb2.AuthUserChangePasswordRequest, rpc_pb2.AuthUserChangePasswordResponse] = Method(
    _auth("UserChangePassword"), rpc_pb2.AuthUserChangePasswordResponse.FromString, False
)
USER_GRANT_ROLE: Method[rpc_pb2.AuthUserGrantRoleRequest, rpc_pb2.AuthUserGrantRoleResponse] = Method(
    _auth("UserGrantRole"), rpc_pb2.AuthUserGrantRoleResponse.FromString, False
)
USER_REVOKE_ROLE: Method[rpc_pb2.AuthUserRevokeRoleRequest, rpc_pb2.AuthUserRevokeRoleResponse] = Method(
    _auth("UserRevokeRole"), rpc_pb2.AuthUserRevokeRoleResponse.FromString, False
)
ROLE_ADD: Method[rpc_pb2.AuthRoleAddRequest, rpc_pb2.AuthRoleAddResponse] = Method(
    _auth("RoleAdd"), rpc_pb2.AuthRoleAddResponse.FromString, False
)
ROLE_GET: Method[rpc_pb2.AuthRoleGetRequest, rpc_pb2.AuthRoleGetResponse] = Method(
    _auth("RoleGet"), rpc_pb2.AuthRoleGetResponse.FromString, True
)
ROLE_LIST: Method[rpc_pb2.AuthRoleListRequest, rpc_pb2.AuthRoleListResponse] = Method(
    _auth("RoleList"), rpc_pb2.AuthRoleListResponse.FromString, True
)
ROLE_DELETE: Method[rpc_pb2.AuthRoleDeleteRequest, rpc_pb2.AuthRoleDeleteResponse] = Method(
    _auth("RoleDelete"), rpc_pb2.AuthRoleDeleteResponse.FromString, False
)
ROLE_GRANT_PERMISSION: Method[rpc_pb2.AuthRoleGrantPermissionRequest, rpc_pb2.AuthRoleGrantPermissionResponse] = Method(
    _auth("RoleGrantPermission"), rpc_pb2.AuthRoleGrantPermissionResponse.FromString, False
)
ROLE_REVOKE_PERMISSION: Method[rpc_pb2.AuthRoleRevokePermissionRequest, rpc_pb2.AuthRoleRevokePermissionResponse] = Method(
    _auth("RoleRevokePermission"), rpc_pb2.AuthRoleRevokePermissionResponse.FromString, False
)
