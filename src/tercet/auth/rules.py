"""Who may do what: identities, and the checks of a request against the permissions of its user.

What a role grants is kept with it, and changes with each of its permissions (permissions.py); what a user may do is a list of
these, shared by all users of the same roles: after any change, thousands of users may ask in the same turn of the event loop.
The order of the refusals is etcd's: no user, an old auth revision, a user that does not exist or lacks the permission.
Source: etcd server/auth/store.go (isOpPermitted, IsAdminPermitted).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from sys import intern
from typing import Final

from tercet import errors
from tercet.auth.empty_ranges import Trees
from tercet.auth.identity import NOBODY, Identity
from tercet.auth.permissions import Grant, Permissions, RoleKeys, is_empty
from tercet.auth.records import AuthRecords, name_of
from tercet.log_fields import fields
from tercet.proto import auth_pb2
from tercet.storage.interfaces import Backend

logger = logging.getLogger(__name__)

ROOT: Final = "root"
"""The user that must exist before authentication is enabled, and the role that may do everything."""

_SETS_SHIFT: Final = 4  # one unit for each 16 roles: a thousand take 60 to 90 us
_ROLE_SETS_MAX: Final = 1000  # that are remembered


class AuthRules(AuthRecords):
    """The records, and what follows from them. Without authentication everything is allowed."""

    def __init__(self, backend: Backend) -> None:
        self._permissions: dict[str, Permissions] = {}
        self._of_roles: dict[tuple[str, ...], Permissions] = {}  # of any users that have them
        self._identities: dict[str, Identity] = {}
        self._role_keys: dict[str, RoleKeys] = {}
        self._trees = Trees()
        super().__init__(backend)
        for name, role in self.roles.items():  # now, and not in the turn of the first check
            self._role_keys[name] = RoleKeys(self.grants_of(role))

    def adopt_rules(self, others: AuthRules) -> None:
        """`adopt`, with what follows from the records."""
        self.adopt(others)
        self._role_keys = others._role_keys
        self._forget()

    def put_role(self, role: auth_pb2.Role) -> None:
        super().put_role(role)
        name = intern(name_of(role.name))
        self._grants.pop(name, None)
        self._role_keys[name] = RoleKeys(self.grants_of(role))

    def put_changed_role(self, role: auth_pb2.Role, *, removed: Sequence[Grant] = (), added: Sequence[Grant] = ()) -> None:
        """`put_role` of one whose other permissions are as before: what it grants changes as little."""
        super().put_role(role)
        name = name_of(role.name)
        keys = self._role_keys.get(name)
        if keys is None:
            self._role_keys[name] = RoleKeys(self.grants_of(role))
        else:
            keys.change(removed, added)

    def remove_role(self, name: str) -> None:
        super().remove_role(name)
        del self._role_keys[name]

    def raise_revision(self) -> None:
        super().raise_revision()
        self._forget()

    def _forget(self) -> None:
        self._permissions = {}
        self._of_roles = {}
        self._identities = {}
        self._trees.clear()

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

    def take_search_work(self) -> int:
        """The work of the checks since the last call that had to ask many roles, in units of mvcc/work.py."""
        asked, self._trees.sets_asked = self._trees.sets_asked, 0
        return asked >> _SETS_SHIFT

    def grow_tree(self, identity: Identity, key: bytes, range_end: bytes, steps: int, *, to_read: bool, to_write: bool) -> bool:
        """Take some of the steps without which a check of this range takes long: where it holds no key, of a user with many
        permissions. Returns whether there may be more to do. Raises nothing.
        """
        if not is_empty(key, range_end) or not self.is_enabled or identity.revision < self.revision:
            return False
        if identity.username not in self.users:
            return False
        permissions = self._permissions_of(identity, key)
        if permissions.is_root:
            return False
        tree = permissions.readable.unfinished_tree(key, range_end) if to_read else None
        if tree is None and to_write:
            tree = permissions.writable.unfinished_tree(key, range_end)
        if tree is None:
            return False
        tree.grow(steps)
        return True

    def check_admin(self, identity: Identity) -> None:
        """Raises USER_EMPTY, USER_NOT_FOUND or PERMISSION_DENIED. The auth revision does not matter, as in etcd."""
        if not self.is_enabled:
            return
        if not identity.username:
            raise errors.USER_EMPTY
        if identity.username not in self.users:
            raise errors.USER_NOT_FOUND
        if not self.is_admin(identity):
            raise errors.PERMISSION_DENIED

    def is_admin(self, identity: Identity) -> bool:
        return ROOT in self.roles_of_user(identity.username)

    def has_role(self, username: str, role: str) -> bool:
        return role in self.roles_of_user(username)

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
            if identity.username not in self.users:
                logger.error("cannot find a user for permission check", extra=fields(user_name=identity.username))
                raise errors.PERMISSION_DENIED
            permissions = self._permissions_of_roles(self.roles_of_user(identity.username))
            self._permissions[identity.username] = permissions
        return permissions

    def _permissions_of_roles(self, names: tuple[str, ...]) -> Permissions:
        permissions = self._of_roles.get(names)
        if permissions is None:
            if len(self._of_roles) >= _ROLE_SETS_MAX:
                self._of_roles.clear()
                self._trees.clear()
            roles = [self._role_keys[name] for name in names if name in self._role_keys]
            permissions = self._of_roles[names] = Permissions(roles, self._trees, is_root=ROOT in names)
        return permissions

    def _log_old_revision(self, identity: Identity, key: bytes) -> None:
        named = {
            "current node auth revision": self.revision,
            "request auth revision": identity.revision,
            "request key": key,
            "error": "auth: revision in header is old",
        }
        logger.warning("request auth revision is less than current node auth revision", extra=fields(named))
