"""Choice of the next request about users and roles, and of the user that sends a request."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Final

from tercet.proto import auth_pb2, rpc_pb2
from tercet.sim.auth_model import ROOT

_USERS: Final = (ROOT, "ann", "bob")
_ROLES: Final = (ROOT, "reader", "writer", "reader", "writer")
_CALLERS: Final = (ROOT, "ann", "ann", "ann", "ann", "bob", "")
_RANGES: Final = (  # no two begin with the same key
    (b"set-", b"set."),
    (b"set-0", b"set-2"),
    (b"set-1", b""),
    (b"set-2", b"set-4"),
    (b"set-3", b"\0"),
)
_ADJACENT: Final = ((b"set-0", b"set-2"), (b"set-2", b"set-4"))  # a range over both needs the two
_KINDS: Final = (auth_pb2.Permission.READ, auth_pb2.Permission.WRITE, auth_pb2.Permission.READWRITE)
_HASH: Final = "aGFzaA=="
_STALE_CHANCE: Final = 0.1  # of a request: it carries a signed token of an earlier auth revision


def _set_up(random: Random) -> list[Any]:
    """What enables authentication, with one user that may do something."""
    return [
        rpc_pb2.AuthUserAddRequest(name=ROOT, hashedPassword=_HASH),
        rpc_pb2.AuthUserGrantRoleRequest(user=ROOT, role=ROOT),
        rpc_pb2.AuthRoleAddRequest(name="writer"),
        *(
            _grant("writer", auth_pb2.Permission.READWRITE, *bounds)
            for bounds in random.choice((_ADJACENT, random.sample(_RANGES, 2)))
        ),
        rpc_pb2.AuthUserAddRequest(name="ann", options=auth_pb2.UserAddOptions(no_password=True)),
        rpc_pb2.AuthUserGrantRoleRequest(user="ann", role="writer"),
        rpc_pb2.AuthEnableRequest(),
    ]


def _grant(
    role: str, kind: auth_pb2.Permission.Type.ValueType, key: bytes, range_end: bytes
) -> rpc_pb2.AuthRoleGrantPermissionRequest:
    return rpc_pb2.AuthRoleGrantPermissionRequest(
        name=role, perm=auth_pb2.Permission(permType=kind, key=key, range_end=range_end)
    )


class AuthWorkload:
    """Draws auth requests: mostly those that enable authentication, until a reply shows that it is enabled; then any."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._set_up = _set_up(random)
        self._steps = 0
        self._set_up_chance = random.choice((0.2, 0.9))  # the same permissions for some time, or always others
        self._newest = (1, False)

    def seen(self, auth: tuple[int, bool]) -> None:
        """A reply was made at this auth revision, with authentication enabled or not."""
        self._newest = max(self._newest, auth)

    def caller(self) -> tuple[str, int]:
        """The user that sends a request, and the auth revision of its token, or 0 for a token that has none."""
        random = self._random
        user = random.choice(_CALLERS)
        stale = random.random() < _STALE_CHANCE
        return user, max(1, self._newest[0] - random.randint(0, 2)) if stale else 0

    def draw(self) -> Any:
        random = self._random
        if not self._newest[1] and random.random() < 0.9:
            if self._steps >= len(self._set_up) and random.random() < 0.4:
                return rpc_pb2.AuthEnableRequest()
            self._steps += 1
            return self._set_up[(self._steps - 1) % len(self._set_up)]
        if random.random() < self._set_up_chance:
            return random.choice(self._set_up)  # some were lost
        make: Callable[[], Any] = random.choice(
            (
                rpc_pb2.AuthEnableRequest,
                lambda: rpc_pb2.AuthDisableRequest() if random.random() < 0.3 else self._grant(),
                self._user_add,
                self._user_add,
                lambda: rpc_pb2.AuthUserDeleteRequest(name=self._user()),
                lambda: rpc_pb2.AuthUserChangePasswordRequest(name=self._user(), hashedPassword=_HASH),
                lambda: rpc_pb2.AuthUserGrantRoleRequest(user=self._user(), role=self._role()),
                lambda: rpc_pb2.AuthUserGrantRoleRequest(user=self._user(), role=self._role()),
                lambda: rpc_pb2.AuthUserRevokeRoleRequest(name=self._user(), role=self._role()),
                lambda: rpc_pb2.AuthRoleAddRequest(name=self._role()),
                lambda: rpc_pb2.AuthRoleDeleteRequest(role=self._role()),
                *[self._grant] * 4,
                self._revoke,
                self._revoke,
            )
        )
        return make()

    def _user_add(self) -> Any:
        if self._random.random() < 0.5:
            return rpc_pb2.AuthUserAddRequest(name=self._user(), options=auth_pb2.UserAddOptions(no_password=True))
        return rpc_pb2.AuthUserAddRequest(name=self._user(), hashedPassword=_HASH)

    def _grant(self) -> Any:
        return _grant(self._role(), self._random.choice(_KINDS), *self._random.choice(_RANGES))

    def _revoke(self) -> Any:
        key, range_end = self._random.choice(_RANGES)
        return rpc_pb2.AuthRoleRevokePermissionRequest(role=self._role(), key=key, range_end=range_end)

    def _user(self) -> str:
        return self._random.choice(_USERS)

    def _role(self) -> str:
        return self._random.choice(_ROLES)
