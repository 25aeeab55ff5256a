"""Who sent a request, and the auth revision that this was established at: both travel with the request in its log entry."""

from __future__ import annotations

from typing import Final

from tercet.proto.wire import encode_varint

_USERNAME_TAG: Final = b"\x12"
_AUTH_REVISION_TAG: Final = b"\x18"


class Identity:
    """A user at an auth revision. Two uses: a call that was authenticated, and the header of an entry."""

    __slots__ = ("_encoded", "revision", "username")

    def __init__(self, username: str, revision: int) -> None:
        self.username = username
        self.revision = revision
        self._encoded: bytes | None = None

    def __repr__(self) -> str:
        return f"Identity({self.username!r}, {self.revision})"

    @property
    def encoded(self) -> bytes:
        """Fields 2 and 3 of etcd's RequestHeader; empty for NOBODY."""
        encoded = self._encoded
        if encoded is None:
            encoded = b""
            if self.username:
                name = self.username.encode()
                encoded = _USERNAME_TAG + encode_varint(len(name)) + name
            if self.revision:
                encoded += _AUTH_REVISION_TAG + encode_varint(self.revision)
            self._encoded = encoded
        return encoded


NOBODY: Final = Identity("", 0)
"""No user was named; with authentication disabled, every call."""
