"""Generated from client/recipes/lock.py by `python -m tercet.client.generate_sync`: do not edit."""

from __future__ import annotations

from tercet.client.recipes.lock import LineKey, Lock
from tercet.client.results import KV
from tercet.client.sync.recipes.held_key import SyncHeldKey


class SyncLineKey(SyncHeldKey):
    """A key in a line, whose first key is the owner's: a lock, or a candidacy."""

    _inner: LineKey

    def line(self) -> tuple[KV, ...]:
        """The keys of the owner and of those who wait, in order. Raises TercetError."""
        return self._run(self._inner.line())


class SyncLock(SyncLineKey):
    """A lock with a fencing token. It excludes all locks of the same name, those of `etcdctl lock` included."""

    _inner: Lock
