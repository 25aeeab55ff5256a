"""The steps of a restore, and the files that it has on a host.

    DATA/restore/record.json     which restore has begun
    DATA/restore/snapshot.db     the copy
    DATA/restore/new/member      the unpacked data, until it is exchanged
    DATA/restore/complete        every member serves the restored data

Each step can be repeated after an interruption at any point.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from tercet.deploy.cluster.cluster import Cluster
from tercet.deploy.members.bumped_snapshot import newest_revision, write_bumped
from tercet.deploy.members.service import stop
from tercet.deploy.members.snapshot import Snapshot, read
from tercet.deploy.plan.desired import restore_record_path
from tercet.deploy.plan.plan import Progress, Step
from tercet.deploy.release.release import offline_tool
from tercet.deploy.ssh.remote import Host
from tercet.errors import ConfigError
from tercet.pki.age import Key, decrypt, is_encrypted

_UNPACK_SECONDS = 3600.0
_EXCHANGE_SECONDS = 300.0


@dataclass(frozen=True)
class Source:
    """A verified snapshot to restore. shown: its path for the operator, if it was decrypted. revision: its newest.

    sha256: of the whole file. bump: revisions to add; 0: none.
    """

    snapshot: Snapshot
    shown: Path
    revision: int
    sha256: str
    bump: int
    has_digest: bool


@dataclass(frozen=True)
class Record:
    """A restore that has begun, as recorded on each host. id: time of its start, part of file names and of the token.

    revision: of the restored cluster, above that of the snapshot and of the present cluster; 0: that of the snapshot.
    """

    id: str
    sha256: str
    bump: int
    hosts: tuple[str, ...]
    revision: int

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_json(cls, text: str) -> Record | None:
        """None for a damaged record."""
        try:
            content = json.loads(text)
            hosts = tuple(map(str, content["hosts"]))
            return cls(str(content["id"]), str(content["sha256"]), int(content["bump"]), hosts, int(content["revision"]))
        except (ValueError, KeyError, TypeError):
            return None


def decrypted(snapshot: Path, work: Path, key: Key | None) -> Path:
    """The snapshot, or its content if it is encrypted, as a file in `work`. Raises ConfigError."""
    try:
        if not is_encrypted(snapshot):
            return snapshot
        if key is None:
            raise ConfigError(f"{snapshot}: encrypted; name the file of its key with --identity")
        decrypt(snapshot, work / "decrypted.db", key)
    except OSError as error:
        raise ConfigError(f"{error.filename or snapshot}: {error.strerror or error}") from error
    return work / "decrypted.db"


def read_source(path: Path, shown: Path, *, bump: int, skip_hash_check: bool) -> Source:
    """Verify the snapshot. Raises ConfigError."""
    snapshot = read(path, skip_hash_check=skip_hash_check)
    with path.open("rb") as file:
        return Source(
            snapshot, shown, newest_revision(path), hashlib.file_digest(file, "sha256").hexdigest(), bump, not skip_hash_check
        )


@dataclass(frozen=True)
class RestoreSteps:
    """Makes the steps. work: local directory for the copy that is uploaded."""

    cluster: Cluster
    hosts: Mapping[str, Host]
    source: Source
    work: Path

    @property
    def directory(self) -> str:
        return restore_record_path(self.cluster).rpartition("/")[0]

    @property
    def copy(self) -> str:
        return f"{self.directory}/snapshot.db"

    @property
    def complete(self) -> str:
        """Exists from the moment when every member serves the restored data."""
        return f"{self.directory}/complete"

    @property
    def unpacked(self) -> str:
        return f"{self.directory}/new"

    def preparation(self, record: Record) -> Step:
        async def work(_progress: Progress) -> str:
            path = self.source.snapshot.path
            await asyncio.to_thread(write_bumped, path, self.work / "snapshot.db", record.revision)
            return f"revision {self.source.revision} -> {record.revision}, all before it compacted"

        return Step(None, "prepare the snapshot", work, f"revision + {self.source.bump}, all before it compacted")

    def beginning(self, name: str, record: Record) -> Step:
        user, group = self.cluster.service.user, self.cluster.service.group
        directory = shlex.quote(self.directory)
        title = "record the restore"

        async def work(_progress: Progress) -> str:
            host = self.hosts[name]
            make = f"rm -rf -- {directory} && install -d -m 0700 -o {user} -g {group} {directory}"
            await host.check(make, step=title, timeout=_EXCHANGE_SECONDS)
            await host.write(restore_record_path(self.cluster), record.to_json(), mode=0o600, step=title)
            return ""

        return Step(name, title, work, restore_record_path(self.cluster))

    def copying(self, name: str) -> Step:
        local = self.work / "snapshot.db" if self.source.bump else self.source.snapshot.path
        title = "copy the snapshot"

        async def work(progress: Progress) -> str:
            await self.hosts[name].upload(local, self.copy, mode=0o600, step=title, progress=progress)
            return ""

        return Step(name, title, work, f"{max(1, self.source.snapshot.size >> 20)} MiB")

    def unpacking(self, name: str, record: Record) -> Step:
        return self._command(name, "unpack the snapshot", self._unpack_command(name, record), timeout=_UNPACK_SECONDS)

    def _unpack_command(self, name: str, record: Record) -> str:
        cluster, spec = self.cluster, self.cluster.host(name)
        new, part, wal = self.unpacked, f"{self.unpacked}.partial", self._new_wal
        members = ",".join(f"{one}={cluster.peer_url(cluster.host(one))}" for one in record.hosts)
        options = {
            "name": name,
            "data-dir": part,
            "initial-cluster": members,
            "initial-cluster-token": f"{cluster.token}-restored-{record.id}",
            "initial-advertise-peer-urls": cluster.peer_url(spec),
        }
        if wal:
            options["wal-dir"] = wal
        flags = [f"--{option}={value}" for option, value in options.items()]
        if not (self.source.bump or self.source.has_digest):
            flags.append("--skip-hash-check=true")
        tool = offline_tool(cluster.engine.kind, cluster.paths.install)
        restore = shlex.join([tool, "snapshot", "restore", self.copy, *flags])
        made = " ".join(map(shlex.quote, [part, *([wal] if wal else [])]))
        owner = f"{cluster.service.user}:{cluster.service.group}"
        return (
            # One that has lost its connection goes on, and would take the directory of its successor for its own.
            f"exec 8<{shlex.quote(self.directory)}; flock -w 60 8 || {{ echo 'an earlier one still unpacks' >&2; exit 1; }}; "
            f"if [ -d {shlex.quote(new)} ]; then exit 0; fi; umask 077; rm -rf -- {made} && {restore} >&2 && "
            f"chown -R {owner} -- {made} && sync && mv -T {shlex.quote(part)} {shlex.quote(new)}"
        )

    @property
    def _new_wal(self) -> str:
        """The unpacked log, beside its place, if that is not in the data directory."""
        return f"{self.cluster.paths.wal}.restoring" if self.cluster.paths.wal else ""

    def stopping(self, name: str) -> Step:
        unit = f"{self.cluster.service.unit}.service"

        async def work(_progress: Progress) -> str:
            return await stop(self.hosts[name], unit) or "stopped"

        return Step(name, f"stop and disable {unit}", work, "until the restore is complete")

    def exchange(self, name: str, record: Record) -> Step:
        """Renames only; each is skipped if it was done before an interruption."""
        data, kept = f"{self.cluster.paths.data}/member", f"{self.cluster.paths.data}/replaced-{record.id}"
        commands = [_move_if_there(data, kept)]
        if wal := self.cluster.paths.wal:
            aside = _move_if_there(wal, f"{wal}.replaced-{record.id}")
            new = shlex.quote(self._new_wal)
            commands.append(f"if [ -e {new} ]; then {aside} && mv -T {new} {shlex.quote(wal)}; fi")
        waiting = shlex.quote(f"{self.unpacked}/member")
        commands += ["sync", f"mv -T {waiting} {shlex.quote(data)}", "sync"]
        command = f"if [ -e {waiting} ]; then {' && '.join(commands)}; fi"
        return self._command(name, "exchange the data", command, f"{data} -> {kept}", timeout=_EXCHANGE_SECONDS)

    def enabling(self, name: str) -> Step:
        unit = f"{self.cluster.service.unit}.service"
        return self._command(name, f"enable {unit}", f"systemctl enable {shlex.quote(unit)} 2>&1")

    def completing(self, name: str) -> Step:
        """Before any record is removed: a host without one would be restored again, under a member that has voted."""
        return self._command(name, "mark as complete", f"touch -- {shlex.quote(self.complete)} && sync")

    def finishing(self, name: str) -> Step:
        title = "remove the record and the copy"
        return self._command(name, title, f"rm -rf -- {shlex.quote(self.directory)}", timeout=_EXCHANGE_SECONDS)

    def _command(self, name: str, title: str, command: str, diff: str = "", *, timeout: float = 60) -> Step:
        async def work(_progress: Progress) -> str:
            await self.hosts[name].check(command, step=title, timeout=timeout)
            return ""

        return Step(name, title, work, diff)


def _move_if_there(old: str, new: str) -> str:
    """A command of sh."""
    return f"if [ -e {shlex.quote(old)} ]; then mv -T {shlex.quote(old)} {shlex.quote(new)}; fi"
