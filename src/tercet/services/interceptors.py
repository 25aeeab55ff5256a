"""Checks of every call before its request is parsed: may this member serve it?

A learner answers Status, serializable ranges and, of streams, Snapshot: its state may be old and its vote does not count. A
call with `hasleader: true` fails at once when this member has no leader, not after a timeout. A member that has failed serves
nothing: an entry may be half applied.
Source: etcd server/etcdserver/api/v3rpc/interceptor.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tercet import errors
from tercet.proto import rpc_pb2
from tercet.replica.replica import Replica
from tercet.rpc import Handler, Kind, ServerStream, StreamHandler, UnaryCall, UnaryHandler, unmarshal

_STATUS: Final = "/etcdserverpb.Maintenance/Status"
_RANGE: Final = "/etcdserverpb.KV/Range"
_SNAPSHOT: Final = "/etcdserverpb.Maintenance/Snapshot"


def intercept(handlers: Mapping[str, Handler], replica: Replica) -> dict[str, Handler]:
    """The same methods, each after these checks."""
    return {path: _intercepted(path, handler, replica) for path, handler in handlers.items()}


def _intercepted(path: str, handler: Handler, replica: Replica) -> Handler:
    if handler.kind is Kind.UNARY:
        return Handler(handler.kind, _unary(path, handler.call, replica))  # type: ignore[arg-type]
    return Handler(handler.kind, _stream(path, handler.call, replica))  # type: ignore[arg-type]


def _unary(path: str, handle: UnaryHandler, replica: Replica) -> UnaryHandler:
    def check(call: UnaryCall, body: bytes) -> None:
        # On the hot path: almost always a flag, an empty tuple and a number decide.
        if replica.is_stopped:
            call.fail_with(errors.STOPPED)
        elif replica.is_learner and not _learner_answers(path, body):
            call.fail_with(errors.NOT_SUPPORTED_FOR_LEARNER)
        elif not replica.leader_id and call.header("hasleader") == b"true":
            call.fail_with(errors.NO_LEADER)
        else:
            handle(call, body)

    return check


def _stream(path: str, handle: StreamHandler, replica: Replica) -> StreamHandler:
    async def check(stream: ServerStream) -> None:
        if replica.is_stopped:
            raise errors.STOPPED
        if replica.is_learner and path != _SNAPSHOT:
            raise errors.NOT_SUPPORTED_FOR_LEARNER
        if not replica.leader_id and stream.header("hasleader") == b"true":
            raise errors.NO_LEADER
        await handle(stream)

    return check


def _learner_answers(path: str, body: bytes) -> bool:
    return path == _STATUS or (path == _RANGE and unmarshal(rpc_pb2.RangeRequest.FromString, body).serializable)
