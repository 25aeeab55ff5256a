"""Users, roles and permissions: the replicated part of authentication, applied from the log.

Methods that apply an entry raise RequestError, nothing else; they are deterministic but for the tokens, which are this member's
own (tokens.py). Passwords arrive as bcrypt hashes: the member that was asked has made or verified them (services/auth.py).
Source: etcd server/auth/store.go.
"""

from __future__ import annotations

import binascii
import logging
from bisect import bisect_left, bisect_right
from typing import Final

from tercet import errors
from tercet.auth.permissions import Grant, is_grantable
from tercet.auth.records import name_of
from tercet.auth.rules import ROOT, AuthRules
from tercet.auth.tokens import NoTokens, Tokens
from tercet.log_fields import fields
from tercet.proto import auth_pb2, internal_pb2, rpc_pb2
from tercet.storage.interfaces import Backend

logger = logging.getLogger(__name__)

_ROOT_PERMISSION: Final = auth_pb2.Permission(permType=auth_pb2.Permission.READWRITE, range_end=b"\x00")


class AuthStore(AuthRules):
    """The auth state of one member. `tokens` are not part of it: they survive no restart, and of an installed snapshot those of
    users that have other passwords in it are revoked.
    """

    def __init__(self, backend: Backend, tokens: Tokens | None = None) -> None:
        """Raises StorageFailure for records that cannot be read."""
        self.tokens: Tokens = NoTokens() if tokens is None else tokens
        super().__init__(backend)

    def adopt_rules(self, others: AuthRules) -> None:
        """A snapshot has replaced the backend's content. The entries that it stands for may have revoked tokens. (etcd keeps
        them: with its old token a user goes on at this member after a change of the password.)
        """
        tokens = self.tokens
        if not others.is_enabled:
            tokens.revoke_all()
        for name in tokens.holders():
            user, other = self.users.get(name), others.users.get(name)
            if user is None or other is None or user.password != other.password:
                tokens.revoke(name)
        super().adopt_rules(others)

    # --- the flag and logins

    def enable(self) -> None:
        """Raises ROOT_USER_NOT_FOUND or ROOT_ROLE_NOT_FOUND. The auth revision stays."""
        if self.is_enabled:
            logger.info("authentication is already enabled; ignored auth enable request")
            return
        root = self.users.get(ROOT)
        if root is None:
            raise errors.ROOT_USER_NOT_FOUND
        if ROOT not in root.roles:
            raise errors.ROOT_ROLE_NOT_FOUND
        self.set_enabled(True)
        logger.info("enabled authentication")

    def disable(self) -> None:
        """All tokens become invalid."""
        if not self.is_enabled:
            return
        self.set_enabled(False)
        self.raise_revision()
        self.tokens.revoke_all()
        logger.info("disabled authentication")

    def authenticate(self, request: internal_pb2.InternalAuthenticateRequest, index: int, issued_index: int) -> str:
        """Register the token of a user whose password the proposer has verified; the indexes are those of `Tokens.assign`.

        Returns the token; "" if the proposer is to sign one. Raises AUTH_NOT_ENABLED or AUTH_FAILED.
        """
        if not self.is_enabled:
            raise errors.AUTH_NOT_ENABLED
        user = self.users.get(request.name)
        if user is None or user.options.no_password:
            raise errors.AUTH_FAILED
        return self.tokens.assign(request.name, request.simple_token, index, issued_index)

    # --- users

    def add_user(self, request: rpc_pb2.AuthUserAddRequest) -> None:
        """Raises USER_EMPTY, USER_EXISTS or NO_PASSWORD_USER (the hash is not base64)."""
        if not request.name:
            raise errors.USER_EMPTY
        if request.name in self.users:
            raise errors.USER_EXISTS
        user = auth_pb2.User(name=request.name.encode(), options=request.options)
        if not user.options.no_password:
            user.password = _decode_hash(request.hashedPassword)
        self.put_user(user)
        self.raise_revision()
        logger.info("added a user", extra=fields(user_name=request.name))

    def delete_user(self, name: str) -> None:
        """Raises INVALID_AUTH_MANAGEMENT (root, while enabled) or USER_NOT_FOUND."""
        if self.is_enabled and name == ROOT:
            logger.error("cannot delete 'root' user", extra=fields(user_name=name))
            raise errors.INVALID_AUTH_MANAGEMENT
        self.user(name)
        roles = list(self.roles_of_user(name))
        self.remove_user(name)
        self.raise_revision()
        self.tokens.revoke(name)
        logger.info("deleted a user", extra=fields(user_name=name, user_roles=roles))

    def change_password(self, request: rpc_pb2.AuthUserChangePasswordRequest) -> None:
        """Raises USER_NOT_FOUND or NO_PASSWORD_USER (the hash is not base64)."""
        user = self.user(request.name)
        password = b""
        if not user.options.no_password:
            password = _decode_hash(request.hashedPassword)
        user.password = password
        self.put_user(user)
        self.raise_revision()
        self.tokens.revoke(request.name)
        roles = list(self.roles_of_user(request.name))
        logger.info("changed a password of a user", extra=fields(user_name=request.name, user_roles=roles))

    def grant_role(self, username: str, role: str) -> None:
        """Granting a role twice changes nothing. Raises USER_NOT_FOUND or ROLE_NOT_FOUND; role root need not exist."""
        user = self.user(username)
        if role != ROOT and role not in self.roles:
            raise errors.ROLE_NOT_FOUND
        roles = list(self.roles_of_user(username))
        if role in roles:
            shown = fields(user_name=username, user_roles=roles, duplicate_role_name=role)
            logger.warning("ignored grant role request to a user", extra=shown)
            return
        at = bisect_left(roles, role)
        roles.insert(at, role)
        user.roles.insert(at, role)  # to set all of them checks the UTF-8 of all
        self.put_user(user)
        self.raise_revision()
        shown = fields(user_name=username, user_roles=roles, added_role_name=role)
        logger.info("granted a role to a user", extra=shown)

    def revoke_role(self, username: str, role: str) -> None:
        """Raises INVALID_AUTH_MANAGEMENT (root of root, while enabled), USER_NOT_FOUND or ROLE_NOT_GRANTED."""
        if self.is_enabled and username == ROOT and role == ROOT:
            logger.error("'root' user cannot revoke 'root' role", extra=fields(user_name=username, role_name=role))
            raise errors.INVALID_AUTH_MANAGEMENT
        user = self.user(username)
        before = list(self.roles_of_user(username))
        if not self._remove_role(user, role):
            raise errors.ROLE_NOT_GRANTED
        self.raise_revision()
        left = [one for one in before if one != role]
        shown = fields(user_name=username, old_user_roles=before, new_user_roles=left, revoked_role_name=role)
        logger.info("revoked a role from a user", extra=shown)

    def roles_of(self, username: str) -> list[str]:
        """Raises USER_NOT_FOUND."""
        self.user(username)
        return list(self.roles_of_user(username))

    # --- roles

    def add_role(self, name: str) -> None:
        """Raises ROLE_EMPTY or ROLE_EXISTS."""
        if not name:
            raise errors.ROLE_EMPTY
        if name in self.roles:
            raise errors.ROLE_EXISTS
        self.put_role(auth_pb2.Role(name=name.encode()))
        self.raise_revision()
        logger.info("created a role", extra=fields(role_name=name))

    def delete_role(self, name: str) -> list[str]:
        """Returns the users from whose records it must be removed, by `remove_role_of`, before the next request is applied.

        They have lost it already. Raises INVALID_AUTH_MANAGEMENT (root, while enabled) or ROLE_NOT_FOUND.
        """
        if self.is_enabled and name == ROOT:
            logger.error("cannot delete 'root' role", extra=fields(role_name=name))
            raise errors.INVALID_AUTH_MANAGEMENT
        self.remove_role(name)
        self.raise_revision()
        logger.info("deleted a role", extra=fields(role_name=name))
        return list(self.users)

    def remove_role_of(self, username: str, role: str) -> None:
        self._remove_role(self.users[username], role)

    def grant_permission(self, request: rpc_pb2.AuthRoleGrantPermissionRequest) -> None:
        """Raises PERMISSION_NOT_GIVEN, INVALID_AUTH_MANAGEMENT (a range without keys) or ROLE_NOT_FOUND."""
        if not request.HasField("perm"):
            raise errors.PERMISSION_NOT_GIVEN
        new = request.perm
        if not is_grantable(new.key, new.range_end):
            raise errors.INVALID_AUTH_MANAGEMENT
        role = self.role(request.name)
        # Only the first permission of a key is compared, as in etcd: one with another end behind it is added again.
        granted = (new.key, new.range_end, int(new.permType))
        grants = self.grants_of(role)
        removed: list[Grant] = []
        first = bisect_left(grants, new.key, key=_key_of)
        if first < len(grants) and grants[first][:2] == granted[:2]:
            removed = [grants[first]]
            grants[first] = granted
            role.keyPermission[first].permType = new.permType
        else:
            after = bisect_right(grants, new.key, key=_key_of)
            grants.insert(after, granted)
            role.keyPermission.insert(after, auth_pb2.Permission(permType=new.permType, key=new.key, range_end=new.range_end))
        self.put_changed_role(role, removed=removed, added=[granted])
        self.raise_revision()
        kind = auth_pb2.Permission.Type.Name(new.permType) if new.permType in auth_pb2.Permission.Type.values() else ""
        shown = fields(user_name=request.name, permission_name=kind, key=new.key, range_end=new.range_end)
        logger.info("granted/updated a permission to a user", extra=shown)  # etcd says user, and means the role

    def revoke_permission(self, request: rpc_pb2.AuthRoleRevokePermissionRequest) -> None:
        """Raises ROLE_NOT_FOUND or PERMISSION_NOT_GRANTED (no permission has exactly this range)."""
        role = self.role(request.role)
        grants = self.grants_of(role)
        of_key = range(bisect_left(grants, request.key, key=_key_of), bisect_right(grants, request.key, key=_key_of))
        revoked = [at for at in of_key if grants[at][1] == request.range_end]
        if not revoked:
            raise errors.PERMISSION_NOT_GRANTED
        removed = [grants[at] for at in revoked]
        for at in reversed(revoked):
            del grants[at]
            del role.keyPermission[at]
        self.put_changed_role(role, removed=removed)
        self.raise_revision()
        shown = fields(role_name=request.role, key=request.key, range_end=request.range_end)
        logger.info("revoked a permission on range", extra=shown)

    def encoded_permissions_of(self, role: str) -> bytes:
        """An AuthRoleGetResponse: as granted; role root has all of them, once it exists. Raises ROLE_NOT_FOUND."""
        found = self.role(role)
        if role == ROOT:
            return rpc_pb2.AuthRoleGetResponse(perm=[_ROOT_PERMISSION]).SerializeToString()
        name_bytes = auth_pb2.Role(name=found.name).ByteSize()
        return found.SerializeToString(deterministic=True)[name_bytes:]  # field perm has the number of field keyPermission

    def _remove_role(self, user: auth_pb2.User, role: str) -> bool:
        roles = self.roles_of_user(name_of(user.name))
        if role not in roles:
            return False
        del user.roles[roles.index(role)]
        self.put_user(user)
        return True


def _key_of(grant: Grant) -> bytes:
    return grant[0]


def _decode_hash(hashed: str) -> bytes:
    """Decode base64 as Go does: line breaks are skipped. Raises NO_PASSWORD_USER, as etcd does."""
    try:
        return binascii.a2b_base64(hashed.replace("\r", "").replace("\n", ""), strict_mode=True)
    except ValueError:
        raise errors.NO_PASSWORD_USER from None
