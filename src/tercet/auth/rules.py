"""Who may do what: identities, and the checks of a request against the permissions of its user.

What a user may do is computed from its roles (permissions.py), once for all users of the same roles, until one of these roles
changes: after any change, thousands of users may ask in the same turn of the event loop. The order of the refusals is etcd's:
no user, an old auth revision, a user that does not exist or lacks the permission.
Source: etcd server/auth/store.go (isOpPermitted, IsAdminPermitted).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from tercet import errors
from tercet.auth.identity import NOBODY, Identity
from tercet.auth.permissions import Grant, Permissions
from tercet.auth.records import AuthRecords
from tercet.log_fields import fields
from tercet.proto import auth_pb2
from tercet.storage.interfaces import Backend

logger = logging.getLogger(__name__)

ROOT: Final = "root"
"""The user that must exist before authentication is enabled, and the role that may do everything."""

_ROLE_SETS_MAX: Final = 1000  # that are remembered
_CHANGED_MAX: Final = 50  # of these, with one permission; more are computed again, each when it is needed


class AuthRules(AuthRecords):
    """The records, and what follows from them. Without authentication everything is allowed."""

    def __init__(self, backend: Backend) -> None:
        self._permissions: dict[str, Permissions] = {}
        self._of_roles: dict[tuple[str, ...], Permissions] = {}  # of any users that have them
        self._identities: dict[str, Identity] = {}
        super().__init__(backend)

    def load(self) -> None:
        self._of_roles = {}
        super().load()
        self._forget()

    def put_role(self, role: auth_pb2.Role) -> None:
        super().put_role(role)
        self._role_changed(role.name.decode("utf-8", "surrogateescape"))

    def put_changed_role(self, role: auth_pb2.Role, *, removed: Sequence[Grant] = (), added: Sequence[Grant] = ()) -> None:
        """`put_role` of one whose other permissions are as before: what is computed from it changes as little."""
        super().put_role(role)
        name = role.name.decode("utf-8", "surrogateescape")
        changed = [names for names in self._of_roles if name in names]
        if len(changed) > _CHANGED_MAX:
            self._role_changed(name)
            return
        for names in changed:
            grants = [self.grants_of(self.roles[one]) for one in names if one in self.roles]
            self._of_roles[names].change(removed, added, grants)

    def remove_role(self, name: str) -> None:
        super().remove_role(name)
        self._role_changed(name)

    def _role_changed(self, name: str) -> None:
        self._of_roles = {names: permissions for names, permissions in self._of_roles.items() if name not in names}

    def raise_revision(self) -> None:
        super().raise_revision()
        self._forget()

    def _forget(self) -> None:
        self._permissions = {}
        self._identities = {}

    def identity_of(self, username: str) -> Identity:
        """The user at the current auth revision; the user need not exist."""
        identity = self._identities.get(username)
        if identity is None:
            identity = self._identities[username] = Identity(username, self.revision)
        return identity

    def internal_identity(self) -> Identity:
        """Who this member's own proposals come from: root, if authentication is enabled."""
        return self.identity_of(ROOT) if self.is_enabled else NOBODY

    def check_read(self, identity: Identity, key: bytes, range_end: bytes) -> None:
        """Raises USER_EMPTY, AUTH_OLD_REVISION or PERMISSION_DENIED."""
        if self.is_enabled:
            permissions = self._permissions_of(identity, key)
            if not permissions.is_root and not permissions.readable.covers(key, range_end):
                raise errors.PERMISSION_DENIED

    def check_write(self, identity: Identity, key: bytes, range_end: bytes) -> None:
        """Raises USER_EMPTY, AUTH_OLD_REVISION or PERMISSION_DENIED."""
        if self.is_enabled:
            permissions = self._permissions_of(identity, key)
            if not permissions.is_root and not permissions.writable.covers(key, range_end):
                raise errors.PERMISSION_DENIED

    def check_admin(self, identity: Identity) -> None:
        """Raises USER_EMPTY, USER_NOT_FOUND or PERMISSION_DENIED. The auth revision does not matter, as in etcd."""
        if not self.is_enabled:
            return
        if not identity.username:
            raise errors.USER_EMPTY
        user = self.users.get(identity.username)
        if user is None:
            raise errors.USER_NOT_FOUND
        if ROOT not in user.roles:
            raise errors.PERMISSION_DENIED

    def is_admin(self, identity: Identity) -> bool:
        user = self.users.get(identity.username)
        return user is not None and ROOT in user.roles

    def has_role(self, username: str, role: str) -> bool:
        user = self.users.get(username)
        return user is not None and role in user.roles

    def password_of(self, username: str) -> bytes:
        """The stored hash. Raises AUTH_NOT_ENABLED, AUTH_FAILED (no such user) or NO_PASSWORD_USER."""
        if not self.is_enabled:
            raise errors.AUTH_NOT_ENABLED
        user = self.users.get(username)
        if user is None:
            raise errors.AUTH_FAILED
        if user.options.no_password:
            raise errors.NO_PASSWORD_USER
        return user.password

    def _permissions_of(self, identity: Identity, key: bytes) -> Permissions:
        """key: for the log."""
        if identity.revision == 0:
            raise errors.USER_EMPTY
        if identity.revision < self.revision:
            self._log_old_revision(identity, key)
            raise errors.AUTH_OLD_REVISION
        permissions = self._permissions.get(identity.username)
        if permissions is None:
            user = self.users.get(identity.username)
            if user is None:
                logger.error("cannot find a user for permission check", extra=fields(user_name=identity.username))
                raise errors.PERMISSION_DENIED
            permissions = self._permissions[identity.username] = self._permissions_of_roles(tuple(user.roles))
        return permissions

    def _permissions_of_roles(self, names: tuple[str, ...]) -> Permissions:
        permissions = self._of_roles.get(names)
        if permissions is None:
            granted: list[Grant] = []
            for name in names:
                role = self.roles.get(name)
                if role is not None:
                    granted += self.grants_of(role)
            if len(self._of_roles) >= _ROLE_SETS_MAX:
                self._of_roles.clear()
            permissions = self._of_roles[names] = Permissions(granted, is_root=ROOT in names)
        return permissions

    def _log_old_revision(self, identity: Identity, key: bytes) -> None:
        named = {
            "current node auth revision": self.revision,
            "request auth revision": identity.revision,
            "request key": key,
            "error": "auth: revision in header is old",
        }
        logger.warning("request auth revision is less than current node auth revision", extra=fields(named))
