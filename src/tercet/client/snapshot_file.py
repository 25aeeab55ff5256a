"""A snapshot on its way from a member to a file.

The last 32 bytes of the stream are the SHA-256 of all before them. They stay at the end of the file, where `etcdutl snapshot
restore` and `tercetutl snapshot restore` look for them.
Source: etcd client/v3/snapshot/v3_snapshot.go.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from tercet.client.errors import Corrupt
from tercet.errors import Code
from tercet.proto import rpc_pb2

_DIGEST_BYTES = 32
_WRITE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Snapshot:
    """file_bytes: with the digest at the end. version: of the storage, empty from servers before 3.6."""

    path: str
    file_bytes: int
    sha256: bytes
    version: str


class _Checked:
    """Writes to a file; the digest is of all but the last 32 bytes. Its methods block."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "wb", buffering=0, opener=lambda name, flags: os.open(name, flags, 0o600))  # noqa: SIM115
        self._digest = hashlib.sha256()
        self._tail = b""
        self.file_bytes = 0

    def write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]  # a disk that fills up takes a part, and refuses the next
        self.file_bytes += len(data)
        held = self._tail + data
        self._digest.update(held[:-_DIGEST_BYTES])
        self._tail = held[-_DIGEST_BYTES:]

    def finish(self) -> bytes:
        """Make the file durable. Returns the digest. Raises Corrupt."""
        digest = self._digest.digest()
        if self._tail != digest:
            raise Corrupt("the snapshot is damaged or incomplete: its SHA-256 differs", Code.DATA_LOSS)
        os.fsync(self._file.fileno())
        return digest

    def close(self) -> None:
        self._file.close()


def require_replaceable(path: str) -> None:
    """Raise OSError for the path of a device, pipe or socket: the file would take its place. /dev/full, say, would be gone."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):  # opening it says why
        return
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, "is a device, pipe or socket, which a snapshot would replace; name a file", path)


async def save_snapshot(pieces: AsyncGenerator[rpc_pb2.SnapshotResponse], path: str) -> Snapshot:
    """Write to PATH.part, then rename. Raises StatusError, Corrupt, OSError; no new file is left then."""
    require_replaceable(path)
    part = f"{path}.part"
    version = ""
    held = bytearray()
    target = await asyncio.to_thread(_Checked, part)
    try:
        async with contextlib.aclosing(pieces):
            async for piece in pieces:
                version = piece.version or version
                held += piece.blob
                if len(held) >= _WRITE_BYTES:
                    await asyncio.to_thread(target.write, bytes(held))
                    held.clear()
        await asyncio.to_thread(target.write, bytes(held))
        digest = await asyncio.to_thread(target.finish)
        target.close()
        await asyncio.to_thread(os.replace, part, path)
    except BaseException:
        target.close()
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise
    return Snapshot(path, target.file_bytes, digest, version)
