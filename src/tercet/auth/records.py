"""The records of authentication in the backend: the flag, the auth revision, the users and the roles.

Stored in etcd's buckets and encodings, and kept in memory: `auth` holds flag and revision, `authUsers` and `authRoles` the
records by name. Every change of a user, a role or the flag raises the auth revision, except enabling.
Source: etcd server/storage/schema/auth.go, auth_users.go, auth_roles.go.
"""

from __future__ import annotations

from sys import intern
from typing import Final

from google.protobuf.message import DecodeError

from tercet.auth.permissions import Grant
from tercet.containers.sorted_keys import SortedKeys
from tercet.errors import ROLE_NOT_FOUND, USER_NOT_FOUND, StorageFailure
from tercet.proto import auth_pb2
from tercet.proto.wire import paste_field
from tercet.storage.interfaces import Backend, Bucket

_ENABLED_KEY: Final = b"authEnabled"  # one byte, 1 or 0
_REVISION_KEY: Final = b"authRevision"  # eight bytes, big endian
_USER_ROLES: Final = 3  # the field of a User


class AuthRecords:
    """is_enabled: one attribute, so that a request without authentication pays for nothing else. revision: at least 1.

    user_names, role_names: encoded. role_bytes_written, user_bytes_written: encoded roles and users, since the start.
    """

    def __init__(self, backend: Backend) -> None:
        """Raises StorageFailure for records that cannot be read."""
        self._backend = backend
        self.role_bytes_written = 0
        self.user_bytes_written = 0
        self._grants: dict[str, list[Grant]] = {}
        self._roles_of: dict[str, tuple[str, ...]] = {}
        self.user_names = SortedKeys()
        self.role_names = SortedKeys()
        self.users = {name_of(key): _user(key, raw) for key, raw in backend.scan(Bucket.AUTH_USERS)}
        self.roles = {intern(name_of(key)): _role(key, raw) for key, raw in backend.scan(Bucket.AUTH_ROLES)}
        self.user_names.load(sorted([_key(name) for name in self.users]))
        self.role_names.load(sorted([_key(name) for name in self.roles]))
        self.is_enabled = backend.get(Bucket.AUTH, _ENABLED_KEY) == b"\x01"
        self.revision = self._stored_revision() or 1
        self._put_first_revision()

    def adopt(self, others: AuthRecords) -> None:
        """A snapshot has replaced the backend's content; `others` have been read from it before."""
        self.users, self.user_names = others.users, others.user_names
        self.roles, self.role_names = others.roles, others.role_names
        self._grants = others._grants
        self._roles_of = {}
        self.is_enabled = others.is_enabled
        self.revision = others.revision
        self._put_first_revision()

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
        name = name_of(role.name)
        grants = self._grants.get(name)
        if grants is None:
            grants = self._grants[name] = [(one.key, one.range_end, one.permType) for one in role.keyPermission]
        return grants

    def roles_of_user(self, name: str) -> tuple[str, ...]:
        """Empty for a user that does not exist.

        A message copies each of its names whenever they are looked at. Here they are the keys of `roles`: nothing compares
        them again, though they may have a megabyte.
        """
        roles = self._roles_of.get(name)
        if roles is None:
            user = self.users.get(name)
            roles = () if user is None else tuple([intern(role) for role in user.roles])
            if user is not None:
                self._roles_of[name] = roles
        return roles

    def put_user(self, user: auth_pb2.User) -> None:
        name = name_of(user.name)
        self._roles_of.pop(name, None)
        if name not in self.users:
            self.user_names.add(user.name)
        self.users[name] = user
        encoded = _encoded_user(user)
        self.user_bytes_written += len(encoded)
        self._backend.put(Bucket.AUTH_USERS, user.name, encoded)

    def put_role(self, role: auth_pb2.Role) -> None:
        name = intern(name_of(role.name))
        if name not in self.roles:
            self.role_names.add(role.name)
        self.roles[name] = role
        encoded = role.SerializeToString(deterministic=True)
        self.role_bytes_written += len(encoded)
        self._backend.put(Bucket.AUTH_ROLES, role.name, encoded)

    def remove_user(self, name: str) -> None:
        """Raises USER_NOT_FOUND."""
        self._backend.delete(Bucket.AUTH_USERS, self.user(name).name)
        self.user_names.remove(_key(name))
        del self.users[name]
        self._roles_of.pop(name, None)

    def remove_role(self, name: str) -> None:
        """Raises ROLE_NOT_FOUND."""
        self._backend.delete(Bucket.AUTH_ROLES, self.role(name).name)
        self.role_names.remove(_key(name))
        del self.roles[name]
        self._grants.pop(name, None)

    def set_enabled(self, is_enabled: bool) -> None:
        self.is_enabled = is_enabled
        self._backend.put(Bucket.AUTH, _ENABLED_KEY, b"\x01" if is_enabled else b"\x00")

    def raise_revision(self) -> None:
        """Something has changed: what was decided before is not valid any more."""
        self.revision += 1
        self._put_revision()

    def _stored_revision(self) -> int:
        return int.from_bytes(self._backend.get(Bucket.AUTH, _REVISION_KEY) or b"", "big")

    def _put_first_revision(self) -> None:
        if not self._stored_revision():
            self._put_revision()

    def _put_revision(self) -> None:
        self._backend.put(Bucket.AUTH, _REVISION_KEY, self.revision.to_bytes(8, "big"))


def name_of(key: bytes) -> str:
    return key.decode("utf-8", "surrogateescape")


def _key(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _encoded_user(user: auth_pb2.User) -> bytes:
    """The stored record. By hand, as far as its roles go: protobuf takes 40 ms to write 20 names of 1 MB."""
    parts = [auth_pb2.User(name=user.name, password=user.password).SerializeToString(deterministic=True)]
    for role in user.roles:
        parts.append(paste_field(_USER_ROLES, role.encode()))
    if user.HasField("options"):
        parts.append(auth_pb2.User(options=user.options).SerializeToString(deterministic=True))
    return b"".join(parts)


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
