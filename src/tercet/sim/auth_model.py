"""Reference for users, roles and permissions: what the committed auth requests must lead to, and who may then do what.

States are immutable. The auth revision and the flag name a state: enabling leaves the revision as it is, and every other change
raises it. So a reply is judged by the state that the member had, also where that was an old one.

The simulator grants at most one range that begins with a given key, and asks for no range without keys; the rest of etcd's
rules is tested in tests/auth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from tercet import errors
from tercet.auth import AuthStore, Identity
from tercet.errors import RequestError, require
from tercet.proto import auth_pb2, rpc_pb2

ROOT: Final = "root"
_END: Final = b"\xff" * 8  # after all keys of the simulator


class Access(NamedTuple):
    """Keys that a request reads or writes."""

    is_write: bool
    key: bytes
    range_end: bytes


class Permission(NamedTuple):
    """The kind is one of auth_pb2.Permission's."""

    range_end: bytes
    kind: int


@dataclass(frozen=True)
class AuthState:
    """users: the roles of each; roles: the permissions of each, by key."""

    is_enabled: bool = False
    revision: int = 1
    users: dict[str, frozenset[str]] = field(default_factory=dict)
    roles: dict[str, dict[bytes, Permission]] = field(default_factory=dict)

    @property
    def name(self) -> tuple[int, bool]:
        return self.revision, self.is_enabled

    def refusal(self, identity: Identity, accesses: Iterable[Access]) -> RequestError | None:
        """Why the caller may not do this."""
        return next(filter(None, (self._refusal(identity, access) for access in accesses)), None)

    def admin_refusal(self, identity: Identity) -> RequestError | None:
        if not self.is_enabled:
            return None
        if not identity.username:
            return errors.USER_EMPTY
        if identity.username not in self.users:
            return errors.USER_NOT_FOUND
        return None if self.is_admin(identity) else errors.PERMISSION_DENIED

    def is_admin(self, identity: Identity) -> bool:
        return ROOT in self.users.get(identity.username, ())

    def _refusal(self, identity: Identity, access: Access) -> RequestError | None:
        if not self.is_enabled:
            return None
        if identity.revision == 0:
            return errors.USER_EMPTY
        if identity.revision < self.revision:
            return errors.AUTH_OLD_REVISION
        allowed = self.is_admin(identity) or self._covers(identity.username, access)
        return None if allowed else errors.PERMISSION_DENIED

    def _covers(self, username: str, access: Access) -> bool:
        """Walk from the first key to the end, from one permission into the next."""
        kinds = (auth_pb2.Permission.READWRITE, auth_pb2.Permission.WRITE if access.is_write else auth_pb2.Permission.READ)
        granted = [
            (key, _end(key, one.range_end))
            for role in self.users.get(username, ())
            for key, one in self.roles.get(role, {}).items()
            if one.kind in kinds
        ]
        at, end = access.key, _end(access.key, access.range_end)
        while at < end:
            at_before, at = at, max((stop for start, stop in granted if start <= at < stop), default=at)
            if at == at_before:
                return False
        return True


def _end(key: bytes, range_end: bytes) -> bytes:
    if not range_end:
        return key + b"\0"
    return _END if range_end == b"\0" else range_end


def accesses(request: Any) -> Iterator[Access]:
    """What a request on keys reads and writes, both branches of a Txn included; not the keys of leases."""
    if isinstance(request, rpc_pb2.RangeRequest):
        yield Access(False, request.key, request.range_end)
    elif isinstance(request, rpc_pb2.PutRequest):
        yield Access(True, request.key, b"")
        if request.prev_kv:
            yield Access(False, request.key, b"")
    elif isinstance(request, rpc_pb2.DeleteRangeRequest):
        yield Access(True, request.key, request.range_end)
        if request.prev_kv:
            yield Access(False, request.key, request.range_end)
    elif isinstance(request, rpc_pb2.TxnRequest):
        for compare in request.compare:
            yield Access(False, compare.key, compare.range_end)
        for op in (*request.success, *request.failure):
            yield from accesses(getattr(op, op.WhichOneof("request") or ""))


def leases_of(request: Any) -> set[int]:
    """The leases whose keys the caller must be permitted to write: revoking them would delete those."""
    if isinstance(request, rpc_pb2.LeaseRevokeRequest):
        return {request.ID}
    if isinstance(request, rpc_pb2.PutRequest):
        return {request.lease} - {0}
    if isinstance(request, rpc_pb2.TxnRequest):
        ops = (*request.success, *request.failure)
        return {op.request_put.lease for op in ops}.union(*(leases_of(op.request_txn) for op in ops)) - {0}
    return set()


class AuthModel:
    """`at`: the state by applied index. `known`: all states that were, by their names."""

    def __init__(self) -> None:
        self.state = AuthState()
        self.at = [self.state]
        self.known = {self.state.name: self.state}

    def refusal(self, request: Any, identity: Identity, lease_keys: Callable[[int], Iterable[bytes]]) -> RequestError | None:
        """Why a request of the log is not applied. lease_keys: the keys of a lease."""
        state = self.state
        if type(request) in _CHANGES:
            return state.admin_refusal(identity)
        refused = state.refusal(identity, accesses(request))
        if refused is None and not state.is_admin(identity):
            keys = [key for lease in sorted(leases_of(request)) for key in lease_keys(lease)]
            refused = state.refusal(identity, (Access(True, key, b"") for key in keys))
        return refused

    def is_change(self, request: Any) -> bool:
        return type(request) in _CHANGES

    def apply(self, request: Any) -> None:
        """Apply an auth request whose caller may make it; it may still be refused, and change nothing."""
        changed = _CHANGES[type(request)](self.state, request)
        if changed is not None:
            self.state = changed
            self.known.setdefault(changed.name, changed)

    def entry_applied(self) -> None:
        self.at.append(self.state)


# --- changes: the new state, or None


def _enable(state: AuthState, request: rpc_pb2.AuthEnableRequest) -> AuthState | None:
    return replace(state, is_enabled=True) if ROOT in state.users.get(ROOT, ()) else None


def _disable(state: AuthState, request: rpc_pb2.AuthDisableRequest) -> AuthState | None:
    return replace(state, is_enabled=False, revision=state.revision + 1) if state.is_enabled else None


def _user_add(state: AuthState, request: rpc_pb2.AuthUserAddRequest) -> AuthState | None:
    return None if request.name in state.users else _with_user(state, request.name, frozenset())


def _user_delete(state: AuthState, request: rpc_pb2.AuthUserDeleteRequest) -> AuthState | None:
    if request.name not in state.users or (state.is_enabled and request.name == ROOT):
        return None
    users = {name: roles for name, roles in state.users.items() if name != request.name}
    return replace(state, users=users, revision=state.revision + 1)


def _user_change_password(state: AuthState, request: rpc_pb2.AuthUserChangePasswordRequest) -> AuthState | None:
    return replace(state, revision=state.revision + 1) if request.name in state.users else None


def _user_grant_role(state: AuthState, request: rpc_pb2.AuthUserGrantRoleRequest) -> AuthState | None:
    roles = state.users.get(request.user)
    if roles is None or request.role in roles or request.role not in {ROOT, *state.roles}:
        return None
    return _with_user(state, request.user, roles | {request.role})


def _user_revoke_role(state: AuthState, request: rpc_pb2.AuthUserRevokeRoleRequest) -> AuthState | None:
    roles = state.users.get(request.name, frozenset())
    if request.role not in roles or (state.is_enabled and request.name == request.role == ROOT):
        return None
    return _with_user(state, request.name, roles - {request.role})


def _role_add(state: AuthState, request: rpc_pb2.AuthRoleAddRequest) -> AuthState | None:
    return None if request.name in state.roles else _with_role(state, request.name, {})


def _role_delete(state: AuthState, request: rpc_pb2.AuthRoleDeleteRequest) -> AuthState | None:
    if request.role not in state.roles or (state.is_enabled and request.role == ROOT):
        return None
    users = {name: roles - {request.role} for name, roles in state.users.items()}
    roles = {name: granted for name, granted in state.roles.items() if name != request.role}
    return replace(state, users=users, roles=roles, revision=state.revision + 1)


def _role_grant_permission(state: AuthState, request: rpc_pb2.AuthRoleGrantPermissionRequest) -> AuthState | None:
    granted = state.roles.get(request.name)
    if granted is None:
        return None
    permission = Permission(request.perm.range_end, request.perm.permType)
    return _with_role(state, request.name, granted | {request.perm.key: permission})


def _role_revoke_permission(state: AuthState, request: rpc_pb2.AuthRoleRevokePermissionRequest) -> AuthState | None:
    granted = state.roles.get(request.role, {})
    if request.key not in granted:
        return None
    return _with_role(state, request.role, {key: one for key, one in granted.items() if key != request.key})


def _with_user(state: AuthState, name: str, roles: frozenset[str]) -> AuthState:
    return replace(state, users=state.users | {name: roles}, revision=state.revision + 1)


def _with_role(state: AuthState, name: str, granted: dict[bytes, Permission]) -> AuthState:
    return replace(state, roles=state.roles | {name: granted}, revision=state.revision + 1)


_CHANGES: Final[dict[type, Callable[[AuthState, Any], AuthState | None]]] = {
    rpc_pb2.AuthEnableRequest: _enable,
    rpc_pb2.AuthDisableRequest: _disable,
    rpc_pb2.AuthUserAddRequest: _user_add,
    rpc_pb2.AuthUserDeleteRequest: _user_delete,
    rpc_pb2.AuthUserChangePasswordRequest: _user_change_password,
    rpc_pb2.AuthUserGrantRoleRequest: _user_grant_role,
    rpc_pb2.AuthUserRevokeRoleRequest: _user_revoke_role,
    rpc_pb2.AuthRoleAddRequest: _role_add,
    rpc_pb2.AuthRoleDeleteRequest: _role_delete,
    rpc_pb2.AuthRoleGrantPermissionRequest: _role_grant_permission,
    rpc_pb2.AuthRoleRevokePermissionRequest: _role_revoke_permission,
}


def check_auth(auth: AuthStore, expected: AuthState) -> None:
    """A member's users, roles and permissions are those that the log leads to. Raises InvariantViolation."""
    require((auth.revision, auth.is_enabled) == expected.name, "another auth state than the log's", auth.revision, expected)
    users = {name: frozenset(user.roles) for name, user in auth.users.items()}
    require(users == expected.users, "other users than the log's", users, expected.users)
    roles = {
        name: {one.key: Permission(one.range_end, one.permType) for one in role.keyPermission}
        for name, role in auth.roles.items()
    }
    require(roles == expected.roles, "other roles than the log's", roles, expected.roles)
