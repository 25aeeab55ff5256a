"""The LMDB backend on a running loop: when commits begin, what reads see during a commit, which callbacks run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tercet.errors import StorageFailure
from tercet.storage.interfaces import Bucket, ReadView
from tercet.storage.lmdb_backend import LmdbBackend
from tercet.storage.lmdb_commit import SLICE_OPERATIONS
from tercet.storage.lmdb_view import ViewClosed
from tercet.storage.lmdb_views import VIEWS_MAX
from tests.storage.lmdb_harness import committed, key, make, open_view, run
from tests.support.waiting import scaled, settled, until


def test_an_exception_in_a_callback_fails_the_backend(tmp_path: Path) -> None:
    """Logging it is not enough: the member must not continue without the step that should have followed the commit."""

    async def test() -> None:
        failures: list[Exception] = []
        backend = make(tmp_path, on_failure=failures.append)

        def fails() -> None:
            raise ValueError("a bug above")

        backend.put(Bucket.KEY, b"k", b"v")
        backend.applied(1, 1)
        backend.commit(fails)
        while not failures:
            await asyncio.sleep(0.001)
        assert str(failures[0]) == "a bug above"
        with pytest.raises(ValueError, match="a bug above"):
            backend.applied(2, 1)
        backend.close()

    run(test)


def test_an_idle_view_is_closed_when_it_is_too_old(tmp_path: Path) -> None:
    """A view pins pages: a client that stops reading must not make the file grow without bound."""

    async def test() -> None:
        backend = make(tmp_path, view_seconds_max=0.01)
        backend.put(Bucket.KEY, b"k", b"v")
        backend.applied(1, 1)
        view = await open_view(backend)
        revision = 2

        async def expired() -> bool:
            """A view is closed by the first commit after its time limit."""
            nonlocal revision
            backend.put(Bucket.KEY, b"k", b"w")
            backend.applied(revision, 1)
            revision += 1
            await committed(backend)
            return backend.open_view_seconds() == []

        while not await expired():
            pass
        with pytest.raises(ViewClosed):
            view.get(Bucket.KEY, b"k")
        backend.close()

    run(test)


def test_requests_beyond_the_limit_of_views_wait(tmp_path: Path) -> None:
    async def test() -> None:
        failures: list[Exception] = []
        backend = make(tmp_path, on_failure=failures.append)
        backend.put(Bucket.KEY, b"k", b"v")
        backend.applied(1, 1)
        views: list[ReadView] = []
        for _ in range(VIEWS_MAX + 200):
            backend.view(views.append)
        await until(lambda: len(views) >= VIEWS_MAX)
        assert await settled(lambda: len(views)) == VIEWS_MAX
        assert failures == []
        for view in views[:200]:
            view.close()
        while len(views) < VIEWS_MAX + 200:
            await asyncio.sleep(0.001)
        backend.close()
        assert failures == []

    run(test)


def test_a_commit_begins_after_the_batch_time(tmp_path: Path) -> None:
    async def test() -> None:
        backend = make(tmp_path, batch_seconds=0.01)
        backend.put(Bucket.KEY, b"k", b"v")
        backend.applied(1, 1)
        assert backend.applied_index == 0
        while backend.applied_index == 0:
            await asyncio.sleep(0.001)
        backend.applied(2, 1)  # an entry without changes; its index is committed too
        while backend.applied_index == 1:
            await asyncio.sleep(0.001)
        backend.close()

    run(test)


def test_a_change_of_no_entry_is_committed_though_it_comes_during_a_commit(tmp_path: Path) -> None:
    """The removals of a compaction, on a member that applies no more entries."""

    async def test() -> None:
        commits: list[float] = []
        backend = make(tmp_path, batch_seconds=0.01, observe_commit=commits.append)
        backend.put(Bucket.KEY, b"k", b"v")
        backend.applied(1, 1)
        backend.commit()
        backend.delete(Bucket.KEY, b"k")
        backend.applied(1, 1)
        while len(commits) < 2:
            await asyncio.sleep(0.001)
        backend.close()

    run(test)


def test_a_commit_begins_after_the_batch_operations(tmp_path: Path) -> None:
    async def test() -> None:
        backend = make(tmp_path, batch_seconds=3600, batch_operations=10)
        for number in range(10):
            assert backend.applied_index == 0
            backend.put(Bucket.KEY, key(number), b"v")
            backend.applied(number + 1, 1)
        while backend.applied_index != 10:
            await asyncio.sleep(0.001)
        backend.close()

    run(test)


def test_reads_see_every_write_during_commits(tmp_path: Path) -> None:
    """Commits begin and end between any two reads."""

    async def test() -> None:
        backend = make(tmp_path, batch_seconds=0, batch_operations=200)
        random = Random(1)
        model: dict[bytes, bytes] = {}
        for index in range(1, 1500):
            for _ in range(random.randint(0, 9)):
                name = key(random.randint(0, 400))
                if random.random() < 0.3:
                    backend.delete(Bucket.LEASE, name)
                    model.pop(name, None)
                else:
                    backend.put(Bucket.LEASE, name, b"%d" % index)
                    model[name] = b"%d" % index
            backend.applied(index, 1)
            name = key(random.randint(0, 400))
            assert backend.get(Bucket.LEASE, name) == model.get(name)
            if index % 50 == 0:
                assert list(backend.scan(Bucket.LEASE)) == sorted(model.items())
                await asyncio.sleep(random.choice((0, 0.001)))
            elif index % 3 == 0:
                await asyncio.sleep(0)
        await committed(backend)
        assert list(backend.scan(Bucket.LEASE)) == sorted(model.items())
        assert backend.applied_index == 1499
        backend.close()

    run(test)


def test_commit_now_finishes_the_commit_in_progress(tmp_path: Path) -> None:
    async def test() -> None:
        backend = make(tmp_path, batch_seconds=3600)
        order: list[str] = []
        for number in range(3 * SLICE_OPERATIONS):
            backend.put(Bucket.KEY, key(number), b"v")
        backend.applied(1, 1)
        backend.commit(lambda: order.append("first"))
        backend.put(Bucket.KEY, b"second", b"v")
        backend.applied(2, 1)
        backend.commit(lambda: order.append("second"))
        backend.commit_now()
        assert backend.applied_index == 2
        await asyncio.sleep(0)
        assert order == ["first", "second"]
        backend.close()

    run(test)


def test_all_applied_entries_are_durable_after_close(tmp_path: Path) -> None:
    async def test() -> None:
        backend = make(tmp_path)
        backend.put(Bucket.KEY, b"k", b"v")
        backend.applied(9, 4)
        backend.close()
        backend.close()
        found = make(tmp_path)
        assert (found.applied_index, found.applied_term, found.get(Bucket.KEY, b"k")) == (9, 4, b"v")
        found.close()

    run(test)


def test_what_waits_for_the_last_commit_is_not_called_after_close(tmp_path: Path) -> None:
    """A member that was stopped right after a compaction, whose hash needs a view, reported a failure of its database."""

    async def test() -> None:
        failures: list[Exception] = []
        called: list[object] = []
        backend = make(tmp_path, on_failure=failures.append)
        backend.put(Bucket.KEY, b"k", b"v")
        backend.applied(9, 4)
        backend.view(called.append)
        backend.commit(lambda: called.append(None))
        backend.close()
        for _ in range(3):
            await asyncio.sleep(0)
        assert not failures
        assert not called

    run(test)


def test_close_does_not_commit_a_partly_applied_entry(tmp_path: Path) -> None:
    async def test() -> None:
        backend = make(tmp_path)
        backend.put(Bucket.KEY, b"k", b"v")
        backend.applied(9, 4)
        backend.put(Bucket.KEY, b"half", b"v")
        backend.close()
        found = make(tmp_path)
        assert found.get(Bucket.KEY, b"half") is None
        found.close()

    run(test)


def test_a_view_shows_a_point_in_time_in_any_thread(tmp_path: Path) -> None:
    async def test() -> None:
        backend = make(tmp_path)
        for number in range(1000):
            backend.put(Bucket.KEY, key(number), b"old")
        backend.applied(1, 1)
        view = await open_view(backend)
        for number in range(1000):
            backend.put(Bucket.KEY, key(number), b"new")
        backend.applied(2, 1)
        await committed(backend)
        found: list[list[tuple[bytes, bytes]]] = []
        thread = threading.Thread(target=lambda: found.append(list(view.scan(Bucket.KEY, key(10), key(900)))))
        thread.start()
        while thread.is_alive():
            await asyncio.sleep(0.001)
        assert found == [[(key(number), b"old") for number in range(10, 900)]]
        assert len(backend.open_view_seconds()) == 1
        view.close()
        assert backend.open_view_seconds() == []
        with pytest.raises(ViewClosed):
            view.get(Bucket.KEY, key(1))
        backend.close()

    run(test)


def test_a_view_survives_a_defragmentation_and_an_install(tmp_path: Path) -> None:
    async def test() -> None:
        backend = make(tmp_path)
        backend.put(Bucket.KEY, b"k", b"old")
        backend.applied(1, 1)
        first = await open_view(backend)
        done = asyncio.Event()
        backend.defragment(done.set)
        await done.wait()
        second = await open_view(backend)
        backend.install(backend.stage([(Bucket.KEY, b"k", b"new")], index=5, term=1))
        assert [view.get(Bucket.KEY, b"k") for view in (first, second)] == [b"old", b"old"]
        assert backend.get(Bucket.KEY, b"k") == b"new"
        first.close()
        second.close()
        backend.close()

    run(test)


def test_a_view_that_is_too_old_closes_itself(tmp_path: Path) -> None:
    async def test() -> None:
        backend = make(tmp_path, view_seconds_max=0.0)
        view = await open_view(backend)
        with pytest.raises(ViewClosed, match="open for more than 0 s"):
            list(view.scan(Bucket.KEY))
        assert backend.open_view_seconds() == []
        backend.close()

    run(test)


def test_a_view_can_be_copied_to_a_file(tmp_path: Path) -> None:
    async def test() -> None:
        backend = make(tmp_path)
        backend.put(Bucket.KEY, b"k", b"v")
        backend.applied(3, 1)
        view = await open_view(backend)
        (tmp_path / "copy").mkdir()
        view.copy(str(tmp_path / "copy" / "0000000000000000.lmdb"))
        view.close()
        backend.close()
        copy = LmdbBackend(str(tmp_path / "copy"))
        assert (copy.applied_index, copy.get(Bucket.KEY, b"k")) == (3, b"v")
        copy.close()

    run(test)


def test_defragmentation_frees_space(tmp_path: Path) -> None:
    async def test() -> None:
        backend = make(tmp_path)
        for number in range(5000):
            backend.put(Bucket.KEY, key(number), b"v" * 200)
        backend.applied(1, 1)
        await committed(backend)
        full = backend.size()
        assert full >= backend.size_in_use() > 5000 * 200
        for number in range(4500):
            backend.delete(Bucket.KEY, key(number))
        backend.applied(2, 1)
        await committed(backend)
        assert backend.size_in_use() < full / 4 < backend.size()
        both: list[int] = []
        backend.defragment(lambda: both.append(1))
        backend.defragment(lambda: both.append(2))
        while len(both) < 2:
            await asyncio.sleep(0.001)
        assert backend.size() < full / 4
        assert len(list(backend.scan(Bucket.KEY))) == 500
        backend.close()

    run(test)


def test_a_commit_during_a_defragmentation_walks_its_changes_in_slices_only(tmp_path: Path) -> None:
    class InSlices(dict[bytes, bytes | None]):
        def __iter__(self) -> Iterator[bytes]:
            raise AssertionError("a million changes are no work for one turn")

        keys = __iter__  # type: ignore[assignment]

    async def test() -> None:
        backend = make(tmp_path)
        backend.put(Bucket.KEY, b"before", b"v")
        backend.applied(1, 1)
        await committed(backend)
        done = asyncio.Event()
        backend.defragment(done.set)
        for number in range(3):
            backend.put(Bucket.KEY, key(number), b"old" if number < 2 else b"new")
            backend.put(Bucket.KEY, key(number + 1), b"old")
            backend._active[Bucket.KEY] = InSlices(backend._active[Bucket.KEY])
            backend.applied(2 + number, 1)
            await committed(backend)
        await done.wait()
        expected = [(b"before", b"v"), (key(0), b"old"), (key(1), b"old"), (key(2), b"new"), (key(3), b"old")]
        assert sorted(backend.scan(Bucket.KEY)) == sorted(expected)
        backend.close()
        reopened = LmdbBackend(str(tmp_path / "db"))
        assert sorted(reopened.scan(Bucket.KEY)) == sorted(expected)
        reopened.close()

    run(test)


def test_applied_and_commit_raise_an_earlier_failure(tmp_path: Path) -> None:
    async def test() -> None:
        failures: list[Exception] = []
        backend = make(tmp_path, on_failure=failures.append, map_bytes=1 << 20)
        called: list[int] = []
        backend.put(Bucket.KEY, b"k", b"v" * (2 << 20))  # more than the map can hold
        backend.applied(1, 1)
        backend.commit(lambda: called.append(1))
        while not failures:
            await asyncio.sleep(0.001)
        with pytest.raises(StorageFailure, match="MDB_MAP_FULL"):
            backend.applied(2, 1)
        with pytest.raises(StorageFailure, match="MDB_MAP_FULL"):
            backend.commit()
        backend.close()
        assert len(failures) == 1
        assert called == []

    run(test)


def test_commit_durations_are_observed(tmp_path: Path) -> None:
    async def test() -> None:
        seconds: list[float] = []
        backend = make(tmp_path, observe_commit=seconds.append)
        backend.applied(1, 1)
        await committed(backend)
        assert len(seconds) == 1
        assert 0 < seconds[0] < scaled(10)
        backend.close()

    run(test)
