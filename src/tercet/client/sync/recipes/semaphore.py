"""Generated from client/recipes/semaphore.py by `python -m tercet.client.generate_sync`: do not edit."""

from __future__ import annotations

from tercet.client.recipes.semaphore import Semaphore
from tercet.client.results import KV
from tercet.client.sync.recipes.held_key import SyncHeldKey


class SyncSemaphore(SyncHeldKey):
    """One permit of a semaphore, to be acquired; make one object for each permit that a process wants to hold."""

    _inner: Semaphore

    def holders(self) -> tuple[KV, ...]:
        """The keys that hold a permit, in the order in which they came. Raises TercetError."""
        return self._run(self._inner.holders())
