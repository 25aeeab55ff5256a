"""A deployment that records what the commands of `tercet deploy` ask of it, and answers from what it was given."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tercet.cli.deploy.command import command
from tercet.cli.deploy.options import Options
from tercet.deploy.deployment import MemberHealth, MemberStatus
from tercet.deploy.facts.preflight import Finding
from tercet.deploy.plan.plan import Phase, Plan, Progress, Step
from tercet.deploy.run.events import Event
from tercet.deploy.ssh.host_error import HostError

FILE = """\
name: etcd-cluster
hosts:
  - {name: kube-node1, address: 172.27.129.105}
  - {name: kube-node2, address: 172.27.129.111, ssh: {port: 2222, host: second}}
  - {name: kube-node3, address: 172.27.129.112}
ssh: {user: ops, key: id_deploy, jump: admin@gateway, known_hosts: hosts}
"""

UNIT = "/etc/systemd/system/etcd.service"


async def nothing(progress: Progress) -> str:
    return ""


def step(host: str | None, title: str, diff: str = "") -> Step:
    return Step(host, title, nothing, diff)


PLAN = Plan(
    (
        Phase(
            "files", (step("kube-node1", f"write {UNIT}", f"+++ {UNIT}\n+ExecStart=/opt/tercet"), step("kube-node2", "enable"))
        ),
        Phase("restart", (step("kube-node2", "restart"), step("kube-node1", "restart")), one_at_a_time=True),
    ),
    notes=("http://127.0.0.1:2379 is served without TLS",),
)

HEALTHY = [MemberHealth(f"kube-node{number}", f"https://10.0.0.{number}:2379", True, 0.0021) for number in (1, 2, 3)]


@dataclass
class FakeDeployment:
    """A fake Deployment with canned results; `calls` records the method calls."""

    found: Plan = PLAN
    error: Exception | None = None
    findings: list[Finding] = field(default_factory=list)
    members: list[MemberHealth] = field(default_factory=lambda: HEALTHY)
    statuses: list[MemberStatus] = field(default_factory=list)
    calls: list[object] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    password: str | None = None

    def __call__(self, cluster: Any, **options: Any) -> Any:
        self.options = {"file": cluster.path.name, "accept_new": options["accept_new"]}
        self.limit = options["limit"]
        self.on_event = options["on_event"]
        self.ask = options["ask_password"]
        return self

    async def _done(self, *call: object) -> None:
        self.calls.append(call)
        if self.ask is not None:
            self.password = await self.ask("kube-node1: sudo password for ops: ")
        if self.error is not None:
            raise self.error

    async def preflight(self) -> list[Finding]:
        await self._done("preflight")
        return self.findings

    async def plan(self) -> Plan:
        await self._done("plan")
        return self.found

    async def apply(self, confirm: Callable[[Plan], Awaitable[bool]]) -> Plan:
        if not self.found.is_empty and not await confirm(self.found):
            raise HostError("nowhere", "confirm", "declined")
        for one in self.found.steps:
            self.on_event(Event(one.host, one.title, "waiting"))
            self.on_event(Event(one.host, one.title, "running", done=1, total=2))
            if self.error is None:
                self.on_event(Event(one.host, one.title, "done", "quickly" if one.title == "restart" else ""))
        await self._done("apply")
        return self.found

    async def renew_certificates(
        self, *, renewal: str, until: str, dry_run: bool, confirm: Callable[[Plan], Awaitable[bool]]
    ) -> Plan:
        await self._done("renew", renewal, until, dry_run, self.limit)
        return self.found

    async def restart(self, names: Collection[str] = ()) -> None:
        await self._done("restart", tuple(names))

    async def destroy(self, *, keep_data: bool, confirm: Callable[[Plan], Awaitable[bool]]) -> Plan:
        await confirm(self.found)
        await self._done("destroy", keep_data)
        return self.found

    async def status(self) -> list[MemberStatus]:
        await self._done("status")
        return self.statuses

    async def health(self) -> list[MemberHealth]:
        await self._done("health")
        return self.members

    async def logs(self, names: Collection[str], *, follow: bool, lines: int) -> AsyncIterator[tuple[str, str]]:
        await self._done("logs", tuple(names), follow, lines)
        for name in names:
            yield name, "a line"


def enter_directory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in `path`, with a cluster file there and no password in the environment."""
    monkeypatch.chdir(path)
    monkeypatch.delenv("TERCET_SUDO_PASSWORD", raising=False)
    (path / "cluster.yaml").write_text(FILE)


def run(fake: FakeDeployment, *words: str, stdin: str = "", environment: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(
        command, list(words), obj=Options(make=fake), input=stdin, env=environment, prog_name="tercet deploy"
    )


def status_of(name: str, **more: Any) -> MemberStatus:
    known: dict[str, Any] = {
        "address": "10.0.0.1",
        "unit": "active/running",
        "error": "",
        "member_id": 0xAB,
        "version": "3.7.1",
        "db_size": 20_480,
        "is_leader": True,
        "is_learner": False,
        "raft_term": 2,
        "raft_index": 17,
        "certificate_days": 364.9,
        "quota": 81_920,
    }
    return MemberStatus(name=name, **(known | more))
