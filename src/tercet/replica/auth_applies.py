"""Requests about users and roles that may take several slices: of these there may be 100,000, with names of a megabyte each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from tercet.auth import AuthStore
from tercet.mvcc import Answer, Apply, Budget
from tercet.mvcc.work import BYTES_SHIFT, VISIT, WRITE
from tercet.proto.wire import paste_field, varint
from tercet.replica.requests import AppliedRequest

_ROLE_BYTES_SHIFT: Final = 3  # one unit of work for each 8 bytes of a role: a permission is some 16, and costs 2 us
_USER_BYTES_SHIFT: Final = 10  # and for each KiB of a user: its roles may have names of a megabyte
_CHUNK: Final = 64  # names between two looks at the budget
_LARGE_BYTES: Final = 16 << 10  # of names that are not copied
_NAMES: Final = 2  # the field of UserList's, UserGet's and RoleList's response


class RecordChange(Apply):
    """A change that writes all of a role or of a user: many of them are not for one turn.

    Raises what the handler raises.
    """

    __slots__ = ("_auth", "_handler", "_request", "_response")

    def __init__(self, auth: AuthStore, handler: Callable[[AppliedRequest], bytes], request: AppliedRequest) -> None:
        self.is_awaited = False
        self._auth = auth
        self._handler = handler
        self._request = request
        self._response = b""

    def step(self, budget: Budget) -> bool:
        before = _written(self._auth)
        self._response = self._handler(self._request)
        budget.left -= _written(self._auth) - before
        return False

    def outcome(self) -> bytes:
        return self._response


def _written(auth: AuthStore) -> int:
    """The work of writing all records so far."""
    return (auth.role_bytes_written >> _ROLE_BYTES_SHIFT) + (auth.user_bytes_written >> _USER_BYTES_SHIFT)


class RoleDeletion(Apply):
    """The role ends in the first slice, and what the records of its users say of it in this one and others.

    Raises INVALID_AUTH_MANAGEMENT or ROLE_NOT_FOUND.
    """

    __slots__ = ("_auth", "_is_begun", "_role", "_users")

    def __init__(self, auth: AuthStore, role: str) -> None:
        self.is_awaited = False
        self._auth = auth
        self._role = role
        self._is_begun = False
        self._users: list[str] = []

    def step(self, budget: Budget) -> bool:
        """See `work.Steps`."""
        if not self._is_begun:
            self._users = self._auth.delete_role(self._role)
            self._is_begun = True
        while self._users and budget.left > 0:
            before = _written(self._auth)
            self._auth.remove_role_of(self._users.pop(), self._role)
            budget.left -= WRITE + _written(self._auth) - before
        return bool(self._users)

    def outcome(self) -> bytes:
        return b""


class NameList(Apply):
    """All names at this point of the log, for a client that waits."""

    __slots__ = ("_all", "_names")

    def __init__(self, all_names: Callable[[], list[bytes]]) -> None:
        self.is_awaited = False
        self._all = all_names
        self._names: list[bytes] = []

    def step(self, budget: Budget) -> bool:
        """See `work.Steps`."""
        if self.is_awaited:
            self._names = self._all()
        return False

    def outcome(self) -> Answer:
        return NamesAnswer(self._names)


class NamesAnswer(Answer):
    """An encoded list of names."""

    __slots__ = ("_at", "_bytes", "_names")

    def __init__(self, names: list[bytes]) -> None:
        self.parts = []
        self._names = names
        self._at = 0
        self._bytes = 0

    def step(self, budget: Budget) -> bool:
        """See `work.Steps`."""
        while self._at < len(self._names):
            if budget.left <= 0:
                return True
            small: list[bytes] = []
            for name in self._names[self._at : self._at + _CHUNK]:
                if len(name) < _LARGE_BYTES:
                    small.append(paste_field(_NAMES, name))
                else:
                    small.append(b"\x12" + varint(len(name)))
                    self.parts += (b"".join(small), name)
                    small = []
            self.parts.append(joined := b"".join(small))
            self._at += _CHUNK
            self._bytes += len(joined)
            budget.left -= _CHUNK * VISIT + (len(joined) >> BYTES_SHIFT)
        return False

    @property
    def size_bytes(self) -> int:
        """Large names are shared."""
        return self._bytes


def encode_names(names: Iterable[str]) -> bytes:
    """An encoded list of names. Protobuf takes ten times as long for large ones."""
    return b"".join([paste_field(_NAMES, name.encode()) for name in names])
