"""Before a range that holds no key is checked: the tree that decides about it grows, in slices (auth/empty_ranges.py)."""

from __future__ import annotations

from typing import Final

from tercet.auth import AuthStore, Identity
from tercet.mvcc import Budget, Steps

_GROWTH: Final = 250  # steps of a tree between two looks at the budget; one is about a unit of work


class TreeGrowth(Steps):
    """Once `step` has returned False, checks of this range are quick, until users or roles change. Raises nothing.

    reads, writes: which checks are going to be made.
    """

    __slots__ = ("_auth", "_identity", "_key", "_range_end", "_reads", "_writes")

    def __init__(
        self, auth: AuthStore, identity: Identity, key: bytes, range_end: bytes, *, reads: bool = False, writes: bool = False
    ) -> None:
        self._auth = auth
        self._identity = identity
        self._key = key
        self._range_end = range_end
        self._reads = reads
        self._writes = writes

    @property
    def is_needed(self) -> bool:
        return self._grow(0)

    def step(self, budget: Budget) -> bool:
        """See `work.Steps`."""
        while budget.left > 0:
            if not self._grow(_GROWTH):
                return False
            budget.left -= _GROWTH
        return True

    def _grow(self, steps: int) -> bool:
        to_read, to_write = self._reads, self._writes
        return self._auth.grow_tree(self._identity, self._key, self._range_end, steps, to_read=to_read, to_write=to_write)
