"""Known bugs of backends: D03 to D05 (defragmentation), D20 (crash in a commit), D21 (disk full), D36 (options)."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tercet.errors import StorageFailure
from tercet.storage.interfaces import Bucket
from tercet.storage.lmdb_backend import LmdbBackend
from tests.storage.backend_victim import KEPT, key_of, value_of
from tests.support.waiting import scaled

PAGE = 4096
SECTOR = 512


def fill(backend: LmdbBackend, first: int, last: int) -> None:
    for index in range(first, last + 1):
        backend.put(Bucket.KEY, key_of(index), value_of(index))
        backend.applied(index, 1)


def content(backend: LmdbBackend) -> dict[bytes, bytes]:
    return dict(backend.scan(Bucket.KEY))


def entries(first: int, last: int) -> dict[bytes, bytes]:
    return {key_of(index): value_of(index) for index in range(first, last + 1)}


def data_file(directory: Path) -> Path:
    (path,) = directory.glob("*.lmdb")
    return path


@pytest.mark.parametrize("mode", ["commit", "defragment"])
def test_d20_d03_kills_during_commits_lose_nothing_durable(tmp_path: Path, mode: str) -> None:
    """kill -9, four times: each entry reported durable is there, complete, applied once, and no other entry is."""
    random = Random(mode)
    durable = 0
    for _ in range(4):
        reported = _run_and_kill(tmp_path / "db", mode, reports=random.randrange(5, 40))
        durable = max(durable, reported)
        backend = LmdbBackend(str(tmp_path / "db"))
        index = backend.applied_index
        assert index >= durable
        assert content(backend) == entries(max(1, index - KEPT + 1), index)
        assert len(os.listdir(tmp_path / "db")) == 2, "one generation and its lock"
        backend.close()
    assert durable > 0


def test_d20_a_commit_without_its_meta_page_has_no_effect(tmp_path: Path) -> None:
    """Any sectors of an unfinished commit reach the disk, but not its meta page: the state before the commit is intact."""
    directory = tmp_path / "db"
    backend = LmdbBackend(str(directory))
    fill(backend, 1, 300)
    backend.commit_now()
    fill(backend, 301, 310)
    backend.commit_now()
    before = data_file(directory).read_bytes()
    for index in range(1, 200, 3):
        backend.delete(Bucket.KEY, key_of(index))
    fill(backend, 311, 400)
    backend.commit_now()
    backend.close()
    after = data_file(directory).read_bytes()
    for seed in range(30):
        random = Random(seed)
        mixed = bytearray(before.ljust(len(after), b"\0"))
        for at in range(2 * PAGE, len(after), SECTOR):
            if random.random() < 0.5:
                mixed[at : at + SECTOR] = after[at : at + SECTOR]
        victim = tmp_path / f"crash-{seed}"
        victim.mkdir()
        (victim / data_file(directory).name).write_bytes(mixed)
        found = LmdbBackend(str(victim))
        assert found.applied_index == 310
        assert content(found) == entries(1, 310)
        fill(found, 311, 500)
        found.commit_now()
        found.close()
        again = LmdbBackend(str(victim))
        assert content(again) == entries(1, 500)
        again.close()
        shutil.rmtree(victim)


def test_d20_entries_of_commits_lost_in_a_crash_are_applied_again_once(tmp_path: Path) -> None:
    """`applied_index` is that of the last commit, and the log has the entries after it."""
    directory = tmp_path / "db"
    backend = LmdbBackend(str(directory))
    fill(backend, 1, 100)
    backend.commit_now()
    fill(backend, 101, 150)
    shutil.copytree(directory, tmp_path / "crashed")
    backend.close()
    found = LmdbBackend(str(tmp_path / "crashed"))
    assert (found.applied_index, content(found)) == (100, entries(1, 100))
    fill(found, found.applied_index + 1, 150)
    assert content(found) == entries(1, 150)
    found.close()


def test_d03_a_crash_before_the_old_file_is_removed(tmp_path: Path) -> None:
    """Two generations: the newer one is complete and has all that was applied, so the older one is removed."""
    directory = tmp_path / "db"
    backend = LmdbBackend(str(directory))
    fill(backend, 1, 100)
    backend.commit_now()
    old = data_file(directory)
    saved = old.read_bytes()
    fill(backend, 101, 200)
    backend.defragment(lambda: None)
    backend.close()
    assert data_file(directory) != old
    old.write_bytes(saved)
    found = LmdbBackend(str(directory))
    assert (found.applied_index, content(found)) == (200, entries(1, 200))
    assert not old.exists()
    found.close()


def test_d03_changes_during_the_copy_are_in_the_new_file_once(tmp_path: Path) -> None:
    async def test() -> None:
        backend = LmdbBackend(str(tmp_path / "db"), loop=asyncio.get_running_loop(), batch_operations=50, batch_seconds=0.001)
        fill(backend, 1, 3000)
        done = asyncio.Event()
        old = data_file(tmp_path / "db")
        backend.defragment(done.set)
        index = 3000
        while not done.is_set():
            index += 1
            backend.delete(Bucket.KEY, key_of(index - 3000))
            fill(backend, index, index)
            assert backend.get(Bucket.KEY, key_of(index)) == value_of(index)
            assert backend.get(Bucket.KEY, key_of(index - 3000)) is None
            await asyncio.sleep(0)
        assert index > 3005
        assert data_file(tmp_path / "db") != old
        assert content(backend) == entries(index - 2999, index)
        backend.close()
        found = LmdbBackend(str(tmp_path / "db"))
        assert (found.applied_index, content(found)) == (index, entries(index - 2999, index))
        found.close()

    asyncio.run(asyncio.wait_for(test(), scaled(20)))


@pytest.mark.parametrize("name", ["defragmented-1.tmp", "received.tmp", "first.tmp"])
def test_d04_leftovers_of_an_earlier_attempt_are_removed(tmp_path: Path, name: str) -> None:
    directory = tmp_path / "db"
    backend = LmdbBackend(str(directory))
    fill(backend, 1, 50)
    backend.close()
    for leftover in (name, name + "-lock"):
        (directory / leftover).write_bytes(b"half a copy")
    backend = LmdbBackend(str(directory))
    assert content(backend) == entries(1, 50)
    backend.defragment(lambda: None)
    backend.install(backend.stage([(Bucket.KEY, b"k", b"v")], index=90, term=2))
    backend.defragment(lambda: None)
    assert content(backend) == {b"k": b"v"}
    assert len(os.listdir(directory)) == 2
    backend.close()


def test_d04_a_defragmentation_that_fails_changes_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        backend = LmdbBackend(str(tmp_path / "db"), loop=asyncio.get_running_loop())
        fill(backend, 1, 50)
        (tmp_path / "db" / "defragmented-1.tmp").mkdir()  # the copy cannot be written there
        failures: list[StorageFailure] = []
        backend.defragment(lambda: None, failed=failures.append)
        while not failures:
            await asyncio.sleep(0.001)
        (tmp_path / "db" / "defragmented-1.tmp").rmdir()
        assert "defragmented-1.tmp" in str(failures[0])
        done = asyncio.Event()
        backend.defragment(done.set)
        await done.wait()
        assert content(backend) == entries(1, 50)
        backend.close()

    asyncio.run(asyncio.wait_for(test(), scaled(20)))


def test_d05_a_snapshot_is_installed_during_a_defragmentation(tmp_path: Path) -> None:
    """The snapshot replaces both files, both callbacks run, and no other file remains."""

    async def test() -> None:
        backend = LmdbBackend(str(tmp_path / "db"), loop=asyncio.get_running_loop())
        for at_once in (True, False):
            fill(backend, 1, 2000)
            done = asyncio.Event()
            backend.defragment(done.set)
            if not at_once:
                await asyncio.sleep(0.002)
            items = [(Bucket.KEY, key_of(index), b"new") for index in range(20)]
            assert backend.install(backend.stage(iter(items), index=5000, term=7)) == (5000, 7)
            await done.wait()
            assert content(backend) == {key_of(index): b"new" for index in range(20)}
            backend.put(Bucket.KEY, b"later", b"v")
            backend.applied(5001, 7)
            done = asyncio.Event()
            backend.commit(done.set)
            await done.wait()
            assert content(backend)[b"later"] == b"v"
        backend.close()
        assert len(os.listdir(tmp_path / "db")) == 2

    asyncio.run(asyncio.wait_for(test(), scaled(20)))


def test_d21_a_full_disk_stops_the_backend_and_leaves_the_last_commit(tmp_path: Path) -> None:
    victim = _start(tmp_path / "db", "full")
    out, err = victim.communicate(timeout=scaled(20))
    lines = out.decode().splitlines()
    failures = [line for line in lines if line.startswith("failed")]
    assert len(failures) == 1
    assert failures[0].startswith(f"failed database {tmp_path}")
    assert "StorageFailure" in err.decode(), "`applied` raises it"
    reported = max(int(line) for line in lines if line not in failures)
    backend = LmdbBackend(str(tmp_path / "db"))
    durable = backend.applied_index
    assert durable >= reported > 0
    assert content(backend) == entries(1, durable)
    fill(backend, durable + 1, durable + 500)
    backend.commit_now()
    backend.close()


def test_d05_a_close_during_the_switch_to_a_defragmented_copy(tmp_path: Path) -> None:
    """The commit in progress writes to the copy; closing the copy under it would lose what was applied."""

    async def test() -> None:
        backend = LmdbBackend(
            str(tmp_path / "db"), loop=asyncio.get_running_loop(), batch_seconds=3600, batch_operations=1 << 30
        )
        fill(backend, 1, 10_000)
        backend.defragment(lambda: None)
        old = backend.file
        while (commit := backend._commits._commit) is None or commit.file is old:
            await asyncio.sleep(0)
        fill(backend, 10_001, 10_100)
        backend.close()
        found = LmdbBackend(str(tmp_path / "db"))
        assert (found.applied_index, content(found)) == (10_100, entries(1, 10_100))
        found.close()

    asyncio.run(asyncio.wait_for(test(), scaled(20)))


def test_d36_the_map_size_survives_a_defragmentation_and_a_snapshot(tmp_path: Path) -> None:
    backend = LmdbBackend(str(tmp_path / "db"), map_bytes=1 << 38)
    fill(backend, 1, 10)
    backend.defragment(lambda: None)
    assert backend.file.env.info()["map_size"] == 1 << 38
    backend.install(backend.stage([], index=20, term=1))
    assert backend.file.env.info()["map_size"] == 1 << 38
    backend.close()


def test_a_file_that_is_not_a_database_is_rejected_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / "0000000000000003.lmdb").write_bytes(b"not a database" * 1000)
    with pytest.raises(StorageFailure, match=r"0000000000000003\.lmdb"):
        LmdbBackend(str(tmp_path / "db"))


def _run_and_kill(directory: Path, mode: str, *, reports: int) -> int:
    """Kill the victim after a number of reports. Returns the last index that it reported durable."""
    victim = _start(directory, mode)
    try:
        assert victim.stdout is not None
        lines = [victim.stdout.readline() for _ in range(reports)]
    finally:
        victim.kill()
        rest, err = victim.communicate()
    complete = (b"".join(lines) + rest).rpartition(b"\n")[0].splitlines()
    assert complete, err.decode()
    return int(complete[-1])


def _start(directory: Path, mode: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.storage.backend_victim", str(directory), mode]
    root = Path(__file__).parents[2]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=root)


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """Each test closes its backends, so that no thread of theirs is left."""
    before = set(threading.enumerate())
    yield
    left = [thread.name for thread in threading.enumerate() if thread not in before]
    assert left == []
