"""Receives a snapshot: the database goes to a file as it arrives; raft gets the message once that file is durable.

The file is written under a temporary name, fsynced, renamed to `%016x.snap.db` (the snapshot's index), and the directory is
fsynced: a power cut leaves the whole database or none. A thread writes, a mebibyte at a time; meanwhile the socket is not
read, so memory is bounded.

A second snapshot at the same index does not replace the first one's file, which the owner may be opening.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, ParamSpec, TypeVar

from tercet.disk_sync import sync_file
from tercet.http1.server import Body, BodyError
from tercet.peer.frames import unpack_u64_from

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_WRITE_BYTES: Final = 1 << 20
_TEMPORARY_PREFIX: Final = "tmp-snap-"


def snapshot_path(directory: Path, index: int) -> Path:
    """The file of the received database for the snapshot at `index`."""
    return directory / f"{index:016x}.snap.db"


def remove_stale(directory: Path) -> None:
    """Delete partial files of transfers that a crash interrupted."""
    for path in directory.glob(f"{_TEMPORARY_PREFIX}*"):
        path.unlink(missing_ok=True)
        logger.info("removed the partial file of an interrupted snapshot transfer: %s", path.name)


class BodyReader:
    """Reads a body: first by length, then in pieces to its end."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self._rest = b""

    async def exactly(self, size: int) -> bytes:
        """The next `size` bytes. Raises BodyError if the body ends before."""
        parts = [self._rest]
        total = len(self._rest)
        while total < size:
            chunk = await self._body.chunk()
            if not chunk:
                raise BodyError("unexpected EOF")
            parts.append(chunk)
            total += len(chunk)
        joined = b"".join(parts)
        self._rest = joined[size:]
        return joined[:size]

    async def piece(self) -> bytes:
        """About a mebibyte; empty at the end."""
        parts = [self._rest]
        total = len(self._rest)
        self._rest = b""
        while total < _WRITE_BYTES:
            chunk = await self._body.chunk()
            if not chunk:
                break
            parts.append(chunk)
            total += len(chunk)
        return b"".join(parts)


async def read_envelope(reader: BodyReader, bytes_max: int) -> bytes:
    """The encoded message before the database. Raises BodyError."""
    size: int = unpack_u64_from(await reader.exactly(8))[0]
    if size > bytes_max:
        raise BodyError(f"the message before the database has {size} bytes, over the limit of {bytes_max}")
    return await reader.exactly(size)


class Saved(NamedTuple):
    """size: of the database, in bytes. sync_seconds: how long its fsync took."""

    size: int
    sync_seconds: float


async def save_database(reader: BodyReader, directory: Path, index: int) -> Saved:
    """Write the rest of the body to its file. Raises BodyError, OSError; no file is left then."""
    file = await _in_thread(_create, directory)
    try:
        size = 0
        while piece := await reader.piece():
            await _in_thread(file.write, piece)
            size += len(piece)
        if not size:
            raise BodyError("a snapshot without a database")
        sync_seconds = await _in_thread(_finish, file, snapshot_path(directory, index))
    finally:  # nothing is awaited here, so that a cancelled reception cleans up too
        with suppress(OSError):
            file.close()
        Path(file.name).unlink(missing_ok=True)
    return Saved(size, sync_seconds)


async def _in_thread(function: Callable[P, T], *args: P.args, **_: P.kwargs) -> T:
    """Run `function` in a thread. A cancelled caller still waits for its end: the file must not be closed during a write."""
    future = asyncio.get_running_loop().run_in_executor(None, function, *args)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        while not future.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([future])
        raise


def _create(directory: Path) -> BinaryIO:
    import tempfile  # on use: with what it imports, a fiftieth of the start of a member

    os.makedirs(directory, mode=0o700, exist_ok=True)  # of a member in memory it is missing at first
    descriptor, name = tempfile.mkstemp(dir=directory, prefix=_TEMPORARY_PREFIX)
    os.close(descriptor)
    return open(name, "wb")


def _finish(file: BinaryIO, target: Path) -> float:
    """Returns the seconds of the file's fsync."""
    file.flush()
    began = time.monotonic()
    sync_file(file.fileno())
    sync_seconds = time.monotonic() - began
    if target.exists():
        return sync_seconds
    os.rename(file.name, target)
    directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        sync_file(directory)
    finally:
        os.close(directory)
    return sync_seconds
