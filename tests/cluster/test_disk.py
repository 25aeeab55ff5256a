"""A disk that is full, read-only or in use: the member names the file, stops, and restarts without loss."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import Planned
from tests.support.client import Client
from tests.support.processes import QUICK, Member, wait_until

MEGABYTE = 1 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 180 MB in memory."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=180m", "none", str(disk)], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"only root can mount a file system: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def put_until_exit(member: Member, value_bytes: int) -> dict[bytes, bytes]:
    """Put until the member exits. Returns the acknowledged writes."""
    acknowledged = {}
    for number in range(1000):
        key, value = b"k%04d" % number, b"%04d" % number + bytes(value_bytes)
        try:
            member.client.put(key, value)
        except Client.Error:
            break
        acknowledged[key] = value
    return acknowledged


def check_all(member: Member, acknowledged: dict[bytes, bytes]) -> None:
    assert acknowledged
    for key, value in acknowledged.items():
        assert member.client.get(key) == value


def test_d21_a_full_disk_under_the_log(plan: Planned) -> None:
    """etcd #2819. The kernel refuses to extend the log's file (EFBIG)."""
    member = plan(["n1"], QUICK).start()["n1"]
    acknowledged = {b"before": b"1"}
    member.client.put(b"before", b"1")
    subprocess.run(["prlimit", f"--pid={member.pid}", f"--fsize={8 * MEGABYTE}"], check=True)
    acknowledged |= put_until_exit(member, MEGABYTE)
    assert member.wait_exit() == 1
    assert 4 < len(acknowledged) < 10
    assert str(member.data / "member") in member.reason()
    member.restart()
    check_all(member, acknowledged)
    member.client.put(b"after", b"1")


def test_a_full_disk_under_the_next_segment_of_the_log(plan: Planned, small_disk: Path) -> None:
    """The member continues until the reserved segment is full."""
    member = plan(["n1"], (*QUICK, f"--wal-dir={small_disk / 'wal'}")).start()["n1"]
    segments = small_disk / "wal"
    wait_until(lambda: [path.suffix for path in segments.iterdir()] == [".wal", ".wal"], "the next segment is reserved")
    ballast = small_disk / "ballast"
    with ballast.open("wb") as file:
        disk = os.statvfs(small_disk)
        os.posix_fallocate(file.fileno(), 0, disk.f_bavail * disk.f_frsize)
    acknowledged = put_until_exit(member, MEGABYTE)
    assert member.wait_exit() == 1
    assert len(acknowledged) > 50
    assert str(small_disk / "wal") in member.reason()
    assert "no space left on device" in member.reason()
    # The disk is still full: the member serves, and writes as much as the last segment holds.
    member.restart()
    check_all(member, acknowledged)
    more = put_until_exit(member, MEGABYTE)
    assert member.wait_exit() == 1
    assert str(small_disk / "wal") in member.reason()
    acknowledged |= more
    ballast.unlink()
    member.restart()
    check_all(member, acknowledged)


def test_a_full_disk_under_the_database(plan: Planned, small_disk: Path) -> None:
    cluster = plan(["n1"], QUICK)
    member = cluster["n1"]
    member.directory.mkdir()
    member.flags = [*member.flags, f"--wal-dir={member.directory / 'wal'}"]
    member.data.symlink_to(small_disk)
    member.restart()
    ballast = small_disk / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 160 * MEGABYTE)
    acknowledged = put_until_exit(member, MEGABYTE)
    assert member.wait_exit() == 1
    assert len(acknowledged) > 5
    assert "/snap/db" in member.reason()
    assert "0 bytes are free" in member.reason()  # LMDB reports an input/output error
    ballast.unlink()
    member.restart()
    check_all(member, acknowledged)
    member.client.put(b"after", b"1")


def test_a_read_only_data_directory_is_rejected(plan: Planned, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    member = plan(["n1"], QUICK)["n1"]
    if os.geteuid() == 0:  # permissions do not apply to root
        read_only: Path = request.getfixturevalue("small_disk")
        subprocess.run(["mount", "-o", "remount,ro", str(read_only)], check=True)
    else:
        read_only = tmp_path / "read-only"
        read_only.mkdir(mode=0o500)
    for directory in (read_only, read_only / "data"):
        member.start(f"--data-dir={directory}")
        assert member.wait_exit() == 1
        assert str(directory) in member.reason()


def test_a_second_process_waits_for_the_data_directory(plan: Planned) -> None:
    """As in etcd, the second logs that after ten seconds; when the first ends, the second continues with its data."""
    cluster = plan(["n1"], QUICK).start()
    first = cluster["n1"]
    first.client.put(b"a", b"1")
    second = plan(["n1"], QUICK, directory="second")["n1"]
    second.flags = [f"--data-dir={first.data}" if flag.startswith("--data-dir") else flag for flag in second.flags]
    second.start()
    assert str(first.data) in second.wait_said("flocked by another process", seconds=30)
    assert "starting an etcd server" not in second.said()
    first.client.put(b"a", b"2")
    first.stop()
    second.wait_ready()
    assert second.client.get(b"a") == b"2"
    assert first.start().wait_said("Running")
    assert first.stop() < 0  # a signal also ends a waiting member
    assert "Traceback" not in first.said()


def test_removing_files_of_a_running_member_does_not_unlock_its_directory(plan: Planned) -> None:
    """The log and the database themselves are locked, not a separate lock file."""
    first = plan(["n1"], QUICK).start()["n1"]
    first.client.put(b"a", b"1")
    for path in first.data.iterdir():
        if path.is_file():
            path.unlink()
    second = plan(["n1"], QUICK, directory="second")["n1"]
    second.flags = [f"--data-dir={first.data}" if flag.startswith("--data-dir") else flag for flag in second.flags]
    second.start()
    second.wait_said("flocked by another process", seconds=30)
    second.kill()
    check_undamaged(first)


@pytest.mark.parametrize("shared", ["--wal-dir", "hard links"])
def test_a_second_member_on_the_same_log_is_rejected(plan: Planned, tmp_path: Path, shared: str) -> None:
    """Two data directories share one log, by --wal-dir or by hard links."""
    first, second = (plan(["n1"], QUICK, directory=name)["n1"] for name in ("first", "second"))
    if shared == "--wal-dir":
        for member in (first, second):
            member.flags = [*member.flags, f"--wal-dir={tmp_path / 'wal'}"]
    first.restart()
    first.client.put(b"a", b"1")
    if shared == "hard links":
        second.directory.mkdir()
        subprocess.run(["cp", "-al", first.data, second.data], check=True)
    second.start()
    assert second.wait_exit() == 1
    assert ".wal is locked by another process" in second.reason()
    check_undamaged(first)


def check_undamaged(member: Member) -> None:
    """The member accepts writes, and has them all after a restart."""
    for number in range(50):
        member.client.put(b"b%d" % number, b"1")
    member.kill()
    member.restart()
    assert member.client.get(b"a") == b"1"
    assert len(member.client.all(b"b")) == 50


def test_a_truncated_database_is_rejected_with_its_sizes(plan: Planned) -> None:
    member = plan(["n1"], QUICK).start()["n1"]
    for number in range(40):
        member.client.put(b"k%d" % number, bytes(20_000))
    member.stop()
    (path,) = (member.data / "member" / "snap" / "db").glob("*.lmdb")
    whole = path.read_bytes()
    os.truncate(path, len(whole) // 2)
    member.start()
    assert member.wait_exit() == 1
    assert f"database {path} is truncated: it has {len(whole) // 2} bytes, and {len(whole)}" in member.reason()
    path.write_bytes(whole)
    assert member.restart().client.get(b"k39") == bytes(20_000)
