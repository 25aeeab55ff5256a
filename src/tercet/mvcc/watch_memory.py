"""Memory of large batches: those that watches in the past collect, and those that wait for clients to read them.

etcd sends a watch that reads history up to 1,000 revisions in one response, of any size. Here a response ends at BATCH_BYTES,
so that it costs little and clients that refuse messages of more than 4 MiB can read it, unless it holds only a few large
values: then it goes on to LARGE_BATCH_BYTES, as long as all large batches together stay below LARGE_BATCHES_BYTES.
"""

from __future__ import annotations

from typing import Final

BATCH_BYTES: Final = 1 << 20
LARGE_BATCH_BYTES: Final = 16 << 20
LARGE_BATCH_REVISIONS: Final = 16  # of one with more revisions, each is small: end it at BATCH_BYTES
LARGE_BATCHES_BYTES: Final = 64 << 20


class LargeBatches:
    """The bytes of the large batches of one member. What several streams hold of one batch counts for each of them."""

    __slots__ = ("held_bytes",)

    def __init__(self) -> None:
        self.held_bytes = 0

    def reserve(self) -> bool:
        """Reserve memory to collect a large batch; end with `release`. False: there is none left."""
        if self.held_bytes + LARGE_BATCH_BYTES > LARGE_BATCHES_BYTES:
            return False
        self.held_bytes += LARGE_BATCH_BYTES
        return True

    def hold(self, size: int) -> None:
        self.held_bytes += size

    def release(self, size: int) -> None:
        self.held_bytes -= size
