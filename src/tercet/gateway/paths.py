"""The paths of the gateway and their gRPC methods.

Source: the google.api.http options in etcd's rpc.proto, v3lock.proto and v3election.proto of 3.7. KV.RangeStream has no path.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.message import Message

from tercet.proto import election_pb2, lock_pb2, rpc_pb2

_KV = {"range": "Range", "put": "Put", "deleterange": "DeleteRange", "txn": "Txn", "compaction": "Compact"}
_LEASE = {
    "lease/grant": "LeaseGrant",
    "lease/revoke": "LeaseRevoke",
    "kv/lease/revoke": "LeaseRevoke",
    "lease/keepalive": "LeaseKeepAlive",
    "lease/timetolive": "LeaseTimeToLive",
    "kv/lease/timetolive": "LeaseTimeToLive",
    "lease/leases": "LeaseLeases",
    "kv/lease/leases": "LeaseLeases",
}
_MAINTENANCE = {
    "alarm": "Alarm",
    "status": "Status",
    "defragment": "Defragment",
    "hash": "Hash",
    "hashkv": "HashKV",
    "snapshot": "Snapshot",
    "transfer-leadership": "MoveLeader",
    "downgrade": "Downgrade",
}
_AUTH = {
    "enable": "AuthEnable",
    "disable": "AuthDisable",
    "status": "AuthStatus",
    "authenticate": "Authenticate",
    "user/add": "UserAdd",
    "user/get": "UserGet",
    "user/list": "UserList",
    "user/delete": "UserDelete",
    "user/changepw": "UserChangePassword",
    "user/grant": "UserGrantRole",
    "user/revoke": "UserRevokeRole",
    "role/add": "RoleAdd",
    "role/get": "RoleGet",
    "role/list": "RoleList",
    "role/delete": "RoleDelete",
    "role/grant": "RoleGrantPermission",
    "role/revoke": "RoleRevokePermission",
}


@dataclass(frozen=True, slots=True)
class Route:
    """method: /service/Method."""

    method: str
    request: type[Message]
    response: type[Message]
    client_streams: bool
    server_streams: bool


def _pairs() -> Iterator[tuple[str, MethodDescriptor]]:
    rpc, lock, election = (module.DESCRIPTOR.services_by_name for module in (rpc_pb2, lock_pb2, election_pb2))
    groups = (
        ("kv/", rpc["KV"], _KV),
        ("", rpc["Watch"], {"watch": "Watch"}),
        ("", rpc["Lease"], _LEASE),
        (
            "cluster/member/",
            rpc["Cluster"],
            {name.lower(): f"Member{name}" for name in ("Add", "Remove", "Update", "List", "Promote")},
        ),
        ("maintenance/", rpc["Maintenance"], _MAINTENANCE),
        ("auth/", rpc["Auth"], _AUTH),
        ("lock/", lock["Lock"], {"lock": "Lock", "unlock": "Unlock"}),
        (
            "election/",
            election["Election"],
            {name.lower(): name for name in ("Campaign", "Proclaim", "Leader", "Observe", "Resign")},
        ),
    )
    for prefix, service, methods in groups:
        for path, name in methods.items():
            yield f"/v3/{prefix}{path}", service.methods_by_name[name]


def _route(method: MethodDescriptor) -> Route:
    return Route(
        f"/{method.containing_service.full_name}/{method.name}",
        _message_class(method.input_type),
        _message_class(method.output_type),
        client_streams=method.client_streaming,
        server_streams=method.server_streaming,
    )


def _message_class(descriptor: Descriptor) -> type[Message]:
    """What `google.protobuf.message_factory` returns; importing that takes as long as all messages here."""
    message: type[Message] = getattr(_MODULES[descriptor.file.name], descriptor.name)
    return message


_MODULES = {module.DESCRIPTOR.name: module for module in (election_pb2, lock_pb2, rpc_pb2)}
ROUTES = {path: _route(method) for path, method in _pairs()}
