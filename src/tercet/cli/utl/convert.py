"""convert: the data directory of an etcd member as one of a tercet member, and back.

    tercetutl convert --data-dir n1.etcd --output-dir n1.tercet      the kind of the first directory decides the direction

Everything is kept: IDs, term and vote, the log's entries after the last snapshot, the database with its index. So the member
continues where it stopped, alone or in its cluster. The source is only read, and locked meanwhile. The output is made under
another name and renamed when it is complete: an interrupted conversion leaves nothing under --output-dir.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from tercet.bolt import view_source
from tercet.cli.ctl.command import Command
from tercet.cli.ctl.errors import CommandError, Exit
from tercet.cli.ctl.flags import Flag
from tercet.cli.ctl.progress import Progress
from tercet.cli.utl.bolt_output import write_bolt
from tercet.cli.utl.context import Context, required
from tercet.cli.utl.etcd_wal import EtcdLog, read_log, write_log, write_snap
from tercet.cli.utl.stores import database_of, open_store
from tercet.errors import StorageFailure
from tercet.raft.types import Snapshot
from tercet.replica.membership import Membership
from tercet.storage.interfaces import Bucket, ReadView
from tercet.storage.lmdb_backend import LmdbBackend
from tercet.storage.os_filesystem import OsFileSystem, make_directories, reason
from tercet.storage.wal import WAL

_CONSISTENT_INDEX = b"consistent_index"
_TERM = b"term"


def _convert(context: Context, _: list[str]) -> None:
    required(context.values, "data-dir", "output-dir")
    source, target = (Path(context.values.string(name)) for name in ("data-dir", "output-dir"))
    wal = Path(context.values.string("wal-dir")) if context.values.string("wal-dir") else source / "member" / "wal"
    unfinished = target.with_name(target.name + ".tmp")
    try:
        database = database_of(source)
        is_tercet = database.is_dir()
        if target.exists():
            raise StorageFailure(f'output-dir "{target}" exists')
        shutil.rmtree(unfinished, ignore_errors=True)  # of an interrupted conversion
        make_directories(str((unfinished / "member" / "snap").absolute()))
        try:
            with open_store(database, context.lock_seconds) as store:
                (_to_etcd if is_tercet else _to_tercet)(store.view, wal, unfinished / "member")
            unfinished.rename(target)
            OsFileSystem().sync_directory(str(target.absolute().parent))
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
    except StorageFailure as failure:
        raise CommandError(Exit.ERROR, str(failure)) from failure
    except OSError as error:
        raise CommandError(Exit.ERROR, f"{error.filename or target}: {reason(error)}") from error
    was, now = ("tercet", "etcd") if is_tercet else ("etcd", "tercet")
    context.info(f"converted {source} ({was}) to {target} ({now}); {source} is unchanged")


def _to_tercet(view: ReadView, wal: Path, member: Path) -> None:
    log = read_log(wal)
    index, term = (int.from_bytes(view.get(Bucket.META, name) or b"", "big") for name in (_CONSISTENT_INDEX, _TERM))
    if log.snapshot is not None and index < log.snapshot.index:
        raise StorageFailure(f"the database (index {index}) is older than the log's snapshot (index {log.snapshot.index})")
    progress = Progress("records converted")
    backend = LmdbBackend(str(member / "snap" / "db"))
    try:
        backend.install(backend.stage(_records(view, progress), index=index, term=term))
    finally:
        backend.close()
        progress.finish()
    made = WAL.create(OsFileSystem(), str(member / "wal"), log.metadata)
    try:
        if log.snapshot is not None:
            made.save_snapshot(log.snapshot)
        made.append(log.hard_state, log.entries)
        made.sync()
    finally:
        made.close()


def _records(view: ReadView, progress: Progress) -> Iterator[tuple[Bucket, bytes, bytes]]:
    for bucket in sorted(Bucket, key=lambda bucket: bucket.value):
        for key, value in view.scan(bucket):
            progress.advance(1)
            yield bucket, key, value


def _to_etcd(view: ReadView, wal: Path, member: Path) -> None:
    opened, recovered = WAL.open(OsFileSystem(), str(wal))
    opened.close()
    write_bolt(view_source(view), member / "snap" / "db", "converting")
    snapshot = recovered.snapshot
    if snapshot is not None:
        data = Membership(view).to_v2_json()
        write_snap(member / "snap", Snapshot(snapshot.index, snapshot.term, snapshot.conf_state, data))
    (member / "wal").mkdir(mode=0o700)
    write_log(member / "wal", EtcdLog(recovered.metadata, recovered.hard_state, snapshot, recovered.entries))
    files = OsFileSystem()
    for directory in (member / "wal", member / "snap", member):
        files.sync_directory(str(directory))


CONVERT = Command(
    "convert",
    "Convert the data directory of an etcd member to one of tercet, or back",
    "--data-dir {directory} --output-dir {new directory}",
    flags=(
        Flag("data-dir", "string", "", "data directory of a member that does not run; it is not changed; required"),
        Flag("output-dir", "string", "", "directory to create; required"),
        Flag("wal-dir", "string", "", "directory of the source's write-ahead log; by default inside of --data-dir"),
    ),
    run=_convert,
    description=(
        "The member keeps its IDs, its log and all data, and continues where it stopped. To switch in place, stop it,\n"
        "convert, and exchange the directories: mv n1.etcd n1.before && mv n1.new n1.etcd"
    ),
    examples=("tercetutl convert --data-dir n1.etcd --output-dir n1.new",),
)
