"""Generated from client/recipes/counter.py by `python -m tercet.client.generate_sync`: do not edit."""

from __future__ import annotations

from tercet.client.facade import Facade
from tercet.client.recipes.counter import Counter


class SyncCounter(Facade[Counter]):
    """A whole number of any size."""

    def value(self) -> int:
        """Raises InvalidArgument if the key holds no number, TercetError."""
        return self._run(self._inner.value())

    def add(self, delta: int = 1) -> int:
        """Add, and return the sum. Raises TercetError, Indeterminate if it may or may not be added."""
        return self._run(self._inner.add(delta))
