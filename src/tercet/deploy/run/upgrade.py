"""`upgrade` and `rollback`: another release of the engine on running members, one at a time.

    upgrade    backup, and copies to all hosts -> each member, the leader last: activate, restart, commits again? -> health
               a member that fails is rolled back, and the upgrade stops with the reason
    rollback   each member: the previous release, restart -> health

The next member follows only when this one answers a linearizable read, for which it must have caught up. A rollback pins the
release on the host, so that the next `apply` does not go forward again; `upgrade` removes the pin. A host that is pinned to its
current release has gone back: it is not rolled back twice, which would bring the release forward again. Between minor versions
a rollback is possible until every member runs the new one: the cluster version then rises, and older members refuse to start,
until a downgrade is enabled (etcd, "downgrade").
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from tercet.deploy.cluster.cluster import Cluster
from tercet.deploy.facts.facts import FileFact
from tercet.deploy.facts.preflight import examine
from tercet.deploy.members.members import MemberAnswer, Members
from tercet.deploy.members.service import start
from tercet.deploy.plan.certificates import inspect
from tercet.deploy.plan.plan import Phase, Plan, Progress, Step
from tercet.deploy.plan.planning import Part, changes_pending_restart, host_steps, mark_command, pinned_release
from tercet.deploy.release.release import pin_path, rollback_command
from tercet.deploy.run.apply import check_version, require_no_errors, version_notes
from tercet.deploy.run.backup import backup_of
from tercet.deploy.run.events import OnEvent
from tercet.deploy.run.executor import DeployError
from tercet.deploy.run.rolling import NotRestarted, Rolling, health_phase, in_order, pauses, wait_committing
from tercet.deploy.run.survey import HostSurvey, survey
from tercet.deploy.ssh.host_error import HostError
from tercet.deploy.ssh.remote import Host
from tercet.errors import TercetError

_RELEASE = re.compile(r"releases/((?:etcd|tercet)-(\d+)\.(\d+)\..*)")
_ACTIVATE_SECONDS = 300


@dataclass(frozen=True)
class Upgrade:
    """Makes the plans. directory: for the snapshot that is taken before; None: none is taken."""

    cluster: Cluster
    hosts: Mapping[str, Host]
    members: Members
    on_event: OnEvent
    now: datetime
    directory: Path | None = None

    async def plan(self) -> Plan:
        """Empty if every member runs the release already. Raises DeployError for an unsupported change of the version."""
        surveys = await self._surveyed()
        errors: list[Exception] = []
        for seen in surveys.values():
            try:
                check_version(seen, self.cluster)
            except HostError as error:
                errors.append(error)
        if errors:
            raise DeployError(errors)
        pins = {name: pin_path(self.cluster.paths.install) for name, seen in surveys.items() if self._is_pinned(seen)}
        surveys = {name: self._without_pin(seen) for name, seen in surveys.items()}
        copies = tuple(step for name, seen in surveys.items() for step in self._steps(name, seen, "copy"))
        activations = {name: self._steps(name, seen, "activate") for name, seen in surveys.items()}
        names = [name for name, steps in activations.items() if steps or self._awaits_restart(surveys[name])]
        unpinned = tuple(self._unpinning(name, pin) for name, pin in pins.items() if name not in names)
        upgrades = [self._upgrade(name, activations[name], pins.get(name)) for name in await self._ordered(names)]
        backup = () if self.directory is None or not upgrades else (await self._backup(self.directory)).steps
        # At the same time: neither changes a member, and both must be done before the first one is.
        prepare = Phase("prepare", (*backup, *copies, *unpinned))
        return self._plan([prepare, *(self._rolling(upgrades, names) if upgrades else ())], version_notes(surveys))

    async def rollback(self) -> Plan:
        """To the previous release of each host; those that are pinned to it already have gone back.

        Raises DeployError if there is none, or if the cluster cannot go back.
        """
        surveys = await self._surveyed()
        answers = await self.members.answers()
        running = [answer for answer in answers.values() if answer.version]
        errors: list[Exception] = []
        names, titles = [], {}
        for name, seen in surveys.items():
            if self._has_gone_back(seen) and not self._awaits_restart(seen):
                continue
            try:
                titles[name] = "" if self._has_gone_back(seen) else self._rollback_title(name, seen, running)
                names.append(name)
            except HostError as error:
                errors.append(error)
        if errors:
            raise DeployError(errors)
        steps = [self._roll_back(name, titles[name]) for name in await self._ordered(names)]
        return self._plan(self._rolling(steps, names))

    async def _surveyed(self) -> dict[str, HostSurvey]:
        examined = await examine(self.cluster, self.hosts)
        require_no_errors(one for one in examined.findings if one.purpose in (None, "install"))
        certificates = inspect(self.cluster, now=self.now)
        surveys = await survey(self.cluster, self.hosts, certificates, examined.facts, self.on_event)
        down = [name for name, seen in surveys.items() if seen.facts.unit.active not in ("active", "reloading")]
        if down:
            text = f"{self.cluster.service.unit}.service is not running; only running members are upgraded or rolled back"
            raise DeployError([HostError(name, "plan", text, remedy="run `tercet deploy apply` first") for name in down])
        return surveys

    async def _ordered(self, names: list[str]) -> list[str]:
        return in_order(names, await self.members.health(), await self.members.answers())

    async def _backup(self, directory: Path) -> Plan:
        return await backup_of(self.cluster, self.members, directory, self.now).plan()

    def _steps(self, name: str, seen: HostSurvey, part: Part) -> tuple[Step, ...]:
        return host_steps(self.cluster, self.hosts[name], seen.facts, seen.desired, seen.artifact, parts=(part,)).steps

    def _is_pinned(self, seen: HostSurvey) -> bool:
        return seen.facts.files[pin_path(self.cluster.paths.install)].exists

    def _current(self, seen: HostSurvey) -> str:
        return seen.facts.files[f"{self.cluster.paths.install}/current"].target.rpartition("/")[2]

    def _has_gone_back(self, seen: HostSurvey) -> bool:
        return pinned_release(self.cluster, seen.facts) == self._current(seen) != ""

    def _awaits_restart(self, seen: HostSurvey) -> bool:
        """Whether an interrupted command has activated a release that the member does not run yet."""
        return _reason(self._current(seen)) in changes_pending_restart(self.cluster, seen.facts)

    def _without_pin(self, seen: HostSurvey) -> HostSurvey:
        files = {**seen.facts.files, pin_path(self.cluster.paths.install): FileFact(kind="absent")}
        return replace(seen, facts=replace(seen.facts, files=files))

    # Steps.

    def _rolling(self, steps: list[Step], names: list[str]) -> list[Phase]:
        return [Phase("restart", tuple(steps), one_at_a_time=True), health_phase(self.cluster, self.members, names)]

    def _plan(self, phases: list[Phase], notes: tuple[str, ...] = ()) -> Plan:
        kept = tuple(phase for phase in phases if phase.steps)
        return Plan(kept, (*notes, *pauses(self.cluster)) if kept else ())

    def _unpinning(self, name: str, pin: str) -> Step:
        async def work(_progress: Progress) -> str:
            await self.hosts[name].check(f"rm -f -- {shlex.quote(pin)}", step="remove the pin")
            return ""

        return Step(name, "remove the pin", work, f"{pin}: apply follows the cluster file again")

    def _upgrade(self, name: str, activation: tuple[Step, ...], pin: str | None) -> Step:
        host = self.hosts[name]
        rolling = Rolling(self.cluster, self.hosts, self.members, [name], "all")

        async def work(progress: Progress) -> str:
            await rolling.require_majority(name)
            for step in activation:
                await step.work(progress)
            if pin:
                await host.check(f"rm -f -- {shlex.quote(pin)}", step="upgrade")
            try:
                return await rolling.restart(name)
            except NotRestarted:
                raise  # a restart to roll it back would cost the majority as well
            except HostError as error:
                raise await self._rolled_back(name, error) from error

        return Step(name, "upgrade", work, "\n".join(step.diff for step in activation))

    async def _rolled_back(self, name: str, failure: HostError) -> HostError:
        """Return this member to the release before. The error of the upgrade, with the result."""
        host = self.hosts[name]
        try:
            await host.check(rollback_command(self.cluster.paths.install), step="roll back", timeout=_ACTIVATE_SECONDS)
            await start(host, self.cluster, step="roll back")
            patience = self.cluster.service.start_timeout_seconds
            await wait_committing(self.members, self.cluster.host(name), patience, "roll back")
        except TercetError as error:
            result = f"the rollback failed too: {error}"
        else:
            result = f"{name} was rolled back to the release before, which is pinned; no other member was changed after it"
        remedy = "fix the cause, then rerun `tercet deploy upgrade`; `tercet deploy rollback` returns the other members"
        return HostError(name, "upgrade", f"{failure.text}\n{result}", remedy=remedy)

    def _rollback_title(self, name: str, seen: HostSurvey, running: list[MemberAnswer]) -> str:
        """The change as text. Raises HostError if there is no way back."""
        install = self.cluster.paths.install
        before = _RELEASE.fullmatch(seen.facts.files[f"{install}/previous"].target)
        now = _RELEASE.fullmatch(seen.facts.files[f"{install}/current"].target)
        if before is None or now is None:
            remedy = f"only a release that was replaced by an upgrade can be restored; see {install}/releases"
            raise HostError(name, "plan", f"{install} has no previous release", remedy=remedy)
        old, new = before.group(2, 3), now.group(2, 3)
        if (
            self.cluster.engine.kind == "etcd"
            and _is_lower(old, new)
            and all(_minor(answer.version) == new for answer in running)
            and not all(_minor(answer.downgrade) == old for answer in running)
        ):
            raise HostError(
                name,
                "plan",
                f"cannot roll back from etcd {'.'.join(new)} to {'.'.join(old)}: every member runs {'.'.join(new)}, so the "
                "cluster version has risen, and an older member refuses to start",
                remedy=f"run `etcdctl downgrade enable {'.'.join(old)}` (3.6 and newer) and rollback again, or restore the "
                "snapshot that upgrade saved",
            )
        return f"{now.group(1)} -> {before.group(1)}"

    def _roll_back(self, name: str, diff: str) -> Step:
        host = self.hosts[name]
        rolling = Rolling(self.cluster, self.hosts, self.members, [name], "majority")

        async def work(_progress: Progress) -> str:
            await rolling.require_majority(name)
            if diff:
                reason = _reason(diff.rpartition(" ")[2])
                command = f"({mark_command(self.cluster, reason)}) && {rollback_command(self.cluster.paths.install)}"
                await host.check(command, step="roll back", timeout=_ACTIVATE_SECONDS)
            return await rolling.restart(name)

        return Step(name, "roll back", work, diff)


def _reason(release: str) -> str:
    """As `planning` records it when it activates a release."""
    return f"release {release}"


def upgrade(
    cluster: Cluster, hosts: Mapping[str, Host], members: Members, on_event: OnEvent, *, directory: Path | None = None
) -> Upgrade:
    return Upgrade(cluster, hosts, members, on_event, datetime.now(UTC), directory)


def _minor(version: str) -> tuple[str, ...]:
    return tuple(version.split(".")[:2])


def _is_lower(old: tuple[str, ...], new: tuple[str, ...]) -> bool:
    return tuple(map(int, old)) < tuple(map(int, new))
