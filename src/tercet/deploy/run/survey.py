"""What is on the hosts and what belongs there: facts, artifact and target state of each host.

The facts of preflight say which artifact a host needs (architecture, Python) and which release it runs; the facts that planning
compares are gathered in a second round trip, since their paths depend on the artifact.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from tercet.deploy.cluster.cluster import Cluster, HostSpec
from tercet.deploy.facts.facts import HostFacts, gather
from tercet.deploy.plan.certificates import Certificates
from tercet.deploy.plan.desired import Desired, desired, restore_record_path, wanted
from tercet.deploy.release.artifact import Artifact
from tercet.deploy.release.artifacts import default_cache, prepare
from tercet.deploy.run.events import Event, OnEvent
from tercet.deploy.run.executor import DeployError
from tercet.deploy.ssh.host_error import HostError
from tercet.deploy.ssh.remote import Host
from tercet.errors import TercetError

ResultT = TypeVar("ResultT")
_UNKNOWN_PYTHON = (0, 0)


@dataclass(frozen=True)
class HostSurvey:
    """The facts of a host, the artifact for it, and its target state."""

    facts: HostFacts
    artifact: Artifact
    desired: Desired


async def survey(
    cluster: Cluster,
    hosts: Mapping[str, Host],
    certificates: Certificates,
    systems: Mapping[str, HostFacts],
    on_event: OnEvent,
) -> dict[str, HostSurvey]:
    """By host name. systems: facts of preflight. Builds the artifacts, which may take a while the first time."""
    systems = {name: systems[name] for name in hosts}
    artifacts = await _artifacts(cluster, systems, on_event)
    wishes = {name: desired(cluster, cluster.host(name), artifacts[name], certificates) for name in systems}

    async def facts_of(spec: HostSpec) -> HostFacts:
        programs = _engine_program(cluster, systems[spec.name], artifacts[spec.name])
        return await gather(hosts[spec.name], replace(wanted(cluster, spec, wishes[spec.name]), programs=programs))

    facts = await on_all(cluster, hosts, facts_of)
    _require_no_restore(cluster, facts)
    return {name: HostSurvey(facts[name], artifacts[name], wishes[name]) for name in wishes}


def _require_no_restore(cluster: Cluster, facts: Mapping[str, HostFacts]) -> None:
    """Raises DeployError if a host has the record of an unfinished restore: some members may have the data before."""
    path = restore_record_path(cluster)
    if unfinished := [name for name, seen in facts.items() if seen.files[path].exists]:
        raise DeployError([restore_unfinished(name, path) for name in unfinished])


def restore_unfinished(host: str, path: str) -> HostError:
    remedy = "run the same `tercet deploy restore` again, which continues it"
    return HostError(host, "plan", f"a restore has not finished ({path})", remedy=remedy)


def _engine_program(cluster: Cluster, facts: HostFacts, artifact: Artifact) -> tuple[str, ...]:
    """The program that the unit runs, to ask for its version; none if it is already the artifact's."""
    install, program = cluster.paths.install, facts.unit.exec_line.split(" ", 1)[0]
    current = facts.files[f"{install}/current"].target
    if not program.endswith(("/etcd", "/tercet")):
        return ()
    return () if program.startswith(f"{install}/current/") and current == f"releases/{artifact.release}" else (program,)


async def _artifacts(cluster: Cluster, systems: Mapping[str, HostFacts], on_event: OnEvent) -> dict[str, Artifact]:
    """By host name. One artifact per kind of host, built in sequence since a build uses the whole machine."""
    made: dict[tuple[str, tuple[int, int]], Artifact] = {}
    loop = asyncio.get_running_loop()
    title = "build the tercet bundle" if cluster.engine.kind == "tercet" else "prepare the etcd release"
    has_reported = False  # no event for a cached artifact

    def report(done: int, total: int) -> None:
        nonlocal has_reported
        has_reported = True
        on_event(Event(None, title, "running", done=done, total=total))

    def progress(done: int, total: int) -> None:  # called in the worker thread
        loop.call_soon_threadsafe(report, done, total)

    for facts in systems.values():
        kind = _kind(facts)
        if kind not in made:
            python = facts.python[:2] if facts.python else None
            made[kind] = await prepare(cluster.engine, arch=facts.arch, python=python, cache=default_cache(), progress=progress)
    if has_reported:
        on_event(Event(None, title, "done"))
    return {name: made[_kind(facts)] for name, facts in systems.items()}


def _kind(facts: HostFacts) -> tuple[str, tuple[int, int]]:
    return facts.arch, facts.python[:2] if facts.python else _UNKNOWN_PYTHON


async def on_all(cluster: Cluster, hosts: Collection[str], ask: Callable[[HostSpec], Awaitable[ResultT]]) -> dict[str, ResultT]:
    """The answer of every host. Raises DeployError with all errors."""
    specs = [spec for spec in cluster.hosts if spec.name in hosts]
    answers = await asyncio.gather(*(ask(spec) for spec in specs), return_exceptions=True)
    failures = [answer for answer in answers if isinstance(answer, Exception)]
    if failures:
        unexpected = [failure for failure in failures if not isinstance(failure, TercetError)]
        raise unexpected[0] if unexpected else DeployError(failures)
    return {spec.name: answer for spec, answer in zip(specs, answers, strict=True) if not isinstance(answer, BaseException)}
