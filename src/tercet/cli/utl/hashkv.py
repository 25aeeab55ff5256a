"""hashkv: the hash of keys and history that `endpoint hashkv` of a running member returns."""

from __future__ import annotations

from pathlib import Path

from tercet.cli.ctl.command import Command
from tercet.cli.ctl.errors import CommandError, Exit
from tercet.cli.ctl.flags import Flag
from tercet.cli.utl.context import Context
from tercet.cli.utl.stores import open_store
from tercet.errors import StorageFailure
from tercet.mvcc.encoding import main_of
from tercet.mvcc.hash import KVHash, hash_kv
from tercet.mvcc.loading import FINISHED_COMPACTION, SCHEDULED_COMPACTION
from tercet.storage.interfaces import Bucket, ReadView


def _hashkv(context: Context, arguments: list[str]) -> None:
    if len(arguments) != 1:
        raise CommandError(Exit.ERROR, f"accepts 1 arg(s), received {len(arguments)}")
    context.check_format()
    try:
        with open_store(Path(arguments[0]), context.lock_seconds) as store:
            found = _hash(store.view, context.values.int("rev"))
    except StorageFailure as failure:
        raise CommandError(Exit.ERROR, str(failure)) from failure
    columns = (
        ("hash", "Hash", "hash", found.hash),
        ("hash revision", "Hash revision", "hashRevision", found.revision),
        ("compact revision", "Compact revision", "compactRevision", found.compact_revision),
    )
    context.show(columns, [str(value) for _, _, _, value in columns])


def _hash(view: ReadView, revision: int) -> KVHash:
    """Raises CommandError for a revision that is not kept."""
    compacted = max(_compaction(view, SCHEDULED_COMPACTION), _compaction(view, FINISHED_COMPACTION))
    newest = 1
    for stored_key, _ in view.scan(Bucket.KEY):
        newest = main_of(stored_key)
    newest = max(newest, compacted)
    if revision > newest:
        raise CommandError(Exit.ERROR, "mvcc: required revision is a future revision")
    if 0 < revision < compacted:
        raise CommandError(Exit.ERROR, "mvcc: required revision has been compacted")
    return hash_kv(view, revision or newest, compacted or -1)


def _compaction(view: ReadView, name: bytes) -> int:
    return main_of(view.get(Bucket.META, name) or bytes(8))


HASHKV = Command(
    "hashkv",
    "Hash the keys and their history in a database",
    "<filename>",
    (Flag("rev", "int", 0, "hash up to this revision; 0: the latest"),),
    _hashkv,
    examples=("tercetutl hashkv backup.db", "tercetutl hashkv n1/member/snap/db"),
)
