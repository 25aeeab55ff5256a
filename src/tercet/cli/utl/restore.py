"""snapshot restore: make a tercet member's data directory from a snapshot, as the first member of a new cluster.

The keys, leases, users and alarms are the snapshot's; the members are those of --initial-cluster, with new IDs, so that no old
member can be taken for one of them. Every member of the new cluster restores the same file with the same --initial-cluster.

Everything is written to DATA-DIR/member.tmp, which is renamed when it is complete. No member starts while that is there, and
the next restore replaces it: an interrupted restore is repeated. A log in a directory of its own is renamed after the database,
from which no member starts without it.
Source: etcd etcdutl/snapshot/v3_snapshot.go, for the rules and the texts.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from tercet.bolt import BoltFile, has_digest, verify_digest
from tercet.cli.ctl.command import Command
from tercet.cli.ctl.errors import CommandError, Exit, bad_arguments
from tercet.cli.ctl.flags import Flag, Values
from tercet.cli.ctl.progress import Progress
from tercet.cli.utl.context import Context
from tercet.config.initial_cluster import check_advertised, parse_initial_cluster
from tercet.errors import ConfigError, StorageFailure
from tercet.gotext.urls import Url, parse_urls
from tercet.mvcc.encoding import encode_revision_key, main_of
from tercet.mvcc.loading import SCHEDULED_COMPACTION
from tercet.proto import internal_pb2
from tercet.raft.types import ConfState, Snapshot
from tercet.replica.identity import cluster_id
from tercet.replica.membership import Member, hex_id
from tercet.replica.recovery import BOOTSTRAP_TERM, write_bootstrap_entries
from tercet.replica.state_machine import CONF_STATE_KEY, conf_state_json
from tercet.server.bootstrap import UNFINISHED, initial_members
from tercet.server.default_host import resolve
from tercet.storage.interfaces import Bucket
from tercet.storage.lmdb_backend import LmdbBackend
from tercet.storage.os_filesystem import OsFileSystem, make_directories
from tercet.storage.wal import WAL

_REPLACED = (b"consistent_index", b"term", CONF_STATE_KEY)


def _restore(context: Context, arguments: list[str]) -> None:
    values = context.values
    if len(arguments) != 1:
        raise bad_arguments("snapshot restore requires exactly one argument")
    bump = values.int("bump-revision")
    if bool(bump) != values.bool("mark-compacted"):
        raise bad_arguments("--mark-compacted required if --revision-bump > 0")
    snapshot = Path(arguments[0])
    data = Path(values.string("data-dir") or values.string("name") + ".etcd")
    wal = Path(values.string("wal-dir")) if values.string("wal-dir") else data / "member" / "wal"
    try:
        members, own_id = _members(values)
        _check_targets(data, wal if values.string("wal-dir") else None)
        shown = {"path": str(snapshot), "wal-dir": str(wal), "data-dir": str(data), "snap-dir": str(data / "member" / "snap")}
        context.info("restoring snapshot", shown)
        _check_snapshot(snapshot, skip=values.bool("skip-hash-check"))
        try:
            _write(snapshot, data, wal, members, own_id, bump)
        except BaseException:
            for unfinished in (data / UNFINISHED, _unfinished(wal)):
                shutil.rmtree(unfinished, ignore_errors=True)
            raise
    except (ConfigError, StorageFailure) as error:
        raise CommandError(Exit.ERROR, str(error)) from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CommandError(Exit.ERROR, f"open {error.filename}: {reason}" if error.filename else reason) from error
    for member in members:
        context.info("added member", _added(member, members))
    context.info("restored snapshot", {**shown, "local-member-id": hex_id(own_id)})


def _added(member: Member, members: Sequence[Member]) -> dict[str, object]:
    return {
        "cluster-id": hex_id(cluster_id([one.id for one in members])),
        "added-peer-id": hex_id(member.id),
        "added-peer-peer-urls": list(member.peer_urls),
        "added-peer-is-learner": member.is_learner,
    }


def _members(values: Values) -> tuple[tuple[Member, ...], int]:
    """The members of the new cluster, and the ID of this one. Raises ConfigError with etcd's texts."""
    try:
        advertised = parse_urls(values.string("initial-advertise-peer-urls"))
    except ValueError as error:
        raise ConfigError(str(error)) from error
    named = _cluster(values)
    name = values.string("name")
    if name not in named:
        raise ConfigError(f'couldn\'t find local name "{name}" in the initial cluster configuration')
    check_advertised(name, advertised, named[name], resolve)
    cluster = {name: tuple(url.text for url in urls) for name, urls in named.items()}
    every = [url for urls in cluster.values() for url in urls]
    if len(set(every)) < len(every):
        text = ",".join(sorted(f"{one}={url}" for one, urls in cluster.items() for url in urls))
        raise ConfigError(f"initial cluster {text} has duplicate url")
    members = initial_members(cluster, values.string("initial-cluster-token"))
    return members, next(member.id for member in members if member.name == name)


def _cluster(values: Values) -> dict[str, tuple[Url, ...]]:
    try:
        return dict(parse_initial_cluster(values.string("initial-cluster")))
    except ConfigError as error:  # etcdutl prints the reason alone
        raise ConfigError(str(error).removeprefix("error setting up initial cluster: ")) from error


def _check_targets(data: Path, wal: Path | None) -> None:
    """Remove what an interrupted restore has left. Raises StorageFailure for directories that hold anything else."""
    if data.exists() and not (data.is_dir() and all(each.name == UNFINISHED for each in data.iterdir())):
        text = f'data-dir "{data}" not empty or could not be read'
        if wal is not None and _unfinished(wal).exists():
            text += f': an interrupted restore has left "{_unfinished(wal)}"; delete both and restore again'
        raise StorageFailure(text)
    if wal is not None and wal.exists():
        raise StorageFailure(f'wal-dir "{wal}" exists')
    shutil.rmtree(data / UNFINISHED, ignore_errors=True)
    if wal is not None:
        shutil.rmtree(_unfinished(wal), ignore_errors=True)


def _check_snapshot(path: Path, *, skip: bool) -> None:
    """The digest at the end of a snapshot that was saved over the network. Raises StorageFailure, OSError."""
    if skip:
        return
    if not has_digest(path.stat().st_size):
        raise StorageFailure("snapshot missing hash but --skip-hash-check=false")
    verify_digest(path)


def _unfinished(wal: Path) -> Path:
    return wal.with_name(wal.name + ".tmp")


def _write(snapshot: Path, data: Path, wal: Path, members: Sequence[Member], own_id: int, bump: int) -> None:
    unfinished = data / UNFINISHED
    is_inside = wal.is_relative_to(data / "member")
    log = unfinished / wal.relative_to(data / "member") if is_inside else _unfinished(wal)
    for directory in (unfinished / "snap", log.parent):
        make_directories(str(directory.absolute()))
    conf_state = ConfState(voters=tuple(member.id for member in members))
    _write_database(snapshot, unfinished / "snap" / "db", members, conf_state, bump)
    files = OsFileSystem()
    _write_log(files, log, members, own_id, conf_state)
    unfinished.rename(data / "member")
    files.sync_directory(str(data))
    if not is_inside:
        log.rename(wal)
        files.sync_directory(str(wal.parent))


def _write_database(snapshot: Path, path: Path, members: Sequence[Member], conf_state: ConfState, bump: int) -> None:
    progress = Progress("records restored")
    backend = LmdbBackend(str(path))
    try:
        with BoltFile(snapshot) as file:
            items = _items(file, members, conf_state, bump, progress)
            backend.install(backend.stage(items, index=len(members), term=BOOTSTRAP_TERM))
    finally:
        backend.close()
        progress.finish()


def _write_log(files: OsFileSystem, path: Path, members: Sequence[Member], own_id: int, conf_state: ConfState) -> None:
    metadata = internal_pb2.Metadata(NodeID=own_id, ClusterID=cluster_id(conf_state.voters))
    log = WAL.create(files, str(path), metadata.SerializeToString())
    try:
        write_bootstrap_entries(log, members)
        log.save_snapshot(Snapshot(len(members), BOOTSTRAP_TERM, conf_state))
        log.sync()
    finally:
        log.close()


def _items(
    file: BoltFile, members: Sequence[Member], conf_state: ConfState, bump: int, progress: Progress
) -> Iterator[tuple[Bucket, bytes, bytes]]:
    """The snapshot's records with another membership; with --bump-revision a newer revision, all before it compacted."""
    newest = 0
    for bucket in sorted(Bucket, key=lambda bucket: bucket.value):  # `key` comes before `meta`
        for key, value in file.items(bucket.value):
            if bucket is Bucket.KEY:
                newest = max(newest, main_of(key))
            is_replaced = bucket in (Bucket.MEMBERS, Bucket.MEMBERS_REMOVED) or (bucket is Bucket.META and key in _REPLACED)
            if not is_replaced and not (bump and bucket is Bucket.META and key == SCHEDULED_COMPACTION):
                yield bucket, key, value
            progress.advance(1)
        if bucket is Bucket.MEMBERS:
            for member in sorted(members, key=lambda member: hex_id(member.id)):
                yield bucket, hex_id(member.id).encode(), json.dumps(member.to_json(), separators=(",", ":")).encode()
        elif bucket is Bucket.META:
            yield bucket, CONF_STATE_KEY, conf_state_json(conf_state)
            if bump:  # the store's revision is at least that of its last compaction
                yield bucket, SCHEDULED_COMPACTION, encode_revision_key(newest + bump, 0)


RESTORE = Command(
    "restore",
    "Make a member's data directory from a snapshot",
    "<filename> --data-dir {output dir} [options]",
    (
        Flag("data-dir", "string", "", "directory to create; by default NAME.etcd"),
        Flag("wal-dir", "string", "", "directory of the write-ahead log; by default inside of --data-dir"),
        Flag("initial-cluster", "string", "default=http://localhost:2380", "the members of the new cluster"),
        Flag("initial-cluster-token", "string", "etcd-cluster", "token of the new cluster"),
        Flag("initial-advertise-peer-urls", "string", "http://localhost:2380", "this member's peer URLs"),
        Flag("name", "string", "default", "this member's name"),
        Flag("skip-hash-check", "bool", False, "accept a file without SHA-256 at its end, copied from a data directory"),
        Flag("initial-memory-map-size", "uint", 10 << 30, "for etcd's database format; tercet's needs no size"),
        Flag("bump-revision", "uint", 0, "raise the revision by so much, so that no client sees it go back"),
        Flag("mark-compacted", "bool", False, "compact all before the new revision; required with --bump-revision"),
    ),
    _restore,
    description="Every member of the new cluster restores the same file, with the same --initial-cluster.",
    examples=("tercetutl snapshot restore backup.db --data-dir n1.etcd",),
)
