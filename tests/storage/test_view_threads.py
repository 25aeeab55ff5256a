"""A view is read in one thread and closed in another, as when a client disconnects during a hash or a snapshot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from threading import Event, Thread, Timer
from time import monotonic, sleep
from typing import cast

import pytest

from tercet.storage.interfaces import Bucket, ReadView
from tercet.storage.lmdb_backend import LmdbBackend
from tercet.storage.lmdb_view import LmdbView, ViewClosed
from tests.support.waiting import stretched


@pytest.fixture
def backend(tmp_path: Path) -> LmdbBackend:
    backend = LmdbBackend(str(tmp_path / "db"))
    for number in range(20_000):
        backend.put(Bucket.KEY, number.to_bytes(8, "big"), bytes(100))
    backend.applied(1, 1)
    backend.commit_now()
    return backend


def test_the_reader_of_a_closed_view_gets_view_closed(backend: LmdbBackend) -> None:
    """Without the lock this crashes the process within a few rounds: the transaction is freed under the reader."""
    random = Random(1)
    outcomes: list[str] = []

    def read(view: ReadView, begun: Event) -> None:
        try:
            for _ in view.scan(Bucket.KEY):
                begun.set()
                view.get(Bucket.KEY, bytes(8))
        except ViewClosed:
            outcomes.append("closed")
        else:
            outcomes.append("finished")

    until = monotonic() + stretched(2.0)
    while monotonic() < until:
        views: list[ReadView] = []
        backend.view(views.append)
        begun = Event()
        reader = Thread(target=read, args=(views[0], begun))
        reader.start()
        begun.wait()
        sleep(random.random() * 0.003)
        views[0].close()
        reader.join()
    assert "closed" in outcomes
    assert backend.open_view_seconds() == []
    backend.close()


def test_a_scan_of_a_closed_view_raises_view_closed(backend: LmdbBackend) -> None:
    views: list[ReadView] = []
    backend.view(views.append)
    scan = views[0].scan(Bucket.KEY)
    next(scan)
    views[0].close()
    with pytest.raises(ViewClosed):
        list(scan)
    backend.close()


class Reading(Thread):
    """A read in another thread, under way until `gate` opens."""

    def __init__(self, view: LmdbView) -> None:
        super().__init__(daemon=True)
        self.begun = Event()
        self.gate = Event()
        self.ended = False
        self._view = view
        self.start()
        self.begun.wait()

    def run(self) -> None:
        self._view._in_use.acquire()
        self.begun.set()
        self.gate.wait()
        self.ended = True
        self._view._leave()


def test_a_close_does_not_wait_for_a_read(backend: LmdbBackend) -> None:
    """A client that opened 600 snapshots and disconnected stopped the loop for 14 seconds: each close waited for a read."""
    views: list[LmdbView] = []
    backend.view(cast(Callable[[ReadView], None], views.append))
    reading = Reading(views[0])
    views[0].close()
    assert not reading.ended
    assert len(backend.open_view_seconds()) == 1, "the transaction goes on under the read"
    reading.gate.set()
    reading.join()
    assert backend.open_view_seconds() == []
    with pytest.raises(ViewClosed):
        views[0].get(Bucket.KEY, bytes(8))
    backend.close()


def test_the_backend_closes_after_the_last_read(backend: LmdbBackend) -> None:
    views: list[LmdbView] = []
    backend.view(cast(Callable[[ReadView], None], views.append))
    reading = Reading(views[0])
    Timer(0.1, reading.gate.set).start()
    backend.close()
    assert reading.ended
