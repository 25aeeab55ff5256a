"""Generated from client/recipes/rw_lock.py by `python -m tercet.client.generate_sync`: do not edit."""

from __future__ import annotations

from tercet.client.facade import Facade
from tercet.client.recipes.rw_lock import RWLock, RWLockHold
from tercet.client.sync.recipes.held_key import SyncHeldKey


class SyncRWLock(Facade[RWLock]):
    """`read()` and `write()` give objects to acquire, each for one holder at a time."""

    def read(self) -> SyncRWLockHold:
        """Share the lock with other readers."""
        made = self._call(self._inner.read)
        return SyncRWLockHold._of(made, self._thread)

    def write(self) -> SyncRWLockHold:
        """Hold the lock alone."""
        made = self._call(self._inner.write)
        return SyncRWLockHold._of(made, self._thread)


class SyncRWLockHold(SyncHeldKey):
    """The lock as a reader or a writer holds it."""

    _inner: RWLockHold
