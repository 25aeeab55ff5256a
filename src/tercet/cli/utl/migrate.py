"""migrate: change the storage version of a database, so that another version of etcd or tercet accepts it.

The schema of 3.5, 3.6 and 3.7 is the same but for the key `storageVersion`, which 3.5 does not have. A downgrade is refused
while the write-ahead log holds entries that the older version does not know.
Source: etcd server/storage/schema/{schema,migration}.go, server/storage/wal/version.go.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from tercet.bolt import Source, view_source
from tercet.cli.ctl.command import Command
from tercet.cli.ctl.errors import CommandError, Exit, bad_arguments
from tercet.cli.ctl.flags import Flag
from tercet.cli.utl.bolt_output import write_bolt
from tercet.cli.utl.context import Context, required
from tercet.cli.utl.etcd_wal import read_log
from tercet.cli.utl.stores import database_of, open_backend, open_store
from tercet.errors import StorageFailure
from tercet.gotext.strconv import GoSyntaxError, parse_int, quote
from tercet.proto import internal_pb2
from tercet.raft.types import Entry, EntryType
from tercet.replica.state_machine import CONF_STATE_KEY
from tercet.storage.interfaces import Bucket, ReadView
from tercet.storage.os_filesystem import OsFileSystem
from tercet.storage.wal import WAL

Version = tuple[int, int]

_KEY = b"storageVersion"
_TERM = b"term"
_OLDEST: Version = (3, 5)
_FIRST_STORED: Version = (3, 6)
_NEWEST: Version = (3, 7)


def _migrate(context: Context, _: list[str]) -> None:
    required(context.values, "data-dir", "target-version")
    target = _version(context.values.string("target-version"))
    directory = Path(context.values.string("data-dir"))
    try:
        path = database_of(directory)
        with open_store(path, context.lock_seconds) as store:
            current = _detect(store.view)
        if current == target:
            context.info("storage version up-to-date", {"storage-version": _text(current)})
            return
        refusal = _refusal(current, target, directory / "member" / "wal", is_tercet=path.is_dir())
        if refusal and not context.values.bool("force"):
            raise CommandError(Exit.ERROR, refusal)
        if refusal:
            context.info("normal migrate failed, trying with force", {"error": refusal})
        _change(path, target, context.lock_seconds)
    except StorageFailure as failure:
        raise CommandError(Exit.ERROR, str(failure)) from failure
    if not refusal:
        for minor in _steps(current, target):
            context.info("updated storage version", {"new-storage-version": f"{target[0]}.{minor}.0"})
    elif target < _FIRST_STORED:
        context.warn("forcefully cleared storage version")
    else:
        context.warn("forcefully set storage version", {"storage-version": _text(target)})


def _steps(current: Version, target: Version) -> Iterable[int]:
    """The minor versions that etcd passes on its way, the target included."""
    step = 1 if target > current else -1
    return range(current[1] + step, target[1] + step, step)


def _version(text: str) -> Version:
    if text.count(".") != 1:
        raise bad_arguments(f'wrong target version format, expected "X.Y", got {quote(text.encode())}')
    number = re.split("[-+]", text)[0]  # a semantic version ends there, and what follows is a pre-release or metadata
    if number != text:
        raise bad_arguments(f"failed to parse target version: {number} is not in dotted-tri format")
    try:
        major, minor = (parse_int(part) for part in text.split("."))
    except GoSyntaxError as error:
        raise bad_arguments(f"failed to parse target version: {error}") from error
    if (major, minor) < _OLDEST:
        raise bad_arguments(f'target version "{major}.{minor}" not supported. Minimal "3.5"')
    return major, minor


def _text(version: Version) -> str:
    return f"{version[0]}.{version[1]}"


def _detect(view: ReadView) -> Version:
    """Raises StorageFailure for a database before 3.5, which lacks what 3.5 writes at its first snapshot."""
    stored = view.get(Bucket.META, _KEY)
    if stored is not None:
        found = re.match(rb"(\d+)\.(\d+)\.", stored)
        if found is None:
            raise StorageFailure(f"storage version {stored!r} is not a version")
        return int(found[1]), int(found[2])
    if view.get(Bucket.META, CONF_STATE_KEY) is None:
        raise StorageFailure("cannot detect storage schema version: missing confstate information")
    if view.get(Bucket.META, _TERM) is None:
        raise StorageFailure("cannot detect storage schema version: missing term information")
    return _OLDEST


def _refusal(current: Version, target: Version, wal: Path, *, is_tercet: bool) -> str:
    """Why the schema cannot become `target`; "" if it can."""
    if target[0] != current[0]:
        return "cannot create migration plan: changing major storage version is not supported"
    if target > _NEWEST:
        return f'cannot create migration plan: version "{_text(target)}.0" is not supported'
    if target > current:
        return ""
    needed = _log_version(wal, is_tercet=is_tercet)
    if needed > target:
        return "cannot downgrade storage, WAL contains newer entries"
    return ""


def _log_version(wal: Path, *, is_tercet: bool) -> Version:
    """The oldest version that knows all entries after the last snapshot."""
    if is_tercet:
        opened, recovered = WAL.open(OsFileSystem(), str(wal))
        opened.close()
        entries: Iterable[Entry] = recovered.entries
    else:
        entries = read_log(wal).entries
    return max((_entry_version(entry) for entry in entries), default=(3, 0))


def _entry_version(entry: Entry) -> Version:
    if entry.type != EntryType.NORMAL or not entry.data:
        return 3, 0
    request = internal_pb2.InternalRaftRequest.FromString(entry.data)
    if request.HasField("downgrade_version_test"):
        found = re.match(r"(\d+)\.(\d+)\.", request.downgrade_version_test.ver)
        return max(_FIRST_STORED, (int(found[1]), int(found[2])) if found else _FIRST_STORED)
    # The cluster version that an entry sets does not count: 3.5 knows the entry, and the cluster will set its own.
    is_since_oldest = (
        request.HasField("cluster_version_set")
        or request.HasField("downgrade_info_set")
        or request.HasField("cluster_member_attr_set")
    )
    return _OLDEST if is_since_oldest else (3, 0)


def _change(path: Path, target: Version, lock_seconds: float | None) -> None:
    """Write the version: in tercet's database in place, in etcd's by a new file that replaces the old one."""
    stored = f"{_text(target)}.0".encode() if target >= _FIRST_STORED else None
    if path.is_dir():
        backend = open_backend(path, lock_seconds)
        try:
            if stored is None:
                backend.delete(Bucket.META, _KEY)
            else:
                backend.put(Bucket.META, _KEY, stored)
            backend.applied(backend.applied_index, backend.applied_term)
            backend.commit_now()
        finally:
            backend.close()
        return
    with open_store(path, lock_seconds) as store:
        write_bolt(_with_version(view_source(store.view), stored), path, "migrating")


def _with_version(source: Source, stored: bytes | None) -> Source:
    """The same records with another storage version, or with none."""

    def items(records: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
        kept = [(key, value) for key, value in records if key != _KEY]
        return iter(sorted([*kept, (_KEY, stored)] if stored is not None else kept))

    def read() -> Iterator[tuple[bytes, Iterable[tuple[bytes, bytes]]]]:
        for name, records in source():
            yield name, items(records) if name == Bucket.META.value else records

    return read


MIGRATE = Command(
    "migrate",
    "Change the storage version of a database",
    flags=(
        Flag("data-dir", "string", "", "data directory of a member that does not run; required"),
        Flag("target-version", "string", "", "the version to change to, at least 3.5, in the form X.Y; required"),
        Flag("force", "bool", False, "change it even if the log holds entries that the version does not know"),
    ),
    run=_migrate,
    examples=("tercetutl migrate --data-dir n1.etcd --target-version 3.6",),
)
