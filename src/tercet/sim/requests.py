"""Client operations as requests to a replica, and its responses as results: what services/ does for a real client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from tercet import errors
from tercet.errors import CorruptRecord, RequestError, StatusError, require
from tercet.mvcc import is_read_only
from tercet.proto import rpc_pb2
from tercet.replica.proposals import Outcome
from tercet.replica.quota import request_cost
from tercet.replica.replica import Replica
from tercet.sim.history import Kind, Operation
from tercet.sim.slices import Slices

Done = Callable[[StatusError | None], None]
Committed = Callable[[], int]
"""The highest index that any member knows to be committed."""

_FIELDS: Final[dict[type, tuple[str, Any]]] = {
    rpc_pb2.PutRequest: ("put", rpc_pb2.PutResponse),
    rpc_pb2.DeleteRangeRequest: ("delete_range", rpc_pb2.DeleteRangeResponse),
    rpc_pb2.TxnRequest: ("txn", rpc_pb2.TxnResponse),
    rpc_pb2.LeaseGrantRequest: ("lease_grant", rpc_pb2.LeaseGrantResponse),
    rpc_pb2.LeaseRevokeRequest: ("lease_revoke", rpc_pb2.LeaseRevokeResponse),
    rpc_pb2.AlarmRequest: ("alarm", rpc_pb2.AlarmResponse),
}


def submit(replica: Replica, operation: Operation, done: Done, *, committed: Committed, slices: Slices) -> None:
    """Send to `replica`; `done` is called once, with None when the result is in `operation`, or with the error.

    Raises StatusError where the replica refuses at once; then nothing was done and `done` is not called.
    """
    request = message_of(operation)
    if isinstance(request, rpc_pb2.LeaseKeepAliveRequest):
        _renew(replica, operation, request, done)
    elif isinstance(request, rpc_pb2.RangeRequest) or (isinstance(request, rpc_pb2.TxnRequest) and is_read_only(request)):
        _read(replica, operation, request, done, committed, slices)
    else:
        _write(replica, operation, request, done, slices)


def message_of(operation: Operation) -> Any:
    """The request message of an operation."""
    key, value = operation.key, operation.value or b""
    if operation.kind is Kind.GET:
        return rpc_pb2.RangeRequest(key=key)
    if operation.kind is Kind.PUT:
        return rpc_pb2.PutRequest(key=key, value=value)
    if operation.kind is Kind.DELETE:
        return rpc_pb2.DeleteRangeRequest(key=key)
    if operation.kind is Kind.REQUEST:
        return operation.request
    compare = rpc_pb2.Compare(key=key, result=rpc_pb2.Compare.EQUAL)
    if operation.expected is None:
        compare.target, compare.create_revision = rpc_pb2.Compare.CREATE, 0
    else:
        compare.target, compare.value = rpc_pb2.Compare.VALUE, operation.expected
    put = rpc_pb2.PutRequest(key=key, value=value)
    return rpc_pb2.TxnRequest(compare=[compare], success=[rpc_pb2.RequestOp(request_put=put)])


# --- reads


def _read(replica: Replica, operation: Operation, request: Any, done: Done, committed: Committed, slices: Slices) -> None:
    committed_at_call = committed()

    def respond(error: StatusError | None) -> None:
        if error is not None:
            done(error)
            return
        applied = replica.applied_index
        require(
            operation.is_serializable or applied >= committed_at_call,
            "a linearizable read misses what was committed when it began",
            applied,
            committed_at_call,
        )
        _read_now(replica, operation, request, done, slices)

    if operation.is_serializable:
        respond(None)
    else:
        replica.read(respond)


def _read_now(replica: Replica, operation: Operation, request: Any, done: Done, slices: Slices) -> None:
    store = replica.store
    operation.revision = store.revision

    def respond(response: bytes | StatusError) -> None:
        if isinstance(response, StatusError):
            done(response)
            return
        if isinstance(request, rpc_pb2.TxnRequest):
            operation.response = rpc_pb2.TxnResponse.FromString(response)
        else:
            operation.response = rpc_pb2.RangeResponse.FromString(response)
            operation.took_effect = True
            for kv in operation.response.kvs[:1]:
                operation.found, operation.mod_revision = kv.value, kv.mod_revision
        done(None)

    try:
        answer = store.read_txn(request) if isinstance(request, rpc_pb2.TxnRequest) else store.range(request)
    except RequestError as error:
        done(error)
        return
    except CorruptRecord:
        done(errors.CORRUPT)
        return
    slices.finish(answer, store, respond)


# --- leases


def _renew(replica: Replica, operation: Operation, request: rpc_pb2.LeaseKeepAliveRequest, done: Done) -> None:
    """Answered by the leader alone: no other member asks it."""
    operation.revision = replica.revision

    def renewed(outcome: int | StatusError) -> None:
        if isinstance(outcome, StatusError):
            done(outcome)
        else:
            operation.response = rpc_pb2.LeaseKeepAliveResponse(ID=request.ID, TTL=outcome)
            done(None)

    ttl = replica.leases.renew_now(request.ID)
    if ttl:
        renewed(ttl)
    else:
        replica.leases.renew(request.ID, renewed)


# --- writes


def _write(replica: Replica, operation: Operation, request: Any, done: Done, slices: Slices) -> None:
    field, response_type = _FIELDS[type(request)]
    if not replica.quota.allows(request_cost(field, request)):
        replica.alarm_proposals.raise_no_space()
        raise errors.NO_SPACE

    def applied(outcome: Outcome) -> None:
        # The header of a real response is made at this point too: while the entry is applied.
        operation.revision = replica.revision
        if isinstance(outcome, StatusError):
            done(outcome)
        else:
            slices.finish(outcome, replica.store, respond)

    def respond(response: bytes | StatusError) -> None:
        if isinstance(response, StatusError):
            done(response)
            return
        operation.response = response_type.FromString(response)
        operation.took_effect = _has_effect(operation)
        done(None)

    replica.propose(field, request.SerializeToString(), request, applied)


def _has_effect(operation: Operation) -> bool:
    """Whether the response says that the request made a revision."""
    response = operation.response
    if isinstance(response, rpc_pb2.TxnResponse):
        if operation.kind is Kind.CAS:
            return response.succeeded
        return any(op.HasField("response_put") or op.response_delete_range.deleted for op in response.responses)
    if isinstance(response, rpc_pb2.DeleteRangeResponse):
        return response.deleted > 0
    return isinstance(response, rpc_pb2.PutResponse)
