"""A deployment to three hosts that answer from what a test gave them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from tercet.deploy.cluster.cluster import Cluster
from tercet.deploy.facts.preflight import Examined, Finding
from tercet.deploy.members.members import Members
from tercet.deploy.plan.certificates import ensure_certificates
from tercet.deploy.plan.desired import desired
from tercet.deploy.plan.plan import Plan
from tercet.deploy.run.apply import (
    apply,
    plan,
)
from tercet.deploy.run.executor import silent
from tercet.deploy.run.survey import HostSurvey
from tercet.deploy.ssh.remote import Host
from tests.deploy.clusters import artifact_of, as_wanted, changed
from tests.deploy.clusters import cluster_of as written
from tests.deploy.scripted_host import ScriptedHost
from tests.deploy.test_rolling import ScriptedMembers


class Planned:
    """A cluster whose hosts, findings and member list are given; only apply's own code is real."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *findings: Finding, settings: str = "") -> None:
        self.cluster = written(tmp_path, settings)
        self.artifact = artifact_of(self.cluster)
        certificates = ensure_certificates(self.cluster)
        self.desired = {spec.name: desired(self.cluster, spec, self.artifact, certificates) for spec in self.cluster.hosts}
        self.facts = {name: as_wanted(self.cluster, wish) for name, wish in self.desired.items()}
        self.members = ScriptedMembers(self.cluster, {}, leader="node1")
        self.hosts = {name: cast(Host, ScriptedHost(name)) for name in self.facts}
        self.executed: list[Plan] = []

        async def examine(*_: object) -> Examined:
            return Examined(findings, self.facts)

        async def survey(_cluster: Cluster, hosts: Collection[str], *_: object) -> dict[str, HostSurvey]:
            return {name: HostSurvey(self.facts[name], self.artifact, self.desired[name]) for name in hosts}

        async def execute(found: Plan, _on_event: object) -> None:
            self.executed.append(found)

        @asynccontextmanager
        async def locked_hosts(hosts: Collection[Host], **_: object) -> AsyncIterator[None]:
            self.locked = [host.name for host in hosts]
            yield

        fakes = {
            "apply.examine": examine,
            "apply.survey": survey,
            "agreed.execute": execute,
            "agreed.locked_hosts": locked_hosts,
        }
        for name, fake in fakes.items():
            monkeypatch.setattr(f"tercet.deploy.run.{name}", fake)

    def plan(self) -> Plan:
        return asyncio.run(plan(self.cluster, self.hosts, cast(Members, self.members), silent))

    def apply(self, confirm: Callable[[Plan], Awaitable[bool]] | None = None) -> Plan:
        return asyncio.run(apply(self.cluster, self.hosts, cast(Members, self.members), confirm, silent, locked=()))

    def change(self, name: str, path: str, **fields: object) -> None:
        self.facts[name] = changed(self.facts[name], path, **fields)

    def stop(self, name: str) -> None:
        facts = self.facts[name]
        self.facts[name] = replace(facts, unit=replace(facts.unit, active="inactive"))


UNIT = "/etc/systemd/system/etcd.service"
