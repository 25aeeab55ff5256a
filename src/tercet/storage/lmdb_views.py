"""The open views: bounded in number and in age.

A request for one more than the limit waits until another closes. A view that is too old is closed even while no one reads from
it, as when a client stops reading its snapshot: it would go on pinning pages, and the file would grow without a bound.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from tercet.storage.interfaces import ReadView
from tercet.storage.lmdb_file import LmdbFile
from tercet.storage.lmdb_view import LmdbView

VIEW_SECONDS_MAX: Final = 600.0
VIEWS_MAX: Final = 400  # LMDB allows 510 readers, and the backend itself needs one
_RETRY_SECONDS: Final = 0.05


class LmdbViews:
    """Opens and counts views on the backend's thread. Each view may be closed in any thread."""

    def __init__(
        self, *, seconds_max: float, loop: AbstractEventLoop | None, call: Callable[[Callable[[], None]], None]
    ) -> None:
        """call: runs a callback, and handles its exception."""
        self._seconds_max = seconds_max
        self._loop = loop
        self._call = call
        self._open: set[LmdbView] = set()
        self._waiting: deque[tuple[Callable[[], LmdbFile], Callable[[ReadView], None]]] = deque()
        self._closed = False

    def seconds(self) -> list[float]:
        """The age of each open view."""
        return [view.seconds for view in list(self._open)]

    def open(self, file: Callable[[], LmdbFile], then: Callable[[ReadView], None]) -> None:
        """Pass `then` a view of `file()`, once the number of open views allows it."""
        if self._loop is not None and (self._waiting or len(self._open) >= VIEWS_MAX):
            if not self._waiting:
                self._loop.call_later(_RETRY_SECONDS, self._open_waiting)
            self._waiting.append((file, then))
            return
        self._open_now(file, then)

    def _open_waiting(self) -> None:
        """One timer for all: thousands of snapshots may wait."""
        while self._waiting and len(self._open) < VIEWS_MAX and not self._closed:
            self._call(partial(self._open_now, *self._waiting.popleft()))
        if self._waiting and not self._closed and self._loop is not None:
            self._loop.call_later(_RETRY_SECONDS, self._open_waiting)

    def _open_now(self, file: Callable[[], LmdbFile], then: Callable[[ReadView], None]) -> None:
        view = LmdbView(file(), seconds_max=self._seconds_max, on_close=self._open.discard)
        self._open.add(view)
        then(view)

    def close_old(self) -> None:
        for view in list(self._open):
            if view.seconds > self._seconds_max:
                view.close()

    def close(self) -> None:
        """Returns when no thread reads any more."""
        self._closed = True
        for view in list(self._open):
            view.close_and_wait()
