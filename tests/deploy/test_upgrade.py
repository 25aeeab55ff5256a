"""Upgrades and rollbacks: order, backup, what a failure leaves, and the pin."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from tercet.deploy.facts.facts import FileFact, HostFacts
from tercet.deploy.facts.preflight import Examined
from tercet.deploy.members.members import MemberAnswer, Members
from tercet.deploy.plan.certificates import ensure_certificates
from tercet.deploy.plan.desired import desired, restart_marker_path
from tercet.deploy.plan.plan import Phase, Plan
from tercet.deploy.plan.planning import host_steps
from tercet.deploy.run import rolling
from tercet.deploy.run.executor import DeployError, execute, silent
from tercet.deploy.run.survey import HostSurvey
from tercet.deploy.run.upgrade import Upgrade
from tercet.deploy.ssh.remote import Completed, Host
from tests.deploy.clusters import artifact_of, as_wanted, changed, cluster_of
from tests.deploy.scripted_host import FAILED, RUNNING, ScriptedHost
from tests.deploy.test_rolling import ScriptedMembers

NOW = datetime(2026, 1, 2, tzinfo=UTC)
INSTALL = "/opt/etcd"


class Versioned(ScriptedMembers):
    """Every member runs this version."""

    version = "3.5.9"
    downgrade = ""

    async def answer_of(self, name: str) -> MemberAnswer:
        return replace(await super().answer_of(name), version=self.version, downgrade=self.downgrade)


class Releases:
    """node1 to node3 run etcd 3.5.9; the cluster file has 3.6.1."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        settings = "engine: {kind: etcd, source: e.tar.gz}\nservice: {start_timeout_seconds: 1}\n"
        self.cluster = cluster_of(tmp_path, settings)
        certificates = ensure_certificates(self.cluster, now=NOW)
        self.artifact = artifact_of(self.cluster, version="3.6.1")
        self.wishes = {spec.name: desired(self.cluster, spec, self.artifact, certificates) for spec in self.cluster.hosts}
        self.facts = {name: self._running(as_wanted(self.cluster, wish)) for name, wish in self.wishes.items()}
        self.hosts = {name: ScriptedHost(name) for name in self.facts}
        self.members = Versioned(self.cluster, self.hosts, leader="node1")

        async def survey(_: object, hosts: Collection[str], *__: object) -> dict[str, HostSurvey]:
            return {name: HostSurvey(self.facts[name], self.artifact, self.wishes[name]) for name in hosts}

        async def examine(*_: object) -> Examined:
            return Examined((), {})

        monkeypatch.setattr("tercet.deploy.run.upgrade.survey", survey)
        monkeypatch.setattr("tercet.deploy.run.upgrade.examine", examine)
        monkeypatch.setattr(rolling, "_BEFORE_SECONDS", 0.1)
        monkeypatch.setattr(rolling, "_POLL_SECONDS", 0.01)

    def _running(self, facts: HostFacts) -> HostFacts:
        facts = changed(facts, f"{INSTALL}/current", target="releases/etcd-3.5.9-0a")
        facts = changed(facts, f"{INSTALL}/previous", kind="link", target="releases/etcd-3.5.8-0b")
        absent = FileFact(kind="absent")
        facts = replace(facts, files={**facts.files, f"{INSTALL}/releases/{self.artifact.release}": absent})
        return replace(facts, versions={"etcd": "etcd Version: 3.5.9"})

    def work(self, directory: Path | None = None) -> Upgrade:
        hosts = {name: cast(Host, host) for name, host in self.hosts.items()}
        return Upgrade(self.cluster, hosts, cast(Members, self.members), silent, NOW, directory)

    def plan(self, directory: Path | None = None) -> Plan:
        return asyncio.run(self.work(directory).plan())

    def rollback(self) -> Plan:
        return asyncio.run(self.work().rollback())


def shape(plan: Plan) -> list[str]:
    return [f"{phase.title}: {' '.join(step.host or 'local' for step in phase.steps)}" for phase in plan.phases]


def test_a_snapshot_and_copies_then_one_member_at_a_time_leader_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    releases = Releases(tmp_path, monkeypatch)
    found = releases.plan(tmp_path / "backups")
    assert shape(found) == [
        "prepare: local local local node1 node2 node3",
        "restart: node2 node3 node1",
        "health: node1 node2 node3",
    ]
    assert found.phases[1].one_at_a_time
    assert "/opt/etcd/current: releases/etcd-3.5.9-0a -> releases/etcd-3.6.1-" in found.phases[1].steps[0].diff
    assert shape(releases.plan()) == ["prepare: node1 node2 node3", *shape(found)[1:]]


def run_restarts(found: Plan) -> None:
    asyncio.run(execute(Plan(tuple(phase for phase in found.phases if phase.title == "restart"))))


def commands(host: ScriptedHost) -> list[str]:
    """The commands that change the release."""
    kinds = {"release=": "activate", "pinned.new": "roll back and pin", "systemctl restart": "restart"}
    return [kind for command in host.commands for text, kind in kinds.items() if text in command]


def test_a_member_that_fails_is_rolled_back_and_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    releases = Releases(tmp_path, monkeypatch)
    failed, works = f"{FAILED} NRestarts=1 InvocationID=new1", f"{RUNNING} InvocationID=new2"
    after = (failed, failed, works)  # seen at the start, before the rollback, after it
    releases.hosts["node2"] = releases.members.hosts["node2"] = ScriptedHost("node2", after=after, journal="unknown flag")
    with pytest.raises(DeployError, match=r"(?s)^node2: upgrade: .*unknown flag.*node2 was rolled back.*pinned") as caught:
        run_restarts(releases.plan())
    assert "rerun `tercet deploy upgrade`" in str(caught.value)
    assert commands(releases.hosts["node2"]) == ["activate", "restart", "roll back and pin", "restart"]
    assert [releases.hosts[name].starts for name in ("node1", "node3")] == [0, 0]


def test_no_member_is_upgraded_while_another_is_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    releases = Releases(tmp_path, monkeypatch)
    releases.members.unhealthy = {"node3"}
    with pytest.raises(DeployError, match=r"^node2: restart: not restarted: node3 is not healthy"):
        asyncio.run(execute(Plan((Phase("restart", releases.plan().phases[1].steps[1:2]),))))
    assert commands(releases.hosts["node2"]) == []


def test_a_member_that_may_not_be_restarted_is_not_rolled_back_by_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another member fails while the release is activated: restarting this one would take the majority."""
    releases = Releases(tmp_path, monkeypatch)

    class Activates(ScriptedHost):
        async def run(self, command: str, **options: Any) -> Completed:
            if "release=" in command:
                releases.members.unhealthy = {"node3"}
            return await super().run(command, **options)

    releases.hosts["node2"] = releases.members.hosts["node2"] = Activates("node2")
    with pytest.raises(DeployError, match=r"^node2: restart: not restarted: node3 is not healthy"):
        run_restarts(releases.plan())
    assert commands(releases.hosts["node2"]) == ["activate"]
    assert releases.hosts["node2"].starts == 0


@pytest.mark.parametrize(("version", "warns"), [("3.5.9", True), ("3.5.25", True), ("3.5.26", False)])
def test_members_that_3_6_would_take_for_learners_are_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, warns: bool
) -> None:
    releases = Releases(tmp_path, monkeypatch)
    for name, facts in releases.facts.items():
        releases.facts[name] = replace(facts, versions={"etcd": f"etcd Version: {version}"})
    notes = releases.plan().notes
    assert [note.partition(":")[0] for note in notes] == [f"upgrade etcd {version} to 3.5.26 or a newer 3.5 first"] * warns


def test_a_skipped_minor_version_and_a_stopped_member_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    releases = Releases(tmp_path, monkeypatch)
    facts = releases.facts["node3"]
    releases.facts["node3"] = replace(facts, versions={"etcd": "etcd Version: 3.4.9"})
    with pytest.raises(DeployError, match=r"^node3: plan: cannot upgrade the engine from etcd 3\.4\.9 to 3\.6\.1"):
        releases.plan()
    releases.facts["node3"] = replace(facts, unit=replace(facts.unit, active="failed"))
    for plan in (releases.plan, releases.rollback):
        with pytest.raises(DeployError, match=r"^node3: plan: etcd\.service is not running"):
            plan()


def test_a_rollback_restores_the_previous_release_and_pins_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    releases = Releases(tmp_path, monkeypatch)
    found = releases.rollback()
    assert shape(found) == ["restart: node2 node3 node1", "health: node1 node2 node3"]
    assert found.steps[0].diff == "etcd-3.5.9-0a -> etcd-3.5.8-0b"
    run_restarts(found)
    for host in releases.hosts.values():
        assert commands(host) == ["roll back and pin", "restart"]


def test_an_interrupted_rollback_is_continued_and_not_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    releases = Releases(tmp_path, monkeypatch)
    marker = restart_marker_path(releases.cluster)
    for name in ("node2", "node3"):
        facts = changed(releases.facts[name], f"{INSTALL}/pinned", kind="file", content="etcd-3.5.8-0b\n")
        facts = changed(facts, f"{INSTALL}/current", target="releases/etcd-3.5.8-0b")
        releases.facts[name] = changed(facts, f"{INSTALL}/previous", target="releases/etcd-3.5.9-0a")
    running = releases.facts["node3"].unit.invocation
    releases.facts["node3"] = changed(releases.facts["node3"], marker, content=f"{running} release etcd-3.5.8-0b\n")
    found = releases.rollback()
    assert shape(found) == ["restart: node3 node1", "health: node1 node3"]
    run_restarts(found)
    assert [commands(host) for host in releases.hosts.values()] == [["roll back and pin", "restart"], [], ["restart"]]


def test_an_interrupted_upgrade_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """node1 has the release and its pin still, node2 does not run it yet."""
    releases = Releases(tmp_path, monkeypatch)
    marker, release = restart_marker_path(releases.cluster), releases.artifact.release
    for name in releases.facts:
        facts = changed(releases.facts[name], f"{INSTALL}/releases/{release}", kind="directory")
        releases.facts[name] = changed(facts, f"{INSTALL}/current", target=f"releases/{release}")
    releases.facts["node1"] = changed(releases.facts["node1"], f"{INSTALL}/pinned", kind="file", content=f"{release}\n")
    running = releases.facts["node2"].unit.invocation
    releases.facts["node2"] = changed(releases.facts["node2"], marker, content=f"{running} release {release}\n")
    found = releases.plan()
    assert shape(found) == ["prepare: node1", "restart: node2", "health: node2"]
    asyncio.run(execute(Plan(found.phases[:2])))
    assert releases.hosts["node1"].commands == [f"rm -f -- {INSTALL}/pinned"]
    assert [commands(host) for host in releases.hosts.values()] == [[], ["restart"], []]


def test_no_way_back_when_every_member_runs_the_new_minor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    releases = Releases(tmp_path, monkeypatch)
    for name in releases.facts:
        releases.facts[name] = changed(releases.facts[name], f"{INSTALL}/previous", target="releases/etcd-3.4.9-0b")
    with pytest.raises(DeployError, match=r"node1: plan: cannot roll back from etcd 3\.5 to 3\.4: every member runs 3\.5"):
        releases.rollback()
    releases.members.downgrade = "3.3.0"
    with pytest.raises(DeployError, match=r"run `etcdctl downgrade enable 3\.4` .* and rollback again"):
        releases.rollback()
    releases.members.downgrade = "3.4.0"
    assert not releases.rollback().is_empty
    releases.members.downgrade = ""
    releases.members.version = "3.4.9"  # not every one: the cluster version has not risen
    assert not releases.rollback().is_empty
    releases.facts["node1"] = changed(releases.facts["node1"], f"{INSTALL}/previous", kind="absent", target="")
    with pytest.raises(DeployError, match=r"^node1: plan: /opt/etcd has no previous release"):
        releases.rollback()


def test_apply_keeps_a_pinned_release_and_upgrade_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    releases = Releases(tmp_path, monkeypatch)
    pin = f"{INSTALL}/pinned"
    for name in releases.facts:
        releases.facts[name] = changed(releases.facts[name], pin, kind="file", content="etcd-3.5.9-0a\n")
    wish, host = releases.wishes["node1"], cast(Host, releases.hosts["node1"])
    change = host_steps(releases.cluster, host, releases.facts["node1"], wish, releases.artifact)
    assert change.steps == ()
    found = releases.plan()
    assert shape(found)[0] == "prepare: node1 node2 node3"
    run_restarts(found)
    assert [command for command in releases.hosts["node1"].commands if command == f"rm -f -- {pin}"]
