"""Which views are open? No more than LMDB has room for, and none for longer than it may be.

Who asks for one more waits until another is closed. One that is too old is closed also where nobody reads from it any more, as
where it is sent to a client who does not take it: it pins pages all the same, and the file would grow for ever.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import Final

from tercet.storage.interfaces import ReadView
from tercet.storage.lmdb_file import LmdbFile
from tercet.storage.lmdb_view import LmdbView

VIEW_SECONDS_MAX: Final = 600.0
VIEWS_MAX: Final = 400  # LMDB has room for 510 readers, one of whom must always be the backend itself
_RETRY_SECONDS: Final = 0.05


class LmdbViews:
    """Opened and counted on the backend's thread; each may be closed in any."""

    def __init__(
        self, *, seconds_max: float, loop: AbstractEventLoop | None, call: Callable[[Callable[[], None]], None]
    ) -> None:
        """call: how a callback is run that nobody waits for."""
        self._seconds_max = seconds_max
        self._loop = loop
        self._call = call
        self._open: set[LmdbView] = set()
        self._closed = False

    def seconds(self) -> list[float]:
        """How old each is."""
        return [view.seconds for view in list(self._open)]

    def open(self, file: Callable[[], LmdbFile], then: Callable[[ReadView], None]) -> None:
        """Give `then` a view of what `file` is when there is room."""
        if self._loop is not None and len(self._open) >= VIEWS_MAX:
            if not self._closed:
                self._loop.call_later(_RETRY_SECONDS, self._call, lambda: self.open(file, then))
            return
        view = LmdbView(file(), seconds_max=self._seconds_max, on_close=self._open.discard)
        self._open.add(view)
        then(view)

    def close_old(self) -> None:
        for view in list(self._open):
            if view.seconds > self._seconds_max:
                view.close()

    def close(self) -> None:
        self._closed = True
        for view in list(self._open):
            view.close()
