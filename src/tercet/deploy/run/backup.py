"""`backup`: a verified snapshot in a directory or bucket of the operator, with retention.

    BACKUPS/demo-20260102T030405Z.db          demo-20260102T030405Z.db.age if it is encrypted
    s3://bucket/etcd/demo-20260102T030405Z.db

The snapshot is taken from a follower that commits, so that the leader is not loaded, and after a linearizable read, so that it
has everything that was acknowledged before the command. It gets its name only after it has been restored into a scratch member
whose HashKV is that of the member (`members/rehearsal`). Older ones are removed after that. Until then it is in a directory of
its own, not encrypted; what a killed command leaves of it is removed by the next one (`owned_directory`).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from tercet.deploy.cluster.cluster import Cluster
from tercet.deploy.members.bumped_snapshot import newest_revision
from tercet.deploy.members.changes import hash_of
from tercet.deploy.members.members import Members
from tercet.deploy.members.rehearsal import rehearse
from tercet.deploy.members.snapshot import save
from tercet.deploy.plan.plan import Phase, Plan, Progress, Step
from tercet.deploy.run.backup_store import BackupStore, backup_store
from tercet.deploy.run.executor import DeployError
from tercet.deploy.ssh.host_error import HostError
from tercet.errors import Code, ConfigError, StatusError
from tercet.owned_directory import OwnedDirectory
from tercet.pki.age import check_recipient, encrypt

_TITLE = "save snapshot"
_NAME = r"{}-\d{{8}}T\d{{6}}Z\.db(\.age)?"


@dataclass
class Backup:
    """store: where it goes. keep: number of snapshots of this cluster to keep there; None: all. now: names the file.

    name: of a file that `keep` does not count, such as the one before a restore. recipient: age's public key to encrypt to;
    "" for a plain file.
    """

    cluster: Cluster
    members: Members
    store: BackupStore
    now: datetime
    keep: int | None = None
    name: str = ""
    recipient: str = ""
    _work: OwnedDirectory | None = field(default=None, init=False)
    """Has the file from its first byte until it is verified and stored."""

    @property
    def file(self) -> str:
        suffix = self.name or f"{self.now:%Y%m%dT%H%M%SZ}"
        return f"{self.cluster.name}-{suffix}.db{'.age' if self.recipient else ''}"

    @property
    def place(self) -> str:
        """Path or URL of the saved snapshot."""
        return self.store.place(self.file)

    async def plan(self) -> Plan:
        """Raises DeployError if no member commits."""
        health, answers = await self.members.health(), await self.members.answers()
        able = [one.name for one in health if one.commits and not answers[one.name].is_learner]
        if not able:
            errors = [HostError(one.name, _TITLE, f"not healthy: {one.error}") for one in health]
            raise DeployError(errors)
        # The source is not part of the plan: leadership may move.
        source = min(able, key=lambda name: answers[name].is_leader)
        steps = [
            Step(None, _TITLE, lambda progress: self._save(source, progress), self.place),
            Step(None, "restore it into a scratch member", lambda _: self._rehearse(source)),
            Step(
                None, "store the snapshot", lambda _: self._store(), f"encrypted to {self.recipient}" if self.recipient else ""
            ),
        ]
        if self.keep is not None:
            steps.append(Step(None, "remove old snapshots", self._prune, f"keep {self.keep}"))
        return Plan((Phase("backup", tuple(steps)),))

    @property
    def _unverified(self) -> Path:
        assert self._work is not None
        return self._work.path / f"{self.file.removesuffix('.age')}.unverified"

    async def _save(self, source: str, progress: Progress) -> str:
        total = (await self.members.answer_of(source)).db_size
        with self._working():
            self._work = OwnedDirectory("backup", self.store.working_parent())
            try:
                saved = await save(self.members, source, self._unverified, lambda done: progress(done, max(done, total)))
            except StatusError as error:
                raise HostError(source, _TITLE, error.message, remedy="rerun the command") from error
        return f"revision {saved.revision}, {saved.size >> 10} KiB from {source}, hash {saved.hash:x}"

    @contextlib.contextmanager
    def _working(self) -> Iterator[None]:
        """Removes the working files after a failure. Raises ConfigError for OSError."""
        try:
            yield
        except OSError as error:
            self._remove_work()
            raise ConfigError(f"{error.filename or self.place}: {error.strerror or error}") from error
        except BaseException:
            self._remove_work()
            raise

    def _remove_work(self) -> None:
        if self._work is not None:
            self._work.close()

    async def _rehearse(self, source: str) -> str:
        with self._working():
            return await self._compare(source)

    async def _compare(self, source: str) -> str:
        """Compare the snapshot, restored, with the member that it was taken from."""
        title, path = "verify snapshot", self._unverified
        newest = await asyncio.to_thread(newest_revision, path)
        try:
            live = await hash_of(self.members, source, newest)
        except StatusError as error:
            if error.code != Code.OUT_OF_RANGE:  # compacted: at its revision, or meanwhile
                raise HostError(source, title, error.message, remedy="rerun the command") from error
            found = await rehearse(path, revision=0)
            return f"restored, hash {found.hash:x}; not compared, since {source} has compacted revision {newest}"
        found = await rehearse(path, revision=newest)
        if found.compact_revision != live.compact_revision:
            return f"restored, hash {found.hash:x}; not compared, since {source} has compacted meanwhile"
        if found.hash != live.hash:
            text = f"the restored data differs from that of {source} at revision {newest}; it is not kept"
            raise HostError(source, title, text, remedy="rerun the command; if it fails again, compare the members' hashes")
        return f"restored, hash {found.hash:x} at revision {newest} as on {source}"

    async def _store(self) -> str:
        with self._working():
            path = self._unverified
            if self.recipient:
                plain, path = path, path.with_suffix(".age")
                await asyncio.to_thread(encrypt, plain, path, self.recipient)
            await self.store.put(path, self.file)
        self._remove_work()
        return self.place

    async def _prune(self, _progress: Progress) -> str:
        pattern = re.compile(_NAME.format(re.escape(self.cluster.name)))
        others = sorted(name for name in await self.store.names() if pattern.fullmatch(name) and name != self.file)
        old = others[: max(0, len(others) + 1 - (self.keep or 0))]  # the new one stays, even if the clock went back
        for name in old:
            await self.store.delete(name)
        return f"{len(old)} removed"


def backup_of(
    cluster: Cluster,
    members: Members,
    target: str | Path,
    now: datetime,
    *,
    keep: int | None = None,
    name: str = "",
    recipient: str = "",
) -> Backup:
    """target: a directory or an URL. Changes nothing. Raises ConfigError for a bad target or recipient."""
    store = backup_store(str(target))
    if recipient:
        check_recipient(recipient)
    return Backup(cluster, members, store, now, keep, name, recipient)
