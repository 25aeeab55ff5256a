"""One lease: what the log says of it, and what the leader's clock adds."""

from __future__ import annotations

from typing import Final

from tercet.containers import SortedKeys

NEVER_PROMOTED: Final = 0
_FEW_KEYS: Final = 1000


class Lease:
    """ttl_seconds: as granted. remaining_seconds: as of the last checkpoint; 0 without one. is_gone: it has been revoked.

    The rest is written by `Expiry` on the leader alone, and is meaningless where `promotion` is not the current one.
    expires_at: seconds, on the leader's clock. due: when to look at the lease again, <= expires_at unless a revoke is retried.
    position: in the heap of deadlines, -1 outside. is_ending: a revoke is proposed. is_checkpointing: a checkpoint is proposed.
    """

    __slots__ = (
        "_few",
        "_many",
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
        # A dictionary of a few keys is no work for the garbage collector, and there may be a million leases. One of many keys
        # would be copied at once when it grows.
        self._few: dict[bytes, None] = {}
        self._many: SortedKeys | None = None
        self.is_gone = False
        self.promotion = NEVER_PROMOTED
        self.expires_at = 0.0
        self.due = 0.0
        self.position = -1
        self.is_ending = False
        self.is_checkpointing = False

    def __repr__(self) -> str:
        return f"Lease({self.id:x} {self.ttl_seconds}s {self.key_count} keys)"

    @property
    def key_count(self) -> int:
        many = self._many
        return len(self._few) if many is None else len(many)

    def keys(self) -> SortedKeys:
        """The attached keys; to be read before others are attached."""
        many = self._many
        if many is None:
            many = SortedKeys()
            many.load(list(self._few))
        return many

    def attach(self, key: bytes) -> None:
        """`key` must not be attached."""
        if self._many is not None:
            self._many.add(key)
            return
        self._few[key] = None
        if len(self._few) > _FEW_KEYS:
            self._many = self.keys()
            self._few = {}

    def detach(self, keys: list[bytes]) -> None:
        """keys: ascending, all attached."""
        if self._many is not None:
            self._many.remove_run(keys)
            return
        for key in keys:
            del self._few[key]

    @property
    def left_seconds(self) -> int:
        """What a new leader gives it: the TTL, or what the last checkpoint left of it."""
        return self.remaining_seconds or self.ttl_seconds
