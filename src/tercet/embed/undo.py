"""What a fault returns: leaving its `with` block, or `undo`, takes the fault back.

server.pause()                     # until `resume`

with server.pause():               # until the end of the block
    ...
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self


class Undo:
    """Takes a fault back, once."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._work: Callable[[], object] | None = work

    def undo(self) -> None:
        """A second call does nothing."""
        work, self._work = self._work, None
        if work is not None:
            work()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.undo()
