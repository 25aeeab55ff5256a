"""The SHA-256 at the end of a saved snapshot.

A saved snapshot is the database file followed by the 32 bytes of its SHA-256. A bbolt file consists of whole pages, so a size
of 32 modulo 512 shows that the digest is there. Maintenance.Snapshot sends the same 32 bytes as its last message; peers send
files without them. Source: etcd clientv3/snapshot, etcdutl/snapshot.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

from tercet.errors import StorageFailure
from tercet.storage.os_filesystem import reason

DIGEST_BYTES: Final = hashlib.sha256().digest_size
_SECTOR_BYTES: Final = 512
_READ_BYTES: Final = 1 << 20


def has_digest(size: int) -> bool:
    """Whether a file of `size` bytes ends with a digest."""
    return size % _SECTOR_BYTES == DIGEST_BYTES


def verify_digest(path: str | Path) -> int:
    """Compare a file with the digest at its end. Returns the bytes before it. Raises StorageFailure if it is
    absent or wrong.
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
        raise StorageFailure(f"{path}: {reason(error)}") from error
    if recorded != digest.digest():
        raise StorageFailure(f"expected sha256 {_shown(recorded)}, got {_shown(digest.digest())}")
    return size - DIGEST_BYTES


def _shown(digest: bytes) -> str:
    """As Go prints bytes, in etcdutl's error."""
    return f"[{' '.join(map(str, digest))}]"
