"""snapshot status: what is in a snapshot or in the database of a member that does not run."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import google_crc32c

from tercet.bolt import check, has_digest, summarize, verify_digest
from tercet.cli.ctl.command import Command
from tercet.cli.ctl.errors import CommandError, Exit, bad_arguments
from tercet.cli.utl.context import Context
from tercet.cli.utl.stores import open_store
from tercet.errors import StorageFailure
from tercet.gotext.strconv import humanize_bytes
from tercet.mvcc.encoding import is_tombstone, key_of, main_of
from tercet.storage.interfaces import Bucket, ReadView

_STORAGE_VERSION = b"storageVersion"


class _Status(NamedTuple):
    """hash: CRC-32C of bucket names, keys and values, in order. keys: user keys that exist. size: bytes."""

    hash: int
    revision: int
    keys: int
    size: int
    version: str


def _status(context: Context, arguments: list[str]) -> None:
    """Print the status of a file, after it has been verified completely."""
    if len(arguments) != 1:
        raise bad_arguments("snapshot status requires exactly one argument")
    path = Path(arguments[0])
    try:
        with open_store(path, context.lock_seconds) as store:
            context.check_format()
            found = _of_directory(store.view, store.size) if path.is_dir() else _of_file(path, store.view)
    except StorageFailure as failure:
        raise CommandError(Exit.ERROR, str(failure)) from failure
    _warn_of_digest(context, path)
    columns = (
        ("hash", "Hash", "hash", found.hash),
        ("revision", "Revision", "revision", found.revision),
        ("total keys", "Keys", "totalKey", found.keys),
        ("total size", "Size", "totalSize", found.size),
        ("version", "Version", "version", found.version),
    )
    shown = (f"{found.hash:x}", str(found.revision), str(found.keys), humanize_bytes(found.size), found.version)
    context.show(columns, shown)


def _warn_of_digest(context: Context, path: Path) -> None:
    """A restore will refuse the file; etcdutl's status does not notice."""
    if path.is_file() and has_digest(path.stat().st_size):
        try:
            verify_digest(path)
        except StorageFailure as failure:
            context.info(f"{path}: the SHA-256 at its end does not match, so that a restore refuses the file: {failure}")


def _of_file(path: Path, view: ReadView) -> _Status:
    """Raises StorageFailure with every fault."""
    faults = check(path).faults
    if faults:
        listed = "\n".join(faults)
        raise StorageFailure(f"snapshot file integrity check failed. {len(faults)} errors found.\n{listed}")
    summary = summarize(path)
    keys, _ = _living(view)
    return _Status(summary.hash, summary.revision, keys, summary.size, summary.storage_version)


def _of_directory(view: ReadView, size: int) -> _Status:
    crc = 0
    for bucket in sorted(Bucket, key=lambda bucket: bucket.value):
        crc = google_crc32c.extend(crc, bucket.value)
        for key, value in view.scan(bucket):
            crc = google_crc32c.extend(google_crc32c.extend(crc, key), value)
    keys, revision = _living(view)
    version = view.get(Bucket.META, _STORAGE_VERSION) or b""
    return _Status(crc, revision, keys, size, version.decode("utf-8", "replace"))


def _living(view: ReadView) -> tuple[int, int]:
    """How many keys exist, and the newest revision."""
    living: set[bytes] = set()
    revision = 0
    for stored_key, kv in view.scan(Bucket.KEY):
        revision = main_of(stored_key)
        if is_tombstone(stored_key):
            living.discard(key_of(kv))
        else:
            living.add(key_of(kv))
    return len(living), revision


STATUS = Command(
    "status",
    "Show hash, revision, keys and size of a snapshot",
    "<filename>",
    run=_status,
    description="The fields of the simple format are: hash, revision, total keys, total size, storage version.",
    examples=("tercetutl snapshot status backup.db -w table",),
)
