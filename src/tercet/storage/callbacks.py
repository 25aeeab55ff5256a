"""Callbacks of the backend, and its failure: the first error is final.

A callback runs after the commit it waits for, when no caller is left to handle its exception. Such an exception therefore fails
the backend, as an error of the disk does: the member must not go on without what should have followed the commit.

The last commit is made when the backend is closed. What waits for it in the loop is not called any more: the member has
stopped, and there is no database to open a view of.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterable

Callback = Callable[[], None]


class Callbacks:
    """Runs callbacks on the loop, or at once where there is no loop.

    on_failure: called once, with the first error.
    """

    def __init__(self, loop: AbstractEventLoop | None, on_failure: Callable[[Exception], None] | None) -> None:
        self.failure: Exception | None = None
        self._loop = loop
        self._on_failure = on_failure
        self._is_closed = False

    def close(self) -> None:
        """Call nothing from now on that the loop has not called yet."""
        self._is_closed = True

    def raise_failure(self) -> None:
        """Raise the first error, if there was one."""
        if self.failure is not None:
            raise self.failure

    def schedule(self, callbacks: Iterable[Callback]) -> None:
        for callback in callbacks:
            if self._loop is None:
                callback()
            else:
                self._loop.call_soon(self.call, callback)

    def call(self, callback: Callback) -> None:
        if self._is_closed:
            return
        try:
            callback()
        except Exception as error:
            self.fail(error)

    def fail(self, error: Exception) -> None:
        if self.failure is None:
            self.failure = error
            if self._on_failure is not None:
                self._on_failure(error)
