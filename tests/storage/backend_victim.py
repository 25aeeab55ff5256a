"""A program that tests kill: it applies entries in a loop, and prints the index of each durable commit.

    python -m tests.storage.backend_victim DIRECTORY [defragment | full]

Entry i puts key i, and deletes key i - 50, so that pages are freed and reused. With `defragment` it also defragments
repeatedly. With `full` no file may grow beyond 300 kB, and the program ends when the backend fails.
"""

from __future__ import annotations

import asyncio
import resource
import sys

from tercet.storage.interfaces import Bucket
from tercet.storage.lmdb_backend import LmdbBackend

KEPT = 50
VALUE_BYTES = 700


def key_of(index: int) -> bytes:
    return index.to_bytes(8, "big")


def value_of(index: int) -> bytes:
    return index.to_bytes(4, "big") * (VALUE_BYTES // 4)


async def run(directory: str, mode: str) -> None:
    loop = asyncio.get_running_loop()
    if mode == "full":
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
    backend = LmdbBackend(directory, loop=loop, batch_operations=64, batch_seconds=0.005, on_failure=_print_failure)
    index = backend.applied_index

    def durable() -> None:
        print(backend.applied_index, flush=True)
        backend.commit(durable)

    def defragment() -> None:
        backend.defragment(defragment)

    backend.commit(durable)
    if mode == "defragment":
        defragment()
    while True:
        for _ in range(7):
            index += 1
            backend.put(Bucket.KEY, key_of(index), value_of(index))
            if index > KEPT and mode != "full":
                backend.delete(Bucket.KEY, key_of(index - KEPT))
            backend.applied(index, 1)
        await asyncio.sleep(0)


def _print_failure(error: Exception) -> None:
    print("failed", error, flush=True)


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else ""))
