"""The classes that grpcio-tools would generate: `KVStub(channel).Range(request, timeout=5)`.

A stub has a method for each RPC of its service, made from the service's descriptor. `channel` has grpcio's three kinds of
methods: EndpointChannel, whose callables are awaited, or BlockingChannel.
"""

from __future__ import annotations

from typing import Any

from tercet.proto import rpc_pb2


class Stub:
    """A client of one service."""

    service = ""

    def __init__(self, channel: Any) -> None:
        descriptor = rpc_pb2.DESCRIPTOR.services_by_name[self.service]
        for method in descriptor.methods:
            path = f"/{descriptor.full_name}/{method.name}"
            kind = getattr(rpc_pb2, method.output_type.name)
            if method.client_streaming:
                call = channel.stream_stream(path, kind)
            elif method.server_streaming:
                call = channel.unary_stream(path, kind)
            else:
                call = channel.unary_unary(path, kind)
            setattr(self, method.name, call)

    def __getattr__(self, name: str) -> Any:  # for type checkers: the methods are instance attributes
        raise AttributeError(f"the service {self.service} has no method {name}")


class KVStub(Stub):
    """Range, Put, DeleteRange, Txn, Compact."""

    service = "KV"


class WatchStub(Stub):
    """Watch."""

    service = "Watch"


class LeaseStub(Stub):
    """LeaseGrant, LeaseRevoke, LeaseKeepAlive, LeaseTimeToLive, LeaseLeases."""

    service = "Lease"


class ClusterStub(Stub):
    """MemberAdd, MemberRemove, MemberUpdate, MemberList, MemberPromote."""

    service = "Cluster"


class MaintenanceStub(Stub):
    """Alarm, Status, Defragment, Hash, HashKV, Snapshot, MoveLeader, Downgrade."""

    service = "Maintenance"


class AuthStub(Stub):
    """Authenticate, and the management of users and roles."""

    service = "Auth"
