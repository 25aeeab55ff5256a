"""The scrub: reads the whole file over and over, slowly, so that damage to records that no one reads is found too.

Each second one chunk (256 records, or 1 MB) is read in a thread, from a view of its own; a million records take about an hour.
The read verifies the checksums, and reports a wrong one like any other read. A damaged page is reported too, if LMDB returns an
error for it; some kinds of damage end the process.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable
from typing import Final

from tercet.errors import CorruptRecord, DamagedDatabase
from tercet.storage.interfaces import Bucket, ReadView
from tercet.storage.lmdb_file import LmdbFile
from tercet.storage.lmdb_view import LmdbView, ViewClosed
from tercet.storage.lmdb_views import LmdbViews
from tercet.storage.long_keys import successor

SCRUB_SECONDS: Final = 1.0
_BUCKETS: Final = tuple(Bucket)


class Scrubber:
    """Methods belong to the loop's thread. `rounds`: how often the whole file has been read.

    report: called in any thread with the damage that no checksum shows.
    """

    def __init__(
        self,
        views: LmdbViews,
        file: Callable[[], LmdbFile],
        loop: AbstractEventLoop,
        report: Callable[[CorruptRecord], None],
        *,
        seconds: float = SCRUB_SECONDS,
    ) -> None:
        self.rounds = 0
        self._views = views
        self._file = file
        self._loop = loop
        self._report = report
        self._seconds = seconds
        self._bucket = 0
        self._start = b""
        self._timer: TimerHandle | None = loop.call_later(seconds, self._begin)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _begin(self) -> None:
        self._views.open(self._file, self._begin_read)

    def _begin_read(self, view: ReadView) -> None:
        assert isinstance(view, LmdbView)
        self._loop.run_in_executor(None, self._read, view)

    def _read(self, view: LmdbView) -> None:
        """In a thread. Advances only here, and only one of these runs at a time."""
        bucket = _BUCKETS[self._bucket]
        try:
            chunk = view.chunk(bucket, self._start)
            last = chunk[-1][0] if chunk else None
        except CorruptRecord as record:
            last = record.key
        except ViewClosed:
            return  # the backend is closing
        except DamagedDatabase as damage:
            self._report(CorruptRecord(f"{damage} (bucket {bucket.value.decode()})", self._start))
            last = None  # where the next page begins is not known
        finally:
            view.close()
        if last is not None:
            self._start = successor(last)
        else:
            self._start = b""
            self._bucket = (self._bucket + 1) % len(_BUCKETS)
            self.rounds += self._bucket == 0
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._continue)

    def _continue(self) -> None:
        if self._timer is not None:
            self._timer = self._loop.call_later(self._seconds, self._begin)
