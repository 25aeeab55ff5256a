"""The database is defragmented at start only if that frees the threshold."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tercet.errors import StorageFailure
from tercet.server.boot_defragmentation import defragment_at_start
from tercet.storage.memory_backend import MemoryBackend


class Backend(MemoryBackend):
    def __init__(self, size: int, in_use: int, failure: StorageFailure | None = None) -> None:
        super().__init__()
        self.sizes = size, in_use
        self.failure = failure
        self.defragmented = 0

    def size(self) -> int:
        return self.sizes[0]

    def size_in_use(self) -> int:
        return self.sizes[1]

    def defragment(self, then: Callable[[], None], *, failed: Callable[[StorageFailure], None] | None = None) -> None:
        self.defragmented += 1
        if self.failure is not None and failed is not None:
            failed(self.failure)
        else:
            then()


@pytest.mark.parametrize(("threshold", "expected"), [(0, 0), (1, 1), (3, 1), (4, 0)])
def test_the_threshold_decides(threshold: int, expected: int) -> None:
    backend = Backend(5 << 20, 2 << 20)
    asyncio.run(defragment_at_start(backend, threshold))
    assert backend.defragmented == expected


def test_a_failure_stops_the_start() -> None:
    with pytest.raises(StorageFailure, match="no space"):
        asyncio.run(defragment_at_start(Backend(5 << 20, 0, StorageFailure("no space")), 1))
