"""`certs renew` and `certs rotate`: new certificates on running members, and new CAs, without downtime.

    renew     create -> copy -> restart one by one -> health
    rotate    the same for every certificate, whatever its age
    rotate the CA:
        trust both     create the new CA, copy both, restart one by one
        certificates   new ones signed by the new CA, copy, restart one by one
        trust the new  remove the replaced CA, restart one by one -> health

At every moment each member trusts the CAs of all certificates in use, so no connection is refused. An interrupted rotation is
continued by running it again: files that are as wanted are skipped, also their restarts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal, TypeAlias

from tercet.deploy.cluster.cluster import Cluster
from tercet.deploy.facts.preflight import Examined, examine
from tercet.deploy.members.members import Members
from tercet.deploy.plan.ca_rotation import authorities, conclude, introduce, not_introduced, require_one_ca, trusts_several
from tercet.deploy.plan.certificates import Certificates, Pair, Renewal, inspect
from tercet.deploy.plan.desired import DesiredFile
from tercet.deploy.plan.plan import Phase, Plan, Progress, Step
from tercet.deploy.plan.planning import HostChange, Part, certificate_steps, host_steps
from tercet.deploy.run.agreed import Confirm, carry_out
from tercet.deploy.run.apply import require_no_errors
from tercet.deploy.run.events import OnEvent
from tercet.deploy.run.executor import DeployError
from tercet.deploy.run.rolling import health_phase, pauses, restart_phase
from tercet.deploy.run.survey import HostSurvey, survey
from tercet.deploy.ssh.host_error import HostError
from tercet.deploy.ssh.remote import Host

Stage: TypeAlias = Literal["trust", "certificates", "all"]
"""The last stage of a CA rotation to carry out, so that clients can be given the new CA and new certificates in between."""
_CERTIFICATES: tuple[Part, ...] = ("certificates",)


@dataclass(frozen=True)
class CertificateWork:
    """What the plans of this module are made for; the time is one for both plans, since reasons name it."""

    cluster: Cluster
    hosts: Mapping[str, Host]
    members: Members
    on_event: OnEvent
    now: datetime

    async def change(
        self,
        confirm: Confirm | None,
        *,
        renewal: Renewal,
        until: Stage = "all",
        dry_run: bool = False,
        locked: Collection[Host],
    ) -> Plan:
        """Make the plan, and carry it out unless `dry_run`."""
        examined = await examine(self.cluster, self.hosts)
        require_no_errors(one for one in examined.findings if one.purpose in (None, "certificates"))

        async def make_plan() -> Plan:
            if renewal == "replaced CA":
                return await self._rotation(examined, until)
            return await self._renewal(examined, renewal)

        if dry_run:
            return await make_plan()
        return await carry_out(make_plan, confirm, self.on_event, locked=locked, unit=self.cluster.service.unit)

    async def _renewal(self, examined: Examined, renewal: Renewal) -> Plan:
        certificates = inspect(self.cluster, now=self.now, renewal=renewal)
        require_one_ca(certificates)
        surveys = await self._surveyed(certificates, examined)
        changes = {name: self._copies(name, seen) for name, seen in surveys.items()}
        phases = [
            Phase("certificates", certificate_steps(self.cluster, certificates)),
            Phase("copy", tuple(step for change in changes.values() for step in change.steps)),
            *await self._restarts(changes),
        ]
        return self._plan(phases)

    async def _rotation(self, examined: Examined, until: Stage) -> Plan:
        """The stages of a CA rotation that are still to be done."""
        certificates = inspect(self.cluster, now=self.now, renewal="replaced CA")
        found = authorities(self.cluster, certificates)
        surveys = await self._surveyed(certificates, examined)
        _require_started(self.cluster, surveys)
        to_introduce = not_introduced(found)
        if not to_introduce:
            trust = {name: self._copies(name, seen, files=()) for name, seen in surveys.items()}
            begin: tuple[Step, ...] = ()
        elif len(to_introduce) == len(found) and _trusts_more(surveys):  # interrupted after the new CA became the only one here
            return self._plan([*await self._conclusion(surveys, ())])
        else:
            certificates = _of_new_cas(certificates)
            surveys = await self._surveyed(certificates, examined)
            trust = {
                name: self._copies(
                    name, seen, authorities=_pending(seen.desired.authorities, "a new one, and the present one"), files=()
                )
                for name, seen in surveys.items()
            }
            begin = tuple(
                _local(f"create new {pair.title}", introduce, pair, f"{pair.certificate}: the present one stays trusted")
                for pair in to_introduce
            )
        leaves = {name: self._copies(name, seen, authorities=()) for name, seen in surveys.items()}
        stages = [
            Phase("new CA", begin),
            Phase("trust both", tuple(step for change in trust.values() for step in change.steps)),
            *await self._restarts(trust, health=False),
        ]
        if until == "trust":
            return self._plan(stages)
        stages += [
            Phase("certificates", certificate_steps(self.cluster, replace(certificates, ca=None, peer_ca=None))),
            Phase("copy", tuple(step for change in leaves.values() for step in change.steps)),
            *await self._restarts(leaves, health=False),
        ]
        return self._plan(stages if until == "certificates" else [*stages, *await self._conclusion(surveys, found)])

    async def _conclusion(self, surveys: Mapping[str, HostSurvey], found: Iterable[Pair]) -> list[Phase]:
        changes = {
            name: self._copies(name, seen, authorities=_pending(seen.desired.authorities, "only the new one"), files=())
            for name, seen in surveys.items()
        }
        ends = tuple(
            _local(f"remove the replaced {pair.title}", conclude, pair, f"{pair.certificate}: only the new one")
            for pair in found
        )
        return [
            Phase("trust the new CA", ends),
            Phase("copy", tuple(step for change in changes.values() for step in change.steps)),
            *await self._restarts(changes),
        ]

    async def _surveyed(self, certificates: Certificates, examined: Examined) -> dict[str, HostSurvey]:
        return await survey(self.cluster, self.hosts, certificates, examined.facts, self.on_event)

    def _copies(
        self,
        name: str,
        seen: HostSurvey,
        *,
        authorities: tuple[DesiredFile, ...] | None = None,
        files: tuple[DesiredFile, ...] | None = None,
    ) -> HostChange:
        """The copies of certificates to one host. authorities, files: instead of those of the target state."""
        wish = replace(
            seen.desired,
            authorities=seen.desired.authorities if authorities is None else authorities,
            files=seen.desired.files if files is None else files,
        )
        rotates = authorities is not None or files is not None
        host = self.hosts[name]
        return host_steps(self.cluster, host, seen.facts, wish, seen.artifact, parts=_CERTIFICATES, rotates=rotates)

    async def _restarts(self, changes: Mapping[str, HostChange], *, health: bool = True) -> list[Phase]:
        """Members that are down stay down: they read the new files when they start."""
        reasons = {name: "\n".join(change.restart_reasons) for name, change in changes.items() if change.needs_restart}
        if not reasons:
            return []
        phases = [await restart_phase(self.cluster, self.hosts, self.members, reasons, reasons)]
        return [*phases, health_phase(self.cluster, self.members, reasons)] if health else phases

    def _plan(self, phases: Iterable[Phase]) -> Plan:
        kept = tuple(phase for phase in phases if phase.steps)
        return Plan(kept, pauses(self.cluster) if any(phase.one_at_a_time for phase in kept) else ())


def certificate_work(cluster: Cluster, hosts: Mapping[str, Host], members: Members, on_event: OnEvent) -> CertificateWork:
    return CertificateWork(cluster, hosts, members, on_event, datetime.now(UTC))


def _of_new_cas(certificates: Certificates) -> Certificates:
    """Every certificate as pending: its CA is replaced."""

    def pending(pair: Pair) -> Pair:
        return replace(pair, pem=None, key_pem=None, reason="its CA is replaced")

    return replace(
        certificates,
        client=pending(certificates.client) if certificates.client else None,
        servers={name: pending(pair) for name, pair in certificates.servers.items()},
        peers={name: pending(pair) for name, pair in certificates.peers.items()},
    )


def _pending(files: Iterable[DesiredFile], reason: str) -> tuple[DesiredFile, ...]:
    """The same files, to be read when the step runs."""
    return tuple(replace(file, content=None, pair=file.pair and replace(file.pair, pem=None, reason=reason)) for file in files)


def _trusts_more(surveys: Mapping[str, HostSurvey]) -> bool:
    """Whether a host still trusts a CA that is no longer trusted here."""
    return any(
        trusts_several(fact.content.encode())
        for seen in surveys.values()
        for file in seen.desired.authorities
        if (fact := seen.facts.files[file.path]).content
    )


def _require_started(cluster: Cluster, surveys: Mapping[str, HostSurvey]) -> None:
    """A member that is down would miss a stage and trust the wrong CA when it starts. Raises DeployError."""
    down = [name for name, seen in surveys.items() if seen.facts.unit.active not in ("active", "reloading")]
    if down:
        text = f"{cluster.service.unit}.service is not running: a CA is rotated only while every member runs"
        raise DeployError([HostError(name, "plan", text, remedy="run `tercet deploy apply` first") for name in down])


def _local(title: str, act: Callable[[Pair], None], pair: Pair, diff: str) -> Step:
    async def work(_progress: Progress) -> str:
        await asyncio.to_thread(act, pair)
        return ""

    return Step(None, title, work, diff)
