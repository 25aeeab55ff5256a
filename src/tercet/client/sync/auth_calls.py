"""Generated from client/auth_calls.py by `python -m tercet.client.generate_sync`: do not edit."""

from __future__ import annotations

from tercet.client.auth_calls import Access, AuthCalls, AuthStatus, Permission
from tercet.client.facade import Facade
from tercet.client.invoker import Seconds
from tercet.client.key_space import Text
from tercet.client.results import Header


class SyncAuthCalls(Facade[AuthCalls]):
    """Every method raises TercetError, those that change something Indeterminate too. Keys are in the client's namespace."""

    def enable(self, *, timeout: Seconds = ...) -> Header:
        """From now on every call needs a user. The user root must exist and have the role root."""
        return self._run(self._inner.enable(timeout=timeout))

    def disable(self, *, timeout: Seconds = ...) -> Header:
        return self._run(self._inner.disable(timeout=timeout))

    def status(self, *, timeout: Seconds = ...) -> AuthStatus:
        return self._run(self._inner.status(timeout=timeout))

    def add_user(self, name: str, password: str | None, *, timeout: Seconds = ...) -> Header:
        """password: None for a user who logs in with a client certificate only."""
        return self._run(self._inner.add_user(name, password, timeout=timeout))

    def user_roles(self, name: str, *, timeout: Seconds = ...) -> tuple[str, ...]:
        """Raises NotFound."""
        return self._run(self._inner.user_roles(name, timeout=timeout))

    def list_users(self, *, timeout: Seconds = ...) -> tuple[str, ...]:
        return self._run(self._inner.list_users(timeout=timeout))

    def delete_user(self, name: str, *, timeout: Seconds = ...) -> Header:
        return self._run(self._inner.delete_user(name, timeout=timeout))

    def change_password(self, name: str, password: str, *, timeout: Seconds = ...) -> Header:
        return self._run(self._inner.change_password(name, password, timeout=timeout))

    def grant_role(self, user: str, role: str, *, timeout: Seconds = ...) -> Header:
        return self._run(self._inner.grant_role(user, role, timeout=timeout))

    def revoke_role(self, user: str, role: str, *, timeout: Seconds = ...) -> Header:
        return self._run(self._inner.revoke_role(user, role, timeout=timeout))

    def add_role(self, name: str, *, timeout: Seconds = ...) -> Header:
        return self._run(self._inner.add_role(name, timeout=timeout))

    def role_permissions(self, role: str, *, timeout: Seconds = ...) -> tuple[Permission, ...]:
        """Raises NotFound."""
        return self._run(self._inner.role_permissions(role, timeout=timeout))

    def list_roles(self, *, timeout: Seconds = ...) -> tuple[str, ...]:
        return self._run(self._inner.list_roles(timeout=timeout))

    def delete_role(self, name: str, *, timeout: Seconds = ...) -> Header:
        return self._run(self._inner.delete_role(name, timeout=timeout))

    def grant_permission(self, role: str, access: Access, key: Text, *, prefix: bool = False, timeout: Seconds = ...) -> Header:
        """Of one key, or with `prefix` of every key that begins with it."""
        return self._run(self._inner.grant_permission(role, access, key, prefix=prefix, timeout=timeout))

    def revoke_permission(self, role: str, key: Text, *, prefix: bool = False, timeout: Seconds = ...) -> Header:
        """Raises NotFound unless exactly this key, or prefix, was granted."""
        return self._run(self._inner.revoke_permission(role, key, prefix=prefix, timeout=timeout))
