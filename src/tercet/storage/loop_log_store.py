"""The write-ahead log of a member in memory: it writes on the event loop, at once, without a thread.

    append(A) -> True                              durable on return
    append(A) -> False ... sync_seconds ... A.then()    while a slow disk is simulated

Invariants: callbacks run in the order of appending; none runs after a failure, which is reported once. As in log_store.py.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections import deque
from collections.abc import Callable, Sequence

from tercet.raft.types import Entry, HardState, Snapshot
from tercet.storage.wal import WAL

Then = Callable[[], None]


class LoopLogStore:
    """A `LogStore` over a `WAL` whose file system never blocks.

    on_failure: called once, on the loop, with the error after which nothing becomes durable.
    sync_seconds: called before each sync; how long it is to take. 0: no time.
    """

    def __init__(
        self, wal: WAL, loop: AbstractEventLoop, *, on_failure: Callable[[Exception], None], sync_seconds: Callable[[], float]
    ) -> None:
        self.wal = wal
        self._loop = loop
        self._on_failure = on_failure
        self._seconds = sync_seconds
        self._waiting: deque[Then] = deque()  # of what is written and waits for the end of its sync
        self._free_at = 0.0  # when the last sync that has begun ends, on the loop's clock
        self._failed = False
        self._closed = False

    def append(self, hard_state: HardState | None, entries: Sequence[Entry], *, then: Then, sync: bool = True) -> bool:
        """See `interfaces.LogStore`."""
        if self._failed or self._closed:
            return False
        try:
            self.wal.append(hard_state, entries)
            if sync:
                self.wal.sync()
        except Exception as error:
            self._fail(error)
            return False
        if not sync:
            return True
        seconds = self._seconds()
        if not seconds and not self._waiting:
            return True
        self._later(then, seconds)
        return False

    def save_snapshot(self, snapshot: Snapshot, *, then: Then) -> None:
        if self._failed or self._closed:
            return
        try:
            self.wal.save_snapshot(snapshot)
            self.wal.sync()
        except Exception as error:
            self._fail(error)
            return
        self._later(then, self._seconds())

    def release(self, index: int) -> None:
        if self._failed or self._closed:
            return
        try:
            self.wal.release(index)
        except Exception as error:
            self._fail(error)

    def close(self) -> None:
        """Run the callbacks that are due, and close the files."""
        if self._closed:
            return
        self._closed = True
        while self._waiting and not self._failed:
            self._waiting.popleft()()
        self.wal.close()  # a log that has failed writes nothing more

    def _later(self, then: Then, seconds: float) -> None:
        """One disk: a sync begins when the one before has ended."""
        self._waiting.append(then)
        self._free_at = max(self._free_at, self._loop.time()) + seconds
        self._loop.call_at(self._free_at, self._deliver)

    def _deliver(self) -> None:
        if self._waiting and not self._failed and not self._closed:
            try:
                self._waiting.popleft()()
            except Exception as error:
                self._fail(error)

    def _fail(self, error: Exception) -> None:
        if not self._failed:
            self._failed = True
            self._waiting.clear()
            self._loop.call_soon(self._on_failure, error)
