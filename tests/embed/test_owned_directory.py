"""Temporary directories of processes that were killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tercet import Cluster
from tercet.owned_directory import OwnedDirectory, remove_abandoned
from tests.support.waiting import wait_until

OWNER = """
import os, subprocess, sys, time
from tercet.owned_directory import OwnedDirectory
owned = OwnedDirectory("test")
(owned.path / "data").write_text("1")
child = None
if sys.argv[1:]:
    child = subprocess.Popen(["sleep", "600"], pass_fds=(owned.descriptor,), stdout=subprocess.DEVNULL)
print(owned.path, child.pid if child else 0, flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def killed_owner(*arguments: str) -> tuple[Path, int]:
    """The directory of a process that was killed, and the process that it has started."""
    with subprocess.Popen([sys.executable, "-c", OWNER, *arguments], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        path, child = process.stdout.readline().rsplit(maxsplit=1)
        remove_abandoned()
        assert (Path(path) / "data").exists(), "its owner lives"
        process.kill()
    return Path(path), int(child)


def test_the_next_one_removes_what_a_killed_process_left(temporary: Path) -> None:
    left, _ = killed_owner()
    assert left.exists()
    owned = OwnedDirectory("test")
    assert os.listdir(temporary) == [owned.path.name]
    remove_abandoned()
    assert owned.path.exists()
    owned.close()
    owned.close()
    assert not os.listdir(temporary)


def test_a_directory_stays_while_a_member_uses_it() -> None:
    left, child = killed_owner("with a member")
    try:
        remove_abandoned()
        assert (left / "data").exists()
    finally:
        os.kill(child, signal.SIGKILL)

    def is_gone() -> bool:
        remove_abandoned()
        return not left.exists()

    wait_until(is_gone, "the directory is removed")  # the system closes its files a little later


def test_directories_of_other_kinds_stay(temporary: Path) -> None:
    (temporary / "tercet-kept-1").mkdir()
    remove_abandoned()
    assert os.listdir(temporary) == ["tercet-kept-1"]


def test_members_in_memory_make_no_directory(temporary: Path) -> None:
    """Nobody would remove it after a SIGKILL."""
    with Cluster(1) as cluster, cluster.client() as client:
        client.put("a", "1")
        assert not os.listdir(temporary)
