"""Checks of every call before its request is parsed: may this member serve it?

A learner answers Status, serializable ranges and, of streams, Snapshot: its state may be old and its vote does not count. A
call with `hasleader: true` fails at once when this member has no leader, not after a timeout; a stream that is open then ends a
little later (leader_monitor.py). A member that has failed serves nothing: an entry may be half applied. A token that another
member has just issued may not be known here yet: such a call waits until its entry is applied.

Source: etcd server/etcdserver/api/v3rpc/interceptor.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final

from tercet import errors
from tercet.errors import StatusError
from tercet.intake import Intake, intake_of_running_loop
from tercet.proto import rpc_pb2
from tercet.replica.replica import Replica
from tercet.rpc import Handler, Kind, ServerStream, StreamHandler, UnaryCall, UnaryHandler, unmarshal
from tercet.services.authorization import Authorization
from tercet.services.awaitables import read_index
from tercet.services.leader_monitor import LeaderMonitor

_STATUS: Final = "/etcdserverpb.Maintenance/Status"
_RANGE: Final = "/etcdserverpb.KV/Range"
_SNAPSHOT: Final = "/etcdserverpb.Maintenance/Snapshot"


def intercept(
    handlers: Mapping[str, Handler], replica: Replica, authorization: Authorization, monitor: LeaderMonitor
) -> dict[str, Handler]:
    """The same methods, each after these checks."""
    return {path: _intercepted(path, handler, replica, authorization, monitor) for path, handler in handlers.items()}


def _intercepted(
    path: str, handler: Handler, replica: Replica, authorization: Authorization, monitor: LeaderMonitor
) -> Handler:
    if handler.kind is Kind.UNARY:
        return Handler(handler.kind, _unary(path, handler.call, replica, authorization))  # type: ignore[arg-type]
    return Handler(handler.kind, _stream(path, handler.call, replica, authorization, monitor))  # type: ignore[arg-type]


def _unary(path: str, handle: UnaryHandler, replica: Replica, authorization: Authorization) -> UnaryHandler:
    auth = authorization.auth

    def check(call: UnaryCall, body: bytes) -> None:
        # On the hot path: almost always a flag, an empty tuple and a number decide.
        if replica.is_stopped:
            call.fail_with(errors.STOPPED)
        elif replica.is_learner and not _learner_answers(path, body):
            call.fail_with(errors.NOT_SUPPORTED_FOR_LEARNER)
        elif not replica.leader_id and call.header("hasleader") == b"true":
            call.fail_with(errors.NO_LEADER)
        elif auth.is_enabled and authorization.is_early(call):
            replica.read(partial(_after_read, intake_of_running_loop(), handle, call, body))
        else:
            handle(call, body)

    return check


def _after_read(intake: Intake, handle: UnaryHandler, call: UnaryCall, body: bytes, error: StatusError | None) -> None:
    """One round of reads may end thousands of these at once."""
    intake.run(partial(_go_on, handle, call, body, error))


def _go_on(handle: UnaryHandler, call: UnaryCall, body: bytes, error: StatusError | None) -> None:
    if error is not None:
        call.fail_with(error)
    elif not call.finished:
        try:
            handle(call, body)
        except Exception as refusal:  # its connection, which would turn it into a status, is not on the stack any more
            call.fail_with(refusal)


def _stream(
    path: str, handle: StreamHandler, replica: Replica, authorization: Authorization, monitor: LeaderMonitor
) -> StreamHandler:
    async def check(stream: ServerStream) -> None:
        if replica.is_stopped:
            raise errors.STOPPED
        if replica.is_learner and path != _SNAPSHOT:
            raise errors.NOT_SUPPORTED_FOR_LEARNER
        needs_leader = stream.header("hasleader") == b"true"
        if needs_leader and not replica.leader_id:
            raise errors.NO_LEADER
        if authorization.auth.is_enabled and authorization.is_early(stream):
            await read_index(replica)
        if not needs_leader:
            await handle(stream)
            return
        monitor.add(stream)
        try:
            await handle(stream)
        finally:
            monitor.discard(stream)

    return check


def _learner_answers(path: str, body: bytes) -> bool:
    return path == _STATUS or (path == _RANGE and unmarshal(rpc_pb2.RangeRequest.FromString, body).serializable)
