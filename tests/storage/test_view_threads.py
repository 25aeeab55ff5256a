"""A view is read in one thread and closed in another, as when a client disconnects during a hash or a snapshot."""

from __future__ import annotations

from pathlib import Path
from random import Random
from threading import Event, Thread
from time import monotonic, sleep

import pytest

from tercet.storage.interfaces import Bucket, ReadView
from tercet.storage.lmdb_backend import LmdbBackend
from tercet.storage.lmdb_view import ViewClosed
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
