"""The simulated disk loses what its docstring says, and nothing else."""

from __future__ import annotations

from random import Random

import pytest

from tercet.errors import StorageFailure
from tercet.sim.filesystem import SECTOR, SimulatedFileSystem


def read(fs: SimulatedFileSystem, path: str) -> bytes:
    file = fs.open(path)
    return file.pread(file.size(), 0)


def durable_file(fs: SimulatedFileSystem, path: str, data: bytes) -> None:
    file = fs.open(path, create=True)
    file.pwrite(data, 0)
    file.datasync()
    fs.sync_directory(".")


def test_what_was_synced_survives() -> None:
    fs = SimulatedFileSystem()
    durable_file(fs, "f", b"kept")
    fs.crash(Random(0))
    assert read(fs, "f") == b"kept"


def test_each_unsynced_sector_is_kept_or_lost_by_itself() -> None:
    fates = set()
    for seed in range(40):
        fs = SimulatedFileSystem()
        durable_file(fs, "f", b"o" * (3 * SECTOR))
        fs.open("f").pwrite(b"n" * (3 * SECTOR), 0)
        fs.crash(Random(seed))
        data = read(fs, "f")
        sectors = [data[at : at + SECTOR] for at in range(0, len(data), SECTOR)]
        assert all(sector in (b"o" * SECTOR, b"n" * SECTOR) for sector in sectors)
        fates.add("".join(chr(sector[0]) for sector in sectors))
    assert len(fates) == 8


def test_an_unsynced_name_is_kept_or_lost() -> None:
    outcomes = set()
    for seed in range(20):
        fs = SimulatedFileSystem()
        durable_file(fs, "old", b"x")
        fs.rename("old", "new")
        fs.crash(Random(seed))
        outcomes.add(tuple(fs.list(".")))
    assert outcomes == {("old",), ("new",)}


def test_a_file_is_lost_with_its_unsynced_directory() -> None:
    outcomes = set()
    for seed in range(20):
        fs = SimulatedFileSystem()
        fs.make_directory("d")
        fs.open("d/f", create=True)
        fs.sync_directory("d")
        fs.crash(Random(seed))
        outcomes.add(fs.exists("d/f"))
    assert outcomes == {True, False}


def test_a_removed_file_may_return() -> None:
    outcomes = set()
    for seed in range(20):
        fs = SimulatedFileSystem()
        durable_file(fs, "f", b"x")
        fs.remove("f")
        fs.crash(Random(seed))
        outcomes.add(fs.exists("f"))
    assert outcomes == {True, False}


def test_a_failed_sync_loses_the_writes_before_it() -> None:
    fs = SimulatedFileSystem()
    durable_file(fs, "f", b"old")
    file = fs.open("f")
    file.pwrite(b"new", 0)
    fs.fail_syncs = True
    with pytest.raises(StorageFailure, match="fdatasync f"):
        file.datasync()
    fs.fail_syncs = False
    file.datasync()
    assert read(fs, "f") == b"new"
    fs.crash(Random(0))
    assert read(fs, "f") == b"old"


def test_a_handle_does_not_outlive_the_crash() -> None:
    fs = SimulatedFileSystem()
    file = fs.open("f", create=True)
    fs.crash(Random(0))
    with pytest.raises(StorageFailure, match="before the crash"):
        file.pwrite(b"x", 0)


def test_space_is_counted() -> None:
    fs = SimulatedFileSystem(space_left=1000)
    file = fs.open("f", create=True)
    file.allocate(800)
    file.pwrite(b"x" * 800, 0)
    with pytest.raises(StorageFailure, match="no space left"):
        file.pwrite(b"y" * 300, 800)
    assert file.size() == 1000, "what fits is written"
    fs.remove("f")
    assert fs.space_left == 1000


def test_the_power_fails_at_the_given_call() -> None:
    fs = SimulatedFileSystem()
    fs.calls_left = 2
    file = fs.open("f", create=True)
    file.pwrite(b"x", 0)
    with pytest.raises(StorageFailure, match="power is off"):
        file.datasync()
    assert file.pread(1, 0) == b"x"
    fs.crash(Random(0))
    fs.open("g", create=True)


@pytest.mark.parametrize("path", ["missing", "missing/f"])
def test_a_missing_file_is_a_storage_failure(path: str) -> None:
    fs = SimulatedFileSystem()
    with pytest.raises(StorageFailure, match=path):
        fs.open(path)
    with pytest.raises(StorageFailure, match=path):
        fs.remove(path)
    with pytest.raises(StorageFailure, match=path):
        fs.rename(path, "other")
