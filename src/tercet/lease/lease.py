"""One lease: what the log says of it, and what the leader's clock adds."""

from __future__ import annotations

from collections.abc import KeysView
from typing import Final

NEVER_PROMOTED: Final = 0


class Lease:
    """ttl_seconds: as granted. remaining_seconds: as of the last checkpoint; 0 without one. is_gone: it has been revoked.

    The rest is written by `Expiry` on the leader alone, and is meaningless where `promotion` is not the current one.
    expires_at: seconds, on the leader's clock. due: when to look at the lease again, <= expires_at unless a revoke is retried.
    position: in the heap of deadlines, -1 outside. is_ending: a revoke is proposed. is_checkpointing: a checkpoint is proposed.
    """

    __slots__ = (
        "_keys",
        "due",
        "expires_at",
        "id",
        "is_checkpointing",
        "is_ending",
        "is_gone",
        "position",
        "promotion",
        "remaining_seconds",
        "ttl_seconds",
    )

    def __init__(self, id: int, ttl_seconds: int, remaining_seconds: int = 0) -> None:
        self.id = id
        self.ttl_seconds = ttl_seconds
        self.remaining_seconds = remaining_seconds
        self._keys: dict[bytes, None] = {}  # unlike a set, no work for the garbage collector: there may be a million leases
        self.is_gone = False
        self.promotion = NEVER_PROMOTED
        self.expires_at = 0.0
        self.due = 0.0
        self.position = -1
        self.is_ending = False
        self.is_checkpointing = False

    def __repr__(self) -> str:
        return f"Lease({self.id:x} {self.ttl_seconds}s {len(self._keys)} keys)"

    @property
    def keys(self) -> KeysView[bytes]:
        """The attached keys, in the order in which they were attached."""
        return self._keys.keys()

    def attach(self, key: bytes) -> None:
        self._keys[key] = None

    def detach(self, key: bytes) -> None:
        self._keys.pop(key, None)

    @property
    def left_seconds(self) -> int:
        """What a new leader gives it: the TTL, or what the last checkpoint left of it."""
        return self.remaining_seconds or self.ttl_seconds
