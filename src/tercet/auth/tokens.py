"""Tokens: what a client sends with each call after it has authenticated.

`Tokens` is what the auth store and the services need of any kind. Here are simple tokens and none at all; jwt.py has JSON Web
Tokens. Tokens are never logged, only their `fingerprint`.
Source: etcd server/auth/simple_token.go and nop.go.
"""

from __future__ import annotations

import hashlib
import secrets
import string
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from tercet.errors import AUTH_FAILED

_PREFIX_LETTERS: Final = 16
_SWEPT_PER_LOGIN: Final = 4
_UINT64: Final = (1 << 64) - 1


class Claim:
    """What a valid token says. `revision`: the auth revision that it was issued at; None: it is valid at any."""

    __slots__ = ("revision", "username")

    def __init__(self, username: str, revision: int | None = None) -> None:
        self.username = username
        self.revision = revision


class Tokens(Protocol):
    """One kind of token, on one member."""

    def new_prefix(self) -> str:
        """The random part of a new token, which goes through the log; empty for kinds that are signed."""
        ...

    def assign(self, username: str, prefix: str, index: int, issued_index: int) -> str:
        """Register the token of the Authenticate entry at `index`, on every member. Returns it; "" if it is to be signed.

        issued_index: the one that the token returned names.
        Raises AUTH_FAILED.
        """
        ...

    def sign(self, username: str, revision: int) -> str:
        """A signed token, made by the member that was asked. Raises TOKEN_VERIFY_ONLY."""
        ...

    def find(self, token: bytes) -> Claim | None:
        """What a token of a call says; None if it is not valid."""
        ...

    def index_of(self, token: bytes) -> int:
        """The log index that a member must have applied to know the token; 0 where that does not matter."""
        ...

    def revoke(self, username: str) -> None:
        """Forget the tokens of a user."""
        ...

    def revoke_all(self) -> None: ...

    def holders(self) -> list[str]:
        """The users that may have a token which `revoke` would end."""
        ...


class NoTokens:
    """`--auth-token ''`: clients are identified by their certificates alone."""

    def new_prefix(self) -> str:
        return ""

    def assign(self, username: str, prefix: str, index: int, issued_index: int) -> str:
        raise AUTH_FAILED

    def sign(self, username: str, revision: int) -> str:
        raise AUTH_FAILED

    def find(self, token: bytes) -> Claim | None:
        return None

    def index_of(self, token: bytes) -> int:
        return 0

    def revoke(self, username: str) -> None: ...

    def revoke_all(self) -> None: ...

    def holders(self) -> list[str]:
        return []


class _Revocable:
    """What the tokens of a user share: revoking them is one assignment, since a user may have 100,000."""

    __slots__ = ("is_revoked",)

    def __init__(self) -> None:
        self.is_revoked = False


class _Session:
    """A simple token that is in use. names: its forms."""

    __slots__ = ("claim", "names", "shared", "valid_until")

    def __init__(self, claim: Claim, names: tuple[bytes, bytes], shared: _Revocable, valid_until: float) -> None:
        self.claim = claim
        self.names = names
        self.shared = shared
        self.valid_until = valid_until


class SimpleTokens:
    """Random tokens, kept in memory: 16 letters, a point, and a log index.

    etcd until 3.5.2 names the index of the token's own entry, later ones that of the entry before. Members of all versions must
    know each other's tokens: both forms are valid, and share one lifetime.
    The random part is in the entry, so every member knows the token once it has applied it. On each member its lifetime runs
    from its last use there; a restart forgets all. Each login looks at a few of the others, in turn, and forgets the invalid.
    """

    def __init__(self, *, clock: Callable[[], float], ttl_seconds: float) -> None:
        self._clock = clock
        self._ttl_seconds = ttl_seconds
        self._sessions: dict[bytes, _Session] = {}
        self._to_sweep: deque[_Session] = deque()
        self._of_users: dict[str, _Revocable] = {}

    def new_prefix(self) -> str:
        return "".join(secrets.choice(string.ascii_letters) for _ in range(_PREFIX_LETTERS))

    def assign(self, username: str, prefix: str, index: int, issued_index: int) -> str:
        now = self._clock()
        self._sweep(now)
        shared = self._of_users.get(username)
        if shared is None:
            shared = self._of_users[username] = _Revocable()
        names = (f"{prefix}.{index - 1}".encode(), f"{prefix}.{index}".encode())
        session = _Session(Claim(username), names, shared, now + self._ttl_seconds)
        for name in names:
            self._sessions[name] = session
        self._to_sweep.append(session)
        return f"{prefix}.{issued_index}"

    def _sweep(self, now: float) -> None:
        for _ in range(min(_SWEPT_PER_LOGIN, len(self._to_sweep))):
            session = self._to_sweep.popleft()
            if session.valid_until >= now and not session.shared.is_revoked:
                self._to_sweep.append(session)
                continue
            for name in session.names:
                if self._sessions.get(name) is session:
                    del self._sessions[name]

    def sign(self, username: str, revision: int) -> str:
        raise AUTH_FAILED

    def find(self, token: bytes) -> Claim | None:
        """A use of the token: its lifetime starts again."""
        session = self._sessions.get(token)
        if session is None:
            return None
        now = self._clock()
        if session.valid_until < now or session.shared.is_revoked:
            del self._sessions[token]
            return None
        session.valid_until = now + self._ttl_seconds
        return session.claim

    def index_of(self, token: bytes) -> int:
        if token in self._sessions:
            return 0
        prefix, point, digits = token.partition(b".")
        if not point or not digits.isdigit() or not prefix:
            return 0
        index = int(digits) if len(digits) <= 20 else _UINT64
        return index + 1 if index < _UINT64 else 0  # the token's entry may be the next one

    def revoke(self, username: str) -> None:
        shared = self._of_users.pop(username, None)
        if shared is not None:
            shared.is_revoked = True

    def revoke_all(self) -> None:
        self._sessions.clear()
        self._to_sweep.clear()
        self._of_users.clear()

    def holders(self) -> list[str]:
        return list(self._of_users)


def fingerprint(token: bytes) -> str:
    """What logs show of a token: the first 12 digits of its SHA-256, as in etcd."""
    return hashlib.sha256(token).hexdigest()[:12]
