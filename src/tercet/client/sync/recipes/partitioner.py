"""Generated from client/recipes/partitioner.py by `python -m tercet.client.generate_sync`: do not edit."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from tercet.client.facade import Facade
from tercet.client.recipes.partitioner import Partitioner, Share


class SyncPartitioner(Facade[Partitioner]):
    """A block in which this process takes part; iterate over it for its share, whenever it changes.

    The end of the block gives all items up: stop working on them inside it. Raises LeaseLost, which ends the ownership of all.
    """

    def __enter__(self) -> Self:
        self._run(self._inner.__aenter__())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._run(self._inner.__aexit__(kind, error, trace))

    def __iter__(self) -> SyncPartitioner:
        return self

    def __next__(self) -> Share:
        """The next share. Says that the application has stopped working on what the one before had lost."""
        return self._next_of(self._inner)
