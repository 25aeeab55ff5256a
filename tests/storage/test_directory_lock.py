"""One holder per directory, also across processes; `on_slow` is called once during a long wait."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from tercet.errors import StorageFailure
from tercet.storage.directory_lock import DirectoryLock
from tests.support.waiting import scaled


def test_a_second_process_waits_until_the_first_one_exits(tmp_path: Path) -> None:
    program = (
        "import sys; from tercet.storage.directory_lock import DirectoryLock;"
        "lock = DirectoryLock(sys.argv[1]); print(lock.try_acquire() and 'held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        lock = DirectoryLock(tmp_path)
        assert not lock.try_acquire()
        slow: list[str] = []

        async def wait() -> None:
            waiting = asyncio.create_task(lock.wait(on_slow=lambda: slow.append("slow"), slow_seconds=0.15))
            while not slow:
                await asyncio.sleep(0.01)
            assert not waiting.done()
            holder.kill()  # the kernel releases the lock
            await waiting

        asyncio.run(asyncio.wait_for(wait(), scaled(10)))
        assert slow == ["slow"]
        assert not DirectoryLock(tmp_path).try_acquire()
        lock.release()
    finally:
        holder.kill()
        holder.communicate()


def test_two_locks_in_one_process_exclude_each_other(tmp_path: Path) -> None:
    first, second = DirectoryLock(tmp_path), DirectoryLock(str(tmp_path))
    assert first.try_acquire()
    assert first.try_acquire(), "a held lock can be acquired again by its holder"
    assert not second.try_acquire()
    first.release()
    first.release()
    assert second.try_acquire()
    second.release()


def test_a_wait_can_be_cancelled(tmp_path: Path) -> None:
    first, second = DirectoryLock(tmp_path), DirectoryLock(tmp_path)
    assert first.try_acquire()

    async def wait() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(second.wait(on_slow=lambda: None), 0.05)

    asyncio.run(wait())
    first.release()
    assert second.try_acquire()
    second.release()


def test_a_missing_directory_is_a_storage_failure(tmp_path: Path) -> None:
    with pytest.raises(StorageFailure, match="missing: no such file or directory"):
        DirectoryLock(tmp_path / "missing").try_acquire()
