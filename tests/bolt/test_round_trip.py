"""What the writer writes the reader reads, and `check` finds no fault."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.bolt import CHUNK_BYTES, BoltFile, check, measure
from tercet.bolt.format import BRANCH_PAGE
from tercet.errors import InvariantViolation
from tests.support.properties import examples
from tests.support.waiting import scaled

from .images import read_all, source_of, write_image

keys = st.one_of(st.binary(min_size=1, max_size=40), st.binary(min_size=1, max_size=4).map(lambda key: key * 2000))
values = st.one_of(st.binary(max_size=60), st.integers(0, 20_000).map(lambda size: bytes(range(256)) * (size // 256 + 1)))
contents = st.dictionaries(st.binary(min_size=1, max_size=12), st.dictionaries(keys, values, max_size=60), max_size=6)


@given(contents)
@examples(60)
def test_any_content_survives_a_round_trip(content: dict[bytes, dict[bytes, bytes]]) -> None:
    with TemporaryDirectory() as directory:
        path = write_image(Path(directory) / "db", content)
        assert read_all(path) == content
        report = check(path)
        assert report.faults == []
        assert report.pages_used == report.pages
        assert report.items == {name: len(items) for name, items in content.items()}


@given(st.integers(1, 3000), st.integers(1, 1400), st.integers(0, 300))
@examples(30)
def test_deep_trees_keep_order(count: int, key_bytes: int, value_bytes: int) -> None:
    """Long keys make narrow branches, so the tree has more levels."""
    content = {b"key": {b"%08d" % n + b"k" * key_bytes: b"v" * value_bytes for n in range(count)}}
    with TemporaryDirectory() as directory:
        path = write_image(Path(directory) / "db", content)
        with BoltFile(path) as file:
            assert list(file.items(b"key")) == list(content[b"key"].items())
        assert check(path).faults == []


def test_every_branch_has_two_children(tmp_path: Path) -> None:
    """bbolt merges branches with one child, and does not expect any."""
    for count in range(1, 400, 7):
        path = write_image(tmp_path / "db", {b"key": {b"%08d" % n + b"k" * 900: b"v" * 2000 for n in range(count)}})
        assert all(elements >= 2 for flags, elements in _pages(path) if flags == BRANCH_PAGE)


def _pages(path: Path) -> list[tuple[int, int]]:
    """(flags, elements) of every page of all buckets."""
    seen: list[tuple[int, int]] = []
    with BoltFile(path) as file:
        for bucket in file.roots():
            list(file.items_of(bucket, lambda page: seen.append((page.flags, page.elements))))
    return seen


def test_a_file_without_buckets(tmp_path: Path) -> None:
    path = write_image(tmp_path / "db", {})
    assert read_all(path) == {}
    assert check(path).faults == []


def test_many_buckets(tmp_path: Path) -> None:
    content = {b"bucket-%06d" % n: {b"k": b"%d" % n} for n in range(500)}
    assert read_all(write_image(tmp_path / "db", content)) == content


def test_an_absent_bucket_is_empty(tmp_path: Path) -> None:
    with BoltFile(write_image(tmp_path / "db", {b"key": {b"a": b"b"}})) as file:
        assert list(file.items(b"lease")) == []
        assert list(file.buckets()) == [b"key"]


def test_chunks_have_the_requested_size() -> None:
    image = measure(source_of({b"key": {b"%06d" % n: b"v" * 500 for n in range(2000)}}))
    chunks = list(image.chunks())
    assert {len(chunk) for chunk in chunks[:-1]} == {CHUNK_BYTES}
    assert sum(map(len, chunks)) == image.size
    assert b"".join(image.chunks(4096 * 3)) == b"".join(chunks)


@pytest.mark.parametrize("bad", [[b"b", b"a"], [b"a", b"a"], [b""], [b"k" * 32769]])
def test_an_invalid_source_is_an_invariant_violation(bad: list[bytes]) -> None:
    with pytest.raises(InvariantViolation):
        measure(lambda: [(b"key", [(key, b"") for key in bad])])


def test_a_source_that_changes_between_the_passes_is_an_invariant_violation() -> None:
    content = {b"key": {b"%06d" % n: b"v" * 500 for n in range(100)}}
    image = measure(source_of(content))
    content[b"key"] |= {b"x%06d" % n: b"v" * 500 for n in range(100)}
    with pytest.raises(InvariantViolation, match="between two passes"):
        list(image.chunks())


def test_memory_does_not_grow_with_the_store(tmp_path: Path) -> None:
    """200,000 keys, 47 MB, in a process of its own: writing and reading hold less than 4 MB."""
    outcome = subprocess.run(
        [sys.executable, "-c", _MEMORY_PROGRAM, tmp_path / "db"], capture_output=True, text=True, timeout=scaled(60)
    )
    assert outcome.stderr == ""
    size, count, grown_kilobytes = map(int, outcome.stdout.split())
    assert size > 45_000_000
    assert count == 200_000
    assert grown_kilobytes < 4000


_MEMORY_PROGRAM = """
import resource, sys
from tercet.bolt import BoltFile, measure

def resident():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

def items():
    for n in range(200_000):
        yield n.to_bytes(8, "big") + b"_" + bytes(8), b"v" * 190

before = resident()
image = measure(lambda: [(b"key", items())])
with open(sys.argv[1], "wb") as file:
    for chunk in image.chunks():
        file.write(chunk)
with BoltFile(sys.argv[1]) as bolt:
    count = sum(1 for _ in bolt.items(b"key"))
print(image.size, count, resident() - before)
"""
