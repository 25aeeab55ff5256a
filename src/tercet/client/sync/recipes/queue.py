"""Generated from client/recipes/queue.py by `python -m tercet.client.generate_sync`: do not edit."""

from __future__ import annotations

from tercet.client.facade import Facade
from tercet.client.key_space import Text
from tercet.client.recipes.queue import ItemTaker, PriorityQueue, Queue


class SyncItemTaker(Facade[ItemTaker]):
    """Taking items in the order of `_sort_by`."""

    def get(self) -> bytes:
        """Take the first item; wait for one. Raises TercetError, Indeterminate if it may or may not be taken."""
        return self._run(self._inner.get())

    def get_now(self) -> bytes | None:
        """Take the first item, None if there is none. Raises TercetError, Indeterminate if it may or may not be taken."""
        return self._run(self._inner.get_now())

    def length(self) -> int:
        """How many items wait. Raises TercetError."""
        return self._run(self._inner.length())


class SyncQueue(SyncItemTaker):
    """First in, first out."""

    _inner: Queue

    def put(self, value: Text) -> None:
        """Add an item. Raises TercetError, Indeterminate if it may or may not be added."""
        self._run(self._inner.put(value))


class SyncPriorityQueue(SyncItemTaker):
    """Items of a lower priority number come first; equal ones in the order in which they were put."""

    _inner: PriorityQueue

    def put(self, value: Text, priority: int = 0) -> None:
        """Add an item. priority: 0 to 65535. Raises TercetError, Indeterminate if it may or may not be added."""
        self._run(self._inner.put(value, priority))
