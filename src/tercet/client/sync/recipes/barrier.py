"""Generated from client/recipes/barrier.py by `python -m tercet.client.generate_sync`: do not edit."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from tercet.client.facade import Facade
from tercet.client.recipes.barrier import Barrier, DoubleBarrier


class SyncBarrier(Facade[Barrier]):
    """While one process holds it, the others wait. It has no lease: it outlives its holder."""

    def hold(self) -> None:
        """Raises AlreadyExists if it is held already, TercetError, Indeterminate if it may or may not be held."""
        self._run(self._inner.hold())

    def release(self) -> None:
        """Let all who wait go on. May be repeated. Raises TercetError."""
        self._run(self._inner.release())

    def wait(self) -> None:
        """Return when it is not held. Raises TercetError."""
        self._run(self._inner.wait())


class SyncDoubleBarrier(Facade[DoubleBarrier]):
    """`count` processes start together, and end together. A process that dies counts as having left.

    As a block: enter, then leave.
    """

    def __enter__(self) -> Self:
        self._run(self._inner.__aenter__())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._run(self._inner.__aexit__(kind, error, trace))

    def enter(self) -> None:
        """Return when `count` processes have entered. Raises FailedPrecondition if they have without this one, TercetError."""
        self._run(self._inner.enter())

    def leave(self) -> None:
        """Return when all have left. The process that entered first leaves last. Raises TercetError, LeaseLost."""
        self._run(self._inner.leave())
