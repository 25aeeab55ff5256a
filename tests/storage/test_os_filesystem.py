"""`FileSystem` on the operating system: what each call does, and its errors with their paths."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tercet.errors import StorageFailure
from tercet.storage.os_filesystem import OsFileSystem, make_directories


def test_files_are_read_written_and_truncated(tmp_path: Path) -> None:
    fs = OsFileSystem()
    path = str(tmp_path / "f")
    file = fs.open(path, create=True)
    file.allocate(10_000)
    assert (file.size(), file.pread(4, 9_998)) == (10_000, b"\0\0")
    file.pwrite(b"x" * 300, 9_900)
    file.datasync()
    assert file.size() == 10_200
    file.truncate(9_901)
    assert file.pread(100, 9_899) == b"\0x"
    file.close()
    file.close()
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_creating_renaming_and_removing(tmp_path: Path) -> None:
    fs = OsFileSystem()
    directory = str(tmp_path / "d")
    fs.make_directory(directory)
    fs.make_directory(directory)
    fs.open(directory + "/b", create=True).close()
    fs.open(directory + "/a", create=True).close()
    fs.rename(directory + "/b", directory + "/c")
    fs.sync_directory(directory)
    assert fs.list(directory) == ["a", "c"]
    fs.remove(directory + "/a")
    assert not fs.exists(directory + "/a")
    assert fs.exists(directory + "/c")


def test_errors_name_path_and_action(tmp_path: Path) -> None:
    fs = OsFileSystem()
    missing = str(tmp_path / "missing")
    calls: dict[str, Callable[[], object]] = {
        "open": lambda: fs.open(missing),
        "remove": lambda: fs.remove(missing),
        "list": lambda: fs.list(missing),
        "rename": lambda: fs.rename(missing, missing + "2"),
        "make directory": lambda: fs.make_directory(missing + "/d"),
        "fsync directory": lambda: fs.sync_directory(missing),
    }
    for action, call in calls.items():
        with pytest.raises(StorageFailure, match=rf"^{action} {missing}.*: no such file or directory$"):
            call()
    (tmp_path / "f").touch()
    with pytest.raises(StorageFailure, match="a file is in its place"):
        fs.make_directory(str(tmp_path / "f"))


def test_a_full_disk_names_the_file_and_the_write() -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    file = OsFileSystem().open("/dev/full")
    with pytest.raises(StorageFailure, match="write 3 bytes at offset 0 of /dev/full: no space left on device"):
        file.pwrite(b"abc", 0)
    file.close()


def test_without_sync_no_fdatasync_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    for sync in (True, False):
        file = OsFileSystem(sync=sync).open(str(tmp_path / "f"), create=True)
        file.datasync()
        file.close()
    assert len(synced) == 1


def test_new_parents_of_a_directory_are_for_the_owner_only(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        make_directories(str(tmp_path / "a" / "b" / "c"))
        make_directories(str(tmp_path / "a" / "b" / "c"))
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("a", "a/b", "a/b/c")] == [0o700] * 3
    (tmp_path / "f").touch()
    with pytest.raises(FileExistsError):
        make_directories(str(tmp_path / "f"))
    with pytest.raises(NotADirectoryError):
        make_directories(str(tmp_path / "f" / "d"))


def test_the_name_of_each_new_directory_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a power cut could take away the directory of a member that has acknowledged writes."""
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    make_directories(str(tmp_path / "a" / "b"))
    assert synced == [str(tmp_path), str(tmp_path / "a")]
