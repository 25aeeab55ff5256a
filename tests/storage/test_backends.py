"""Both backends against a dictionary: put, commit, crash, view, defragment and install in any order."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from tercet.errors import InvariantViolation, StorageFailure
from tercet.storage.interfaces import Backend, Bucket, ReadView
from tercet.storage.lmdb_backend import LmdbBackend
from tercet.storage.memory_backend import MemoryBackend
from tests.support.properties import examples

Content = dict[tuple[Bucket, bytes], bytes]

_COMMON = b"k" * 510  # keys longer than this share one record in LMDB
KEYS = st.one_of(
    st.binary(min_size=1, max_size=2),
    st.builds(lambda rest: _COMMON + rest, st.binary(max_size=3)),
    st.builds(lambda rest: b"k" * 508 + rest, st.binary(max_size=4)),
)
BUCKETS = st.sampled_from([Bucket.KEY, Bucket.LEASE, Bucket.AUTH_USERS])
VALUES = st.one_of(st.binary(max_size=3), st.just(b"v" * 5000))


class BackendMachine(RuleBasedStateMachine):
    """`now` is what a reader sees, `closed` the content at the last `applied`, `durable` what a crash leaves."""

    views: Bundle[tuple[ReadView, Content]] = Bundle("views")
    backend: Backend

    def __init__(self) -> None:
        super().__init__()
        self.now: Content = {}
        self.closed: Content = {}
        self.durable: Content = {}
        self.point = self.durable_point = (0, 0)
        self.open_views: list[ReadView] = []

    def open(self) -> None:
        raise NotImplementedError

    def crash_and_open(self) -> None:
        raise NotImplementedError

    @initialize()
    def first_start(self) -> None:
        self.open()

    @rule(bucket=BUCKETS, key=KEYS, value=VALUES)
    def put(self, bucket: Bucket, key: bytes, value: bytes) -> None:
        self.backend.put(bucket, key, value)
        self.now[bucket, key] = value

    @rule(bucket=BUCKETS, key=KEYS)
    def delete(self, bucket: Bucket, key: bytes) -> None:
        self.backend.delete(bucket, key)
        self.now.pop((bucket, key), None)

    @rule()
    def applied(self) -> None:
        self.point = (self.point[0] + 1, self.point[1] + self.point[0] % 2)
        self.backend.applied(*self.point)
        self.closed = dict(self.now)

    @rule()
    def commit(self) -> None:
        self.applied()
        self.backend.commit_now()
        self._is_durable()

    @rule(bucket=BUCKETS, key=KEYS, value=VALUES)
    def commit_at_the_end_of_the_entry(self, bucket: Bucket, key: bytes, value: bytes) -> None:
        called: list[int] = []
        self.put(bucket, key, value)
        self.backend.commit(lambda: called.append(1))
        assert called == []
        self.applied()
        assert called == [1]
        self._is_durable()

    @rule(target=views)
    def view(self) -> tuple[ReadView, Content]:
        opened: list[ReadView] = []
        self.applied()
        self.backend.view(opened.append)
        self._is_durable()
        (view,) = opened
        self.open_views.append(view)
        return view, dict(self.now)

    @rule(opened=consumes(views))
    def check_view(self, opened: tuple[ReadView, Content]) -> None:
        view, then = opened
        if view in self.open_views:
            check_content(view, then)
            view.close()
            self.open_views.remove(view)
            assert len(self.backend.open_view_seconds()) == len(self.open_views)

    @rule()
    def defragment(self) -> None:
        called: list[int] = []
        self.applied()
        self.backend.defragment(lambda: called.append(1))
        assert called == [1]
        self._is_durable()

    @rule(content=st.dictionaries(st.tuples(BUCKETS, KEYS), VALUES, max_size=5), own_index=st.sampled_from([0, 1_000_000]))
    def install(self, content: Content, own_index: int) -> None:
        index, term = self.point[0] + 10, self.point[1] + 1
        meta = [(Bucket.META, b"consistent_index", own_index.to_bytes(8, "big"))] if own_index > index else []
        self.point = (own_index, 0) if own_index > index else (index, term)
        items = [(bucket, key, content[bucket, key]) for bucket, key in sorted(content, key=_in_file_order)]
        assert self.backend.install(self.backend.stage(iter(items + meta), index=index, term=term)) == self.point
        self.now, self.closed = dict(content), dict(content)
        self._is_durable()

    @rule(start=KEYS)
    def install_from_items_that_raise(self, start: bytes) -> None:
        def items() -> Iterator[tuple[Bucket, bytes, bytes]]:
            yield Bucket.KEY, start, b"half"
            raise StorageFailure("page 7 is damaged")

        self.applied()
        with pytest.raises(StorageFailure, match="page 7"):
            self.backend.install(self.backend.stage(items(), index=self.point[0] + 1, term=9))

    @rule()
    def crash(self) -> None:
        self.open_views.clear()
        self.crash_and_open()
        self.now, self.closed, self.point = dict(self.durable), dict(self.durable), self.durable_point

    @rule(bucket=BUCKETS, start=KEYS, end=st.one_of(st.none(), KEYS))
    def scan(self, bucket: Bucket, start: bytes, end: bytes | None) -> None:
        assert list(self.backend.scan(bucket, start, end)) == expected_scan(self.now, bucket, start, end)

    @rule(bucket=BUCKETS, keys=st.lists(KEYS, max_size=5))
    def get(self, bucket: Bucket, keys: list[bytes]) -> None:
        expected = [self.now.get((bucket, key)) for key in keys]
        assert [self.backend.get(bucket, key) for key in keys] == expected

    @invariant()
    def the_durable_point_is_known(self) -> None:
        if hasattr(self, "backend"):
            assert (self.backend.applied_index, self.backend.applied_term) == self.durable_point
            assert 0 <= self.backend.size_in_use() <= self.backend.size()

    def teardown(self) -> None:
        if hasattr(self, "backend"):
            self.applied()
            check_content(self.backend, self.now)
            self.backend.close()

    def _is_durable(self) -> None:
        self.durable, self.durable_point = dict(self.closed), self.point


class MemoryMachine(BackendMachine):
    def open(self) -> None:
        self.memory = MemoryBackend()
        self.backend = self.memory

    def crash_and_open(self) -> None:
        self.memory.crash()


class LmdbMachine(BackendMachine):
    """Without a loop, so that each commit ends before the call returns."""

    def open(self) -> None:
        memory = "/dev/shm"  # thousands of commits, and no power failure: a disk would only be slower
        parent = memory if os.access(memory, os.W_OK) else None
        self.directory = Path(tempfile.mkdtemp(prefix="tercet-backend-", dir=parent))
        self.restarts = 0
        self.backend = LmdbBackend(str(self.directory / "0"), map_bytes=1 << 30)

    def crash_and_open(self) -> None:
        """Open a copy of the files as they are now."""
        before, after = (self.directory / str(number) for number in (self.restarts, self.restarts + 1))
        shutil.copytree(before, after)
        self.backend.close()
        shutil.rmtree(before)
        self.restarts += 1
        self.backend = LmdbBackend(str(after), map_bytes=1 << 30)

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            if hasattr(self, "directory"):
                shutil.rmtree(self.directory)


TestMemoryBackend = MemoryMachine.TestCase
TestMemoryBackend.settings = examples(60, stateful_step_count=40)
TestLmdbBackend = LmdbMachine.TestCase
TestLmdbBackend.settings = examples(25, stateful_step_count=40)


@pytest.fixture(params=["memory", "lmdb"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    made: Backend = MemoryBackend() if request.param == "memory" else LmdbBackend(str(tmp_path / "db"))
    yield made
    made.close()


def test_a_scan_sees_changes_made_ahead_of_its_position(backend: Backend) -> None:
    for number in range(0, 1000, 2):
        backend.put(Bucket.KEY, b"%04d" % number, b"old")
    backend.applied(1, 1)
    backend.commit_now()
    seen = []
    for key, value in backend.scan(Bucket.KEY, b"0010", b"0040"):
        seen.append((int(key), value))
        if key == b"0020":
            backend.put(Bucket.KEY, b"0011", b"behind")
            backend.put(Bucket.KEY, b"0025", b"ahead")
            backend.delete(Bucket.KEY, b"0026")
            backend.applied(2, 1)
        if key == b"0030":
            backend.commit_now()
    expected = [(number, b"old") for number in range(10, 40, 2) if number != 26]
    assert seen == sorted([*expected, (25, b"ahead")])


def test_a_scan_during_writes_returns_long_keys_once(backend: Backend) -> None:
    """Long keys share one record in LMDB: a scan that resumes after one of them must not return the others again."""
    keys = [_COMMON + bytes((number,)) for number in range(5)]
    for key in keys:
        backend.put(Bucket.KEY, key, b"v")
    backend.put(Bucket.KEY, b"z", b"v")
    backend.applied(1, 1)
    backend.commit_now()
    seen = []
    for key, _ in backend.scan(Bucket.KEY):
        seen.append(key)
        backend.put(Bucket.LEASE, b"elsewhere", b"")
    assert seen == [*keys, b"z"]
    backend.applied(2, 1)


def test_a_commit_in_the_middle_of_an_entry_waits_for_its_end(backend: Backend) -> None:
    backend.put(Bucket.KEY, b"half", b"1")
    done: list[int] = []
    backend.commit(lambda: done.append(backend.applied_index))
    assert backend.applied_index == 0
    with pytest.raises(InvariantViolation, match="middle of an entry"):
        backend.commit_now()
    backend.put(Bucket.KEY, b"whole", b"2")
    backend.applied(5, 2)
    assert done == [5]


def test_the_meta_bucket_has_the_applied_index_and_term(backend: Backend) -> None:
    backend.put(Bucket.KEY, b"k", b"v")
    backend.applied(7, 3)
    views: list[ReadView] = []
    backend.view(views.append)
    assert views[0].get(Bucket.META, b"consistent_index") == (7).to_bytes(8, "big")
    assert views[0].get(Bucket.META, b"term") == (3).to_bytes(8, "big")


def check_content(reader: Backend | ReadView, content: Content) -> None:
    for bucket in Bucket:
        if bucket is not Bucket.META:
            assert list(reader.scan(bucket)) == expected_scan(content, bucket, b"", None)
    for (bucket, key), value in content.items():
        assert reader.get(bucket, key) == value


def expected_scan(content: Content, bucket: Bucket, start: bytes, end: bytes | None) -> list[tuple[bytes, bytes]]:
    items = ((key, value) for (in_bucket, key), value in content.items() if in_bucket is bucket)
    return sorted((key, value) for key, value in items if start <= key and (end is None or key < end))


def _in_file_order(place: tuple[Bucket, bytes]) -> tuple[bytes, bytes]:
    return place[0].value, place[1]
