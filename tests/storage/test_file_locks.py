"""The files of the log and the database are locked: a second process fails to open them before it changes anything."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tercet.errors import StorageFailure
from tercet.raft.types import Entry, HardState
from tercet.storage.interfaces import Bucket
from tercet.storage.lmdb_backend import LmdbBackend
from tercet.storage.os_filesystem import OsFileSystem
from tercet.storage.wal import WAL
from tests.support.fakes import uses_fakes

SEGMENT_BYTES = 64 << 10

OPEN_LOG = f"""
import sys
from tercet.storage.os_filesystem import OsFileSystem
from tercet.storage.wal import WAL
if WAL.exists(OsFileSystem(), sys.argv[1]):
    opened, _ = WAL.open(OsFileSystem(), sys.argv[1], segment_bytes={SEGMENT_BYTES})
else:
    opened = WAL.create(OsFileSystem(), sys.argv[1], b"whose", segment_bytes={SEGMENT_BYTES})
"""
OPEN_DATABASE = """
import sys
from tercet.storage.lmdb_backend import LmdbBackend
opened = LmdbBackend(sys.argv[1])
"""


@contextmanager
def other_process(program: str, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has opened the files of `directory`."""
    command = [sys.executable, "-c", program + "print('open', flush=True); sys.stdin.read()", str(directory)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def files(directory: Path) -> dict[str, tuple[int, int]]:
    """Size and modification time of each file."""
    return {path.name: (path.stat().st_size, path.stat().st_mtime_ns) for path in directory.iterdir()}


def open_log(directory: Path) -> WAL:
    return WAL.open(OsFileSystem(), str(directory), segment_bytes=SEGMENT_BYTES)[0]


@pytest.mark.parametrize(
    ("program", "open_here"), [(OPEN_LOG, open_log), (OPEN_DATABASE, lambda directory: LmdbBackend(str(directory)))]
)
def test_a_second_process_is_rejected_and_changes_nothing(
    tmp_path: Path, program: str, open_here: Callable[[Path], WAL | LmdbBackend]
) -> None:
    directory = tmp_path / "files"
    with other_process(program, directory):
        (directory / "unfinished.tmp").write_bytes(b"the first process is writing this")
        before = files(directory)
        with pytest.raises(StorageFailure, match=rf"^{directory}/\w+\.(wal|lmdb) is locked by another process$"):
            open_here(directory)
        assert files(directory) == before
    open_here(directory).close()  # the kernel released the lock when the process exited


def test_a_log_stays_locked_across_its_segments(tmp_path: Path) -> None:
    """This includes the time when the newest segment is only prepared, and after the first locked segment is removed."""
    directory = tmp_path / "wal"
    wal = WAL.create(OsFileSystem(), str(directory), b"whose", segment_bytes=SEGMENT_BYTES)
    for index in range(1, 200):
        wal.append(HardState(1, 1, index), [Entry(1, index, bytes(1000))])
        wal.sync()
        if index % 3 == 0:
            wal.prepare_next()
        with pytest.raises(StorageFailure, match="locked by another process"):
            open_log(directory)
    assert len(wal.segments) > 2
    wal.close()
    open_log(directory).close()


def test_a_restarted_log_locks_both_segments(tmp_path: Path) -> None:
    """The segment being written, and the empty one prepared after it."""
    directory = tmp_path / "wal"
    wal = WAL.create(OsFileSystem(), str(directory), b"whose", segment_bytes=SEGMENT_BYTES)
    wal.prepare_next()
    wal.close()
    wal = open_log(directory)
    for path in sorted(directory.iterdir()):
        file = OsFileSystem().open(str(path))
        with pytest.raises(StorageFailure, match="locked by another process"):
            file.lock()
        file.close()
    wal.close()


@uses_fakes
def test_a_log_that_appears_during_its_creation_is_not_overwritten(tmp_path: Path) -> None:
    """Two members start with one new directory: the second finds no log, and then loses the race to create it."""
    directory = tmp_path / "wal"

    class Late(OsFileSystem):
        def make_directory(self, path: str) -> None:
            self.other = WAL.create(OsFileSystem(), path, b"the other's", segment_bytes=SEGMENT_BYTES)

    fs = Late()
    with pytest.raises(StorageFailure, match=r"0000000000000000\.wal is locked by another process"):
        WAL.create(fs, str(directory), b"whose", segment_bytes=SEGMENT_BYTES)
    fs.other.close()
    assert open_log(directory).metadata == b"the other's"


def test_a_database_stays_locked_across_its_generations(tmp_path: Path) -> None:
    directory = tmp_path / "db"
    backend = LmdbBackend(str(directory))

    def assert_locked() -> None:
        with pytest.raises(StorageFailure, match="locked by another process"):
            LmdbBackend(str(directory))

    assert_locked()
    backend.put(Bucket.KEY, b"k", b"v")
    backend.applied(1, 1)
    backend.defragment(lambda: None)
    assert_locked()
    backend.install(backend.stage([(Bucket.KEY, b"k", b"w")], index=5, term=1))
    assert_locked()
    backend.close()
    LmdbBackend(str(directory)).close()


def test_a_closed_database_leaves_no_open_descriptor(tmp_path: Path) -> None:
    backend = LmdbBackend(str(tmp_path / "db"))
    backend.defragment(lambda: None)
    backend.install(backend.stage([], index=5, term=1))
    assert open_files(tmp_path) != []
    backend.close()
    assert open_files(tmp_path) == []


def open_files(directory: Path) -> list[str]:
    """The files in a directory that this process has open, a line each."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the descriptor of the listing itself
            found.append(os.readlink(f"/proc/self/fd/{number}"))
    return [path for path in found if path.startswith(str(directory))]
