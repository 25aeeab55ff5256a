"""Many snapshots at once: the measurement of one delays no chunk of another, and no other work in threads."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from threading import Event

import pytest

from tercet.services.snapshot_threads import SnapshotThreads
from tercet.storage.interfaces import Bucket, ReadView
from tercet.storage.lmdb_view import ViewClosed
from tercet.storage.memory_backend import MemoryBackend
from tests.support.waiting import scaled


class HeldView:
    """A view whose scan waits until `gate` opens, and then finds the view closed."""

    def __init__(self, gate: Event) -> None:
        self._gate = gate

    def get(self, bucket: Bucket, key: bytes) -> bytes | None:
        return None

    def scan(self, bucket: Bucket, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        self._gate.wait()
        raise ViewClosed("closed")
        yield b"", b""

    def close(self) -> None: ...


def test_a_hundred_measurements_delay_no_chunk_and_no_other_work() -> None:
    async def scenario() -> None:
        loop, threads, gate = asyncio.get_running_loop(), SnapshotThreads(), Event()
        try:
            measured = [asyncio.create_task(threads.measure(HeldView(gate))) for _ in range(100)]
            assert await threads.next_chunk(iter([b"chunk"])) == b"chunk"
            assert await threads.next_chunk(iter([])) == b""
            assert await loop.run_in_executor(None, lambda: "other work") == "other work"
        finally:
            gate.set()
        for one in measured:
            with pytest.raises(ViewClosed):
                await one
        threads.close()

    async def bounded() -> None:
        async with asyncio.timeout(scaled(60)):
            await scenario()

    asyncio.run(bounded())


def test_a_cancelled_measurement_lets_the_next_begin() -> None:
    async def scenario() -> None:
        threads, gate = SnapshotThreads(), Event()
        views: list[ReadView] = []
        MemoryBackend().view(views.append)
        try:
            cancelled = asyncio.create_task(threads.measure(HeldView(gate)))
            waiting = asyncio.create_task(threads.measure(views[0]))
            await asyncio.sleep(0)
            cancelled.cancel()
            image = await waiting
            assert image.size == sum(map(len, image.chunks()))
        finally:
            gate.set()
        threads.close()

    async def bounded() -> None:
        async with asyncio.timeout(scaled(60)):
            await scenario()

    asyncio.run(bounded())
