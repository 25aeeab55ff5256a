"""Clients' snapshots are built in threads of their own, so that many of them delay neither each other's chunks nor other work.

    measure   a pass over the whole database, which finds the size to announce; one at a time, in the order of requests
    chunk     32 KiB of the file; those of all snapshots in turn

A thread competes with the event loop for the interpreter, and the loop's own executor also carries snapshots to followers,
hashes and large JSON bodies, which a client that opens hundreds of snapshots must not keep waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from tercet.slots import Slots
from tercet.storage.interfaces import ReadView

if TYPE_CHECKING:
    from tercet.bolt import Image

_THREADS: Final = 2  # one for the measurement, so that it never keeps a chunk waiting


class SnapshotThreads:
    """Of one member. Threads start with the first snapshot."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="tercet-snapshot")
        self._measuring = Slots()

    async def measure(self, view: ReadView) -> Image:
        """Raises ViewClosed when the view ends meanwhile, StorageFailure for a database that cannot be read."""
        from tercet.bolt import measure, view_source  # with the first snapshot: a start must not wait for it

        async with self._measuring:
            return await asyncio.get_running_loop().run_in_executor(self._threads, measure, view_source(view))

    async def next_chunk(self, chunks: Iterator[bytes]) -> bytes:
        """Of `Image.chunks`; empty after the last one. Raises as `measure`."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, next, chunks, b"")

    def close(self) -> None:
        """Drop what waits."""
        self._threads.shutdown(wait=False, cancel_futures=True)
