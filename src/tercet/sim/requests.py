"""Client operations as requests to a replica, and its responses as results: what services/ does for a real client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from tercet import errors
from tercet.auth import NOBODY, Identity
from tercet.errors import CorruptRecord, RequestError, StatusError, require
from tercet.mvcc import is_read_only
from tercet.mvcc.work import finish
from tercet.proto import rpc_pb2
from tercet.replica.proposals import Outcome
from tercet.replica.quota import request_cost
from tercet.replica.replica import Replica
from tercet.replica.txn_permissions import TxnPermissions
from tercet.sim.history import Kind, Operation
from tercet.sim.lease_rules import check_renewal
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
    rpc_pb2.AuthEnableRequest: ("auth_enable", rpc_pb2.AuthEnableResponse),
    rpc_pb2.AuthDisableRequest: ("auth_disable", rpc_pb2.AuthDisableResponse),
    rpc_pb2.AuthUserAddRequest: ("auth_user_add", rpc_pb2.AuthUserAddResponse),
    rpc_pb2.AuthUserDeleteRequest: ("auth_user_delete", rpc_pb2.AuthUserDeleteResponse),
    rpc_pb2.AuthUserChangePasswordRequest: ("auth_user_change_password", rpc_pb2.AuthUserChangePasswordResponse),
    rpc_pb2.AuthUserGrantRoleRequest: ("auth_user_grant_role", rpc_pb2.AuthUserGrantRoleResponse),
    rpc_pb2.AuthUserRevokeRoleRequest: ("auth_user_revoke_role", rpc_pb2.AuthUserRevokeRoleResponse),
    rpc_pb2.AuthRoleAddRequest: ("auth_role_add", rpc_pb2.AuthRoleAddResponse),
    rpc_pb2.AuthRoleDeleteRequest: ("auth_role_delete", rpc_pb2.AuthRoleDeleteResponse),
    rpc_pb2.AuthRoleGrantPermissionRequest: ("auth_role_grant_permission", rpc_pb2.AuthRoleGrantPermissionResponse),
    rpc_pb2.AuthRoleRevokePermissionRequest: ("auth_role_revoke_permission", rpc_pb2.AuthRoleRevokePermissionResponse),
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


def _identify(replica: Replica, operation: Operation) -> Identity:
    """Note who calls, as this member knows the user: see services/authorization.py."""
    auth = replica.auth
    operation.auth = (auth.revision, auth.is_enabled)
    if not auth.is_enabled or not operation.username:
        operation.identity = NOBODY
    elif operation.token_revision:
        operation.identity = Identity(operation.username, operation.token_revision)
    else:
        operation.identity = auth.identity_of(operation.username)
    return operation.identity


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
    store, auth = replica.store, replica.auth
    identity = _identify(replica, operation)
    operation.revision = store.revision

    def respond(response: bytes | StatusError) -> None:
        if not isinstance(response, StatusError) and identity.revision not in (0, auth.revision):
            operation.auth = (auth.revision, auth.is_enabled)
            response = errors.AUTH_OLD_REVISION  # users or roles have changed since the read began
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
        if isinstance(request, rpc_pb2.TxnRequest):
            finish(TxnPermissions(auth, identity, request))
        else:
            auth.check_read(identity, request.key, request.range_end)
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
            check_renewal(replica, request.ID)
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
        operation.auth = (replica.auth.revision, replica.auth.is_enabled)
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

    replica.propose(field, request.SerializeToString(), request, applied, _identify(replica, operation))


def _has_effect(operation: Operation) -> bool:
    """Whether the response says that the request made a revision."""
    response = operation.response
    if isinstance(response, rpc_pb2.TxnResponse):
        if operation.kind is Kind.CAS:
            return response.succeeded
        return _has_written(response)
    if isinstance(response, rpc_pb2.DeleteRangeResponse):
        return response.deleted > 0
    return isinstance(response, rpc_pb2.PutResponse)


def _has_written(response: rpc_pb2.TxnResponse) -> bool:
    return any(
        op.HasField("response_put") or op.response_delete_range.deleted or _has_written(op.response_txn)
        for op in response.responses
    )
