"""A copy of a snapshot with a higher revision, so that no client sees the revision go back after a restore.

    write_bumped(Path("demo.db"), Path("copy.db"), 1_000_000_002)

Revisions that were assigned after the snapshot are lost, and would be assigned again to other changes: watches and caches that
have seen them would be wrong without noticing. In the copy the store's revision is higher, and everything up to it counts as
compacted: such a watch ends with "compacted", and its client reads again.

The revision is raised through the two records of the last compaction in the bucket `meta`, which every version of etcd reads at
start; etcd's own `--bump-revision` exists since 3.6. Both are set, because etcd 3.5 refuses to begin a compaction beyond its
newest key. Source: etcd server/storage/mvcc/kvstore.go, restore.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tercet.errors import ConfigError, StorageFailure

if TYPE_CHECKING:
    from tercet.bolt import BoltFile, Source
    from tercet.bolt.writer import Items

_KEY, _META = b"key", b"meta"
_COMPACTIONS = (b"finishedCompactRev", b"scheduledCompactRev")
_CHUNK_BYTES = 1 << 20


def write_bumped(snapshot: Path, target: Path, revision: int) -> None:
    """Write a copy whose newest revision is `revision`, with its SHA-256 at the end, readable only by its owner.

    Raises ConfigError.
    """
    from tercet.bolt import BoltFile  # with the storage engine: most commands need none

    try:
        with BoltFile(snapshot) as file:
            _write(_source(file, revision), target)
    except (StorageFailure, OSError) as error:
        raise ConfigError(f"{snapshot}: {error}") from error


def newest_revision(snapshot: Path) -> int:
    """Of a key, or of a compaction that has removed the newest keys. Raises ConfigError."""
    from tercet.bolt import BoltFile

    newest = 1
    try:
        with BoltFile(snapshot) as file:
            for stored_key, _ in file.items(_KEY):
                newest = max(newest, int.from_bytes(stored_key[:8], "big"))
            for name, value in file.items(_META):
                if name in _COMPACTIONS:
                    newest = max(newest, int.from_bytes(value[:8], "big"))
    except (StorageFailure, OSError) as error:
        raise ConfigError(f"{snapshot}: {error}") from error
    return newest


def _source(file: BoltFile, revision: int) -> Source:
    """The file's buckets, with both records of the last compaction at `revision`."""
    compaction = revision.to_bytes(8, "big") + b"_" + bytes(8)

    def meta() -> Iterator[tuple[bytes, bytes]]:
        items = dict(file.items(_META)) | dict.fromkeys(_COMPACTIONS, compaction)
        yield from sorted(items.items())

    def read() -> Iterator[tuple[bytes, Items]]:
        for name in sorted({*file.buckets(), _META}):
            yield name, meta() if name == _META else file.items(name)

    return read


def _write(source: Source, target: Path) -> None:
    from tercet.bolt import measure

    digest = hashlib.sha256()
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        for chunk in measure(source).chunks(_CHUNK_BYTES):
            digest.update(chunk)
            out.write(chunk)
        out.write(digest.digest())
