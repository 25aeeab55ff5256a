"""The records of authentication in the backend: the flag, the auth revision, the users and the roles.

Stored in etcd's buckets and encodings, and kept in memory: `auth` holds flag and revision, `authUsers` and `authRoles` the
records by name. Every change of a user, a role or the flag raises the auth revision, except enabling.
Source: etcd server/storage/schema/auth.go, auth_users.go, auth_roles.go.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from google.protobuf.message import DecodeError

from tercet.auth.permissions import Grant
from tercet.errors import ROLE_NOT_FOUND, USER_NOT_FOUND, StorageFailure
from tercet.proto import auth_pb2
from tercet.storage.interfaces import Backend, Bucket

_ENABLED_KEY: Final = b"authEnabled"  # one byte, 1 or 0
_REVISION_KEY: Final = b"authRevision"  # eight bytes, big endian


class AuthRecords:
    """is_enabled: one attribute, so that a request without authentication pays for nothing else. revision: at least 1.

    role_bytes_written: encoded roles, since the start.
    """

    def __init__(self, backend: Backend) -> None:
        """Raises StorageFailure for records that cannot be read."""
        self._backend = backend
        self.role_bytes_written = 0
        self._grants: dict[str, list[Grant]] = {}
        self._read()

    def load(self) -> None:
        """Read everything again: a snapshot has replaced the backend's content."""
        self._read()

    def _read(self) -> None:
        backend = self._backend
        self.users = {_name(key): _user(key, raw) for key, raw in backend.scan(Bucket.AUTH_USERS)}
        self.roles = {_name(key): _role(key, raw) for key, raw in backend.scan(Bucket.AUTH_ROLES)}
        self._grants = {}
        for role in self.roles.values():
            self.grants_of(role)  # now, before the member serves, and not in the turn of the first check
        self.is_enabled = backend.get(Bucket.AUTH, _ENABLED_KEY) == b"\x01"
        self.revision = int.from_bytes(backend.get(Bucket.AUTH, _REVISION_KEY) or b"", "big")
        if self.revision == 0:
            self.revision = 1
            self._put_revision()

    def user(self, name: str) -> auth_pb2.User:
        """Raises USER_NOT_FOUND."""
        user = self.users.get(name)
        if user is None:
            raise USER_NOT_FOUND
        return user

    def role(self, name: str) -> auth_pb2.Role:
        """Raises ROLE_NOT_FOUND."""
        role = self.roles.get(name)
        if role is None:
            raise ROLE_NOT_FOUND
        return role

    def grants_of(self, role: auth_pb2.Role) -> list[Grant]:
        """The role's permissions, sorted by key, as tuples: reading the fields of a message takes ten times as long."""
        name = _name(role.name)
        grants = self._grants.get(name)
        if grants is None:
            grants = self._grants[name] = [(one.key, one.range_end, one.permType) for one in role.keyPermission]
        return grants

    def put_user(self, user: auth_pb2.User) -> None:
        self.users[_name(user.name)] = user
        self._backend.put(Bucket.AUTH_USERS, user.name, user.SerializeToString(deterministic=True))

    def put_role(self, role: auth_pb2.Role) -> None:
        self.roles[_name(role.name)] = role
        encoded = role.SerializeToString(deterministic=True)
        self.role_bytes_written += len(encoded)
        self._backend.put(Bucket.AUTH_ROLES, role.name, encoded)

    def remove_user(self, name: str) -> None:
        """Raises USER_NOT_FOUND."""
        self._backend.delete(Bucket.AUTH_USERS, self.user(name).name)
        del self.users[name]

    def remove_role(self, name: str) -> None:
        """Raises ROLE_NOT_FOUND."""
        self._backend.delete(Bucket.AUTH_ROLES, self.role(name).name)
        del self.roles[name]
        self._grants.pop(name, None)

    def set_enabled(self, is_enabled: bool) -> None:
        self.is_enabled = is_enabled
        self._backend.put(Bucket.AUTH, _ENABLED_KEY, b"\x01" if is_enabled else b"\x00")

    def raise_revision(self) -> None:
        """Something has changed: what was decided before is not valid any more."""
        self.revision += 1
        self._put_revision()

    def _put_revision(self) -> None:
        self._backend.put(Bucket.AUTH, _REVISION_KEY, self.revision.to_bytes(8, "big"))


def set_roles(user: auth_pb2.User, roles: Iterable[str]) -> None:
    """Replace a user's roles, sorted."""
    replacement = sorted(roles)
    del user.roles[:]
    user.roles.extend(replacement)


def _name(key: bytes) -> str:
    return key.decode("utf-8", "surrogateescape")


def _user(key: bytes, raw: bytes) -> auth_pb2.User:
    try:
        return auth_pb2.User.FromString(raw)
    except DecodeError as error:
        raise StorageFailure(f"backend, bucket authUsers, {key!r}: not a user") from error


def _role(key: bytes, raw: bytes) -> auth_pb2.Role:
    try:
        return auth_pb2.Role.FromString(raw)
    except DecodeError as error:
        raise StorageFailure(f"backend, bucket authRoles, {key!r}: not a role") from error
