"""`backup`: a verified snapshot in a directory of the operator, with retention.

    BACKUPS/demo-20260102T030405Z.db

The snapshot is taken from a follower that commits, so that the leader is not loaded, and after a linearizable read, so that it
has everything that was acknowledged before the command.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tercet.deploy.cluster.cluster import Cluster
from tercet.deploy.members.members import Members
from tercet.deploy.members.snapshot import save
from tercet.deploy.plan.plan import Phase, Plan, Progress, Step
from tercet.deploy.run.executor import DeployError
from tercet.deploy.ssh.host_error import HostError
from tercet.errors import StatusError

_TITLE = "save snapshot"


@dataclass(frozen=True)
class Backup:
    """directory: local. keep: number of snapshots of this cluster to keep there; None: all. now: names the file.

    name: of a file that `keep` does not count, such as the one before a restore.
    """

    cluster: Cluster
    members: Members
    directory: Path
    now: datetime
    keep: int | None = None
    name: str = ""

    @property
    def target(self) -> Path:
        suffix = self.name or f"{self.now:%Y%m%dT%H%M%SZ}"
        return self.directory / f"{self.cluster.name}-{suffix}.db"

    async def plan(self) -> Plan:
        """Raises DeployError if no member commits."""
        health, answers = await self.members.health(), await self.members.answers()
        able = [one.name for one in health if one.commits and not answers[one.name].is_learner]
        if not able:
            errors = [HostError(one.name, _TITLE, f"not healthy: {one.error}") for one in health]
            raise DeployError(errors)
        # The source is not part of the plan: leadership may move.
        source = min(able, key=lambda name: answers[name].is_leader)
        steps = [Step(None, _TITLE, lambda progress: self._save(source, progress), str(self.target))]
        if self.keep is not None:
            steps.append(Step(None, "remove old snapshots", self._prune, f"keep {self.keep}"))
        return Plan((Phase("backup", tuple(steps)),))

    async def _save(self, source: str, progress: Progress) -> str:
        total = (await self.members.answer_of(source)).db_size
        try:
            saved = await save(self.members, source, self.target, lambda done: progress(done, max(done, total)))
        except StatusError as error:
            raise HostError(source, _TITLE, error.message, remedy="rerun the command") from error
        return f"revision {saved.revision}, {saved.size >> 10} KiB from {source}, hash {saved.hash:x}, verified"

    async def _prune(self, _progress: Progress) -> str:
        found = sorted(self.directory.glob(f"{self.cluster.name}-[0-9]*T[0-9]*Z.db"))
        old = found[: max(0, len(found) - (self.keep or 0))]
        for path in old:
            path.unlink(missing_ok=True)
        return f"{len(old)} removed"
