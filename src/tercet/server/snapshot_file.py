"""Databases exchanged with peers in bbolt's format: sent in chunks, received as a file.

bbolt's format makes them exchangeable with etcd. Long work runs in threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from tercet.errors import StorageFailure
from tercet.storage.interfaces import Bucket, ReadView

_CHUNK_BYTES: Final = 256 * 1024


async def database_chunks(view: ReadView) -> AsyncIterator[bytes]:
    """The view as a bbolt file. Each chunk is built in a thread. Closes the view."""
    from tercet.bolt import measure, view_source  # here and below: few members send or receive a database

    loop = asyncio.get_running_loop()
    try:
        image = await loop.run_in_executor(None, measure, view_source(view))
        chunks = image.chunks(_CHUNK_BYTES)
        while chunk := await loop.run_in_executor(None, partial(next, chunks, b"")):
            yield chunk
    finally:
        view.close()


class SnapshotFile:
    """A bbolt file received from a peer: its (bucket, key, value), without buckets unknown to this version."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __iter__(self) -> Iterator[tuple[Bucket, bytes, bytes]]:
        from tercet.bolt import BoltFile

        known = {bucket.value: bucket for bucket in Bucket}
        try:
            with BoltFile(self._path) as file:
                for name in file.buckets():
                    if name in known:
                        for key, value in file.items(name):
                            yield known[name], key, value
        except FileNotFoundError as error:
            raise StorageFailure(f"{self._path}: the received database is missing") from error

    def discard(self) -> None:
        self._path.unlink(missing_ok=True)
