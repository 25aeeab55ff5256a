"""Users, roles and permissions: the Auth service as `client.auth`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tercet.client import methods
from tercet.client.invoker import Invoker, Seconds
from tercet.client.key_space import KeySpace, Text
from tercet.client.results import Header
from tercet.proto import auth_pb2, rpc_pb2

Access = Literal["read", "write", "readwrite"]
_TYPES = {"read": auth_pb2.Permission.READ, "write": auth_pb2.Permission.WRITE, "readwrite": auth_pb2.Permission.READWRITE}
_ACCESS: dict[int, Access] = {0: "read", 1: "write", 2: "readwrite"}


@dataclass(frozen=True, slots=True)
class AuthStatus:
    """revision: rises with every change of users, roles and permissions."""

    header: Header
    enabled: bool
    revision: int


@dataclass(frozen=True, slots=True)
class Permission:
    """key and range_end as the cluster stores them, without regard to a namespace; range_end b"" for one key."""

    access: Access
    key: bytes
    range_end: bytes


class AuthCalls:
    """Every method raises TercetError, those that change something Indeterminate too. Keys are in the client's namespace."""

    def __init__(self, invoker: Invoker, keys: KeySpace) -> None:
        self._invoker = invoker
        self._keys = keys

    async def enable(self, *, timeout: Seconds = ...) -> Header:
        """From now on every call needs a user. The user root must exist and have the role root."""
        answer = await self._invoker.call(methods.AUTH_ENABLE, rpc_pb2.AuthEnableRequest(), timeout=timeout)
        return Header.of(answer.header)

    async def disable(self, *, timeout: Seconds = ...) -> Header:
        answer = await self._invoker.call(methods.AUTH_DISABLE, rpc_pb2.AuthDisableRequest(), timeout=timeout)
        return Header.of(answer.header)

    async def status(self, *, timeout: Seconds = ...) -> AuthStatus:
        answer = await self._invoker.call(methods.AUTH_STATUS, rpc_pb2.AuthStatusRequest(), timeout=timeout)
        return AuthStatus(Header.of(answer.header), answer.enabled, answer.authRevision)

    async def add_user(self, name: str, password: str | None, *, timeout: Seconds = ...) -> Header:
        """password: None for a user who logs in with a client certificate only."""
        request = rpc_pb2.AuthUserAddRequest(
            name=name, password=password or "", options=auth_pb2.UserAddOptions(no_password=password is None)
        )
        return Header.of((await self._invoker.call(methods.USER_ADD, request, timeout=timeout)).header)

    async def user_roles(self, name: str, *, timeout: Seconds = ...) -> tuple[str, ...]:
        """Raises NotFound."""
        request = rpc_pb2.AuthUserGetRequest(name=name)
        return tuple((await self._invoker.call(methods.USER_GET, request, timeout=timeout)).roles)

    async def list_users(self, *, timeout: Seconds = ...) -> tuple[str, ...]:
        answer = await self._invoker.call(methods.USER_LIST, rpc_pb2.AuthUserListRequest(), timeout=timeout)
        return tuple(answer.users)

    async def delete_user(self, name: str, *, timeout: Seconds = ...) -> Header:
        request = rpc_pb2.AuthUserDeleteRequest(name=name)
        return Header.of((await self._invoker.call(methods.USER_DELETE, request, timeout=timeout)).header)

    async def change_password(self, name: str, password: str, *, timeout: Seconds = ...) -> Header:
        request = rpc_pb2.AuthUserChangePasswordRequest(name=name, password=password)
        return Header.of((await self._invoker.call(methods.USER_CHANGE_PASSWORD, request, timeout=timeout)).header)

    async def grant_role(self, user: str, role: str, *, timeout: Seconds = ...) -> Header:
        request = rpc_pb2.AuthUserGrantRoleRequest(user=user, role=role)
        return Header.of((await self._invoker.call(methods.USER_GRANT_ROLE, request, timeout=timeout)).header)

    async def revoke_role(self, user: str, role: str, *, timeout: Seconds = ...) -> Header:
        request = rpc_pb2.AuthUserRevokeRoleRequest(name=user, role=role)
        return Header.of((await self._invoker.call(methods.USER_REVOKE_ROLE, request, timeout=timeout)).header)

    async def add_role(self, name: str, *, timeout: Seconds = ...) -> Header:
        request = rpc_pb2.AuthRoleAddRequest(name=name)
        return Header.of((await self._invoker.call(methods.ROLE_ADD, request, timeout=timeout)).header)

    async def role_permissions(self, role: str, *, timeout: Seconds = ...) -> tuple[Permission, ...]:
        """Raises NotFound."""
        answer = await self._invoker.call(methods.ROLE_GET, rpc_pb2.AuthRoleGetRequest(role=role), timeout=timeout)
        return tuple(Permission(_ACCESS[one.permType], one.key, one.range_end) for one in answer.perm)

    async def list_roles(self, *, timeout: Seconds = ...) -> tuple[str, ...]:
        answer = await self._invoker.call(methods.ROLE_LIST, rpc_pb2.AuthRoleListRequest(), timeout=timeout)
        return tuple(answer.roles)

    async def delete_role(self, name: str, *, timeout: Seconds = ...) -> Header:
        request = rpc_pb2.AuthRoleDeleteRequest(role=name)
        return Header.of((await self._invoker.call(methods.ROLE_DELETE, request, timeout=timeout)).header)

    async def grant_permission(
        self, role: str, access: Access, key: Text, *, prefix: bool = False, timeout: Seconds = ...
    ) -> Header:
        """Of one key, or with `prefix` of every key that begins with it."""
        first, end = self._keys.prefix(key) if prefix else (self._keys.key(key), b"")
        permission = auth_pb2.Permission(permType=_TYPES[access], key=first, range_end=end)
        request = rpc_pb2.AuthRoleGrantPermissionRequest(name=role, perm=permission)
        return Header.of((await self._invoker.call(methods.ROLE_GRANT_PERMISSION, request, timeout=timeout)).header)

    async def revoke_permission(self, role: str, key: Text, *, prefix: bool = False, timeout: Seconds = ...) -> Header:
        """Raises NotFound unless exactly this key, or prefix, was granted."""
        first, end = self._keys.prefix(key) if prefix else (self._keys.key(key), b"")
        request = rpc_pb2.AuthRoleRevokePermissionRequest(role=role, key=first, range_end=end)
        return Header.of((await self._invoker.call(methods.ROLE_REVOKE_PERMISSION, request, timeout=timeout)).header)
