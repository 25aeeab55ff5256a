"""Authentication at apply: the requests about users and roles, and the checks of all others.

While authentication is enabled, each handler is wrapped in the check of its request, for the user in the entry's header. The
checks are made here, not only before the proposal: what was permitted then may have been revoked in the entries between.
The member that is asked checks only what changes no state (services/authorization.py).
Source: etcd server/etcdserver/apply/auth.go.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Final

from tercet.auth import AuthStore, is_empty
from tercet.lease import Lessor
from tercet.mvcc import Answer, Apply, Budget, SmallPut
from tercet.mvcc.work import finish
from tercet.proto import internal_pb2, rpc_pb2
from tercet.replica.auth_applies import NameList, RecordChange, RoleDeletion, encode_names
from tercet.replica.empty_ranges import TreeGrowth
from tercet.replica.lease_keys_check import LeaseKeysCheck
from tercet.replica.requests import AppliedRequest
from tercet.replica.txn_applies import EmptyRangeCheck, PermittedTxn
from tercet.replica.txn_permissions import TxnPermissions, check_delete_permissions, check_put_permissions

Handler = Callable[[AppliedRequest], bytes | Apply]

LEASE_KEYS_MAX: Final = 8
"""The keys of a lease that are checked without being counted as work: a turn may hold a thousand puts."""

# Root only; the other auth requests check on their own.
_ADMIN_FIELDS: Final = (
    "auth_enable",
    "auth_disable",
    "auth_user_add",
    "auth_user_delete",
    "auth_user_change_password",
    "auth_user_grant_role",
    "auth_user_revoke_role",
    "auth_user_list",
    "auth_role_add",
    "auth_role_delete",
    "auth_role_grant_permission",
    "auth_role_revoke_permission",
    "auth_role_list",
)


class AuthRequests:
    """The handlers of the auth fields of InternalRaftRequest.

    entry_index: the index of the entry that is being applied. token_index: the one that a token from this entry names.
    """

    def __init__(self, auth: AuthStore, entry_index: Callable[[], int], token_index: Callable[[], int]) -> None:
        self._auth = auth
        self._entry_index = entry_index
        self._token_index = token_index

    def handlers(self) -> dict[str, Handler]:
        return {
            "auth_enable": self._enable,
            "auth_disable": self._disable,
            "auth_status": self._status,
            "authenticate": self._authenticate,
            "auth_user_add": self._user_add,
            "auth_user_delete": self._user_delete,
            "auth_user_get": self._user_get,
            "auth_user_change_password": partial(RecordChange, self._auth, self._user_change_password),
            "auth_user_grant_role": partial(RecordChange, self._auth, self._user_grant_role),
            "auth_user_revoke_role": partial(RecordChange, self._auth, self._user_revoke_role),
            "auth_user_list": self._user_list,
            "auth_role_add": self._role_add,
            "auth_role_delete": self._role_delete,
            "auth_role_get": self._role_get,
            "auth_role_list": self._role_list,
            "auth_role_grant_permission": partial(RecordChange, self._auth, self._role_grant_permission),
            "auth_role_revoke_permission": partial(RecordChange, self._auth, self._role_revoke_permission),
        }

    def _enable(self, request: AppliedRequest) -> bytes:
        self._auth.enable()
        return b""

    def _disable(self, request: AppliedRequest) -> bytes:
        self._auth.disable()
        return b""

    def _status(self, request: AppliedRequest) -> bytes:
        auth = self._auth
        return rpc_pb2.AuthStatusResponse(enabled=auth.is_enabled, authRevision=auth.revision).SerializeToString()

    def _authenticate(self, request: AppliedRequest) -> bytes:
        login: internal_pb2.InternalAuthenticateRequest = request.message
        token = self._auth.authenticate(login, self._entry_index(), self._token_index())
        return rpc_pb2.AuthenticateResponse(token=token).SerializeToString()

    def _user_add(self, request: AppliedRequest) -> bytes:
        self._auth.add_user(request.message)
        return b""

    def _user_delete(self, request: AppliedRequest) -> bytes:
        self._auth.delete_user(request.message.name)
        return b""

    def _user_get(self, request: AppliedRequest) -> bytes:
        name: str = request.message.name
        if name != request.identity.username:
            self._auth.check_admin(request.identity)
        return encode_names(self._auth.roles_of(name))

    def _user_change_password(self, request: AppliedRequest) -> bytes:
        self._auth.change_password(request.message)
        return b""

    def _user_grant_role(self, request: AppliedRequest) -> bytes:
        self._auth.grant_role(request.message.user, request.message.role)
        return b""

    def _user_revoke_role(self, request: AppliedRequest) -> bytes:
        self._auth.revoke_role(request.message.name, request.message.role)
        return b""

    def _user_list(self, request: AppliedRequest) -> Apply:
        return NameList(self._auth.user_names.all)

    def _role_add(self, request: AppliedRequest) -> bytes:
        self._auth.add_role(request.message.name)
        return b""

    def _role_delete(self, request: AppliedRequest) -> Apply:
        return RoleDeletion(self._auth, request.message.role)

    def _role_get(self, request: AppliedRequest) -> bytes:
        role: str = request.message.role
        if not self._auth.has_role(request.identity.username, role):
            self._auth.check_admin(request.identity)
        return self._auth.encoded_permissions_of(role)

    def _role_list(self, request: AppliedRequest) -> Apply:
        return NameList(self._auth.role_names.all)

    def _role_grant_permission(self, request: AppliedRequest) -> bytes:
        self._auth.grant_permission(request.message)
        return b""

    def _role_revoke_permission(self, request: AppliedRequest) -> bytes:
        self._auth.revoke_permission(request.message)
        return b""


class Guard:
    """Wraps handlers in the checks of their requests."""

    def __init__(self, auth: AuthStore, lessor: Lessor) -> None:
        self._auth = auth
        self._lessor = lessor

    def guarded(self, handlers: dict[str, Handler]) -> dict[str, Handler]:
        """The same handlers, for while authentication is enabled."""
        guarded = dict(handlers)
        for field in _ADMIN_FIELDS:
            guarded[field] = self._admin(handlers[field])
        guarded["put"] = self._put(handlers["put"])
        guarded["range"] = self._range(handlers["range"])
        guarded["delete_range"] = self._delete_range(handlers["delete_range"])
        guarded["txn"] = self._txn(handlers["txn"])
        guarded["lease_revoke"] = self._lease_revoke(handlers["lease_revoke"])
        return guarded

    def _admin(self, handler: Handler) -> Handler:
        def check(request: AppliedRequest) -> bytes | Apply:
            self._auth.check_admin(request.identity)
            return handler(request)

        return check

    def _put(self, handler: Handler) -> Handler:
        def check(request: AppliedRequest) -> bytes | Apply:
            small = request.small
            if isinstance(small, SmallPut):
                self._auth.check_write(request.identity, small.key, b"")
                return self._with_leases((small.lease,), handler, request) if small.lease else handler(request)
            put: rpc_pb2.PutRequest = request.message
            check_put_permissions(self._auth, request.identity, put)
            return self._with_leases((put.lease,), handler, request) if put.lease else handler(request)

        return check

    def _range(self, handler: Handler) -> Handler:
        def check(request: AppliedRequest) -> bytes | Apply:
            self._auth.check_read(request.identity, request.message.key, request.message.range_end)
            return handler(request)

        return lambda request: self._prepared(check, request, reads=True)

    def _delete_range(self, handler: Handler) -> Handler:
        def check(request: AppliedRequest) -> bytes | Apply:
            check_delete_permissions(self._auth, request.identity, request.message)
            return handler(request)

        return lambda request: self._prepared(check, request, reads=request.message.prev_kv, writes=True)

    def _prepared(self, check: Handler, request: AppliedRequest, *, reads: bool, writes: bool = False) -> bytes | Apply:
        key, range_end = request.message.key, request.message.range_end
        if is_empty(key, range_end):
            growth = TreeGrowth(self._auth, request.identity, key, range_end, reads=reads, writes=writes)
            if growth.is_needed:
                return EmptyRangeCheck(request, growth, check)
        return check(request)

    def _txn(self, handler: Handler) -> Handler:
        def check(request: AppliedRequest) -> Apply:
            permissions = TxnPermissions(self._auth, request.identity, request.message)
            return PermittedTxn(request, permissions, partial(self._permitted_txn, handler, permissions))

        return check

    def _permitted_txn(self, handler: Handler, permissions: TxnPermissions, request: AppliedRequest) -> bytes | Apply:
        leases = permissions.leases
        return self._with_leases(leases, handler, request) if leases else handler(request)

    def _lease_revoke(self, handler: Handler) -> Handler:
        def check(request: AppliedRequest) -> bytes | Apply:
            return self._with_leases((request.message.ID,), handler, request)

        return check

    def _with_leases(self, lease_ids: Collection[int], handler: Handler, request: AppliedRequest) -> bytes | Apply:
        """Check that the user may write all keys of these leases: revoking one would delete them."""
        if self._auth.is_admin(request.identity):
            return handler(request)
        leases = [lease for lease_id in sorted(lease_ids) if (lease := self._lessor.get(lease_id)) is not None]
        check = LeaseKeysCheck(self._auth, request.identity, leases, to_write=True)
        if sum([lease.key_count for lease in leases]) > LEASE_KEYS_MAX:
            return KeysCheck(check, handler, request)
        finish(check)
        return handler(request)


class KeysCheck(Apply):
    """A request whose user must be permitted to write many keys; then the request itself. Raises what the check raises."""

    __slots__ = ("_check", "_handler", "_is_permitted", "_request", "_result")

    def __init__(self, check: LeaseKeysCheck, handler: Handler, request: AppliedRequest) -> None:
        self.is_awaited = False
        self._check = check
        self._is_permitted = False
        self._handler = handler
        self._request = request
        self._result: bytes | Apply | None = None

    def step(self, budget: Budget) -> bool:
        """See `work.Steps`."""
        if not self._is_permitted:
            if self._check.step(budget):
                return True
            self._is_permitted = True
        result = self._result
        if result is None:
            result = self._result = self._handler(self._request)
        if isinstance(result, Apply):
            result.is_awaited = self.is_awaited
            return result.step(budget)
        return False

    def outcome(self) -> bytes | Answer:
        result = self._result
        if isinstance(result, Apply):
            return result.outcome()
        return result or b""
