"""How does a snapshot carry the proof that it is whole?

A saved snapshot is the database file and then the 32 bytes of its SHA-256. A bbolt file is whole pages, so a size of 32
modulo 512 says that a digest is there. Maintenance.Snapshot sends the same 32 bytes as its last message; peers send files
without them. Source: etcd clientv3/snapshot, etcdutl/snapshot.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from tercet.errors import StorageFailure

DIGEST_BYTES: Final = hashlib.sha256().digest_size
_SECTOR_BYTES: Final = 512
_READ_BYTES: Final = 1 << 20


def with_digest(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The chunks as they are, and one more behind them: the SHA-256 of all."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
        yield chunk
    yield digest.digest()


def has_digest(size: int) -> bool:
    """Whether a file of `size` bytes ends with a digest."""
    return size % _SECTOR_BYTES == DIGEST_BYTES


def verify_digest(path: str | Path) -> int:
    """Check a file against the digest at its end; returns the bytes before it. Raises StorageFailure if it is absent or
    wrong.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if not has_digest(size):
                raise StorageFailure(f"{path}: no SHA-256 at its end ({size} bytes)")
            digest = hashlib.sha256()
            left = size - DIGEST_BYTES
            while left:
                chunk = file.read(min(left, _READ_BYTES))
                if not chunk:
                    raise StorageFailure(f"{path}: cut short while it was read")
                digest.update(chunk)
                left -= len(chunk)
            recorded = file.read(DIGEST_BYTES)
    except OSError as error:
        raise StorageFailure(f"{path}: {error.strerror}") from error
    if recorded != digest.digest():
        raise StorageFailure(f"{path}: wrong SHA-256: {digest.hexdigest()} of the file, {recorded.hex()} at its end")
    return size - DIGEST_BYTES
