"""What `tercet deploy` still does while one of the hosts is dead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tercet.deploy import Deployment
from tercet.deploy.cluster.cluster import Cluster, HostSpec
from tercet.deploy.cluster.settings import SshSettings
from tercet.deploy.members.members import Members
from tercet.deploy.run.executor import DeployError
from tercet.deploy.ssh.remote import Host, HostError
from tercet.errors import ConfigError
from tests.deploy.planned import Planned
from tests.deploy.scripted_host import cluster_of
from tests.support.ports import free_port


class DeploymentWithoutNode3(Deployment):
    """node3 is dead."""

    planned: Planned

    @asynccontextmanager
    async def _connected(self, names: Collection[str] | None = None) -> AsyncIterator[Mapping[str, Host | HostError]]:
        dead = HostError("node3", "connect", "no route to host", remedy="check the address")
        hosts: dict[str, Host | HostError] = {**self.planned.hosts, "node3": dead}
        yield {name: host for name, host in hosts.items() if names is None or name in names}


def without_node3(planned: Planned, monkeypatch: pytest.MonkeyPatch, *limit: str) -> Deployment:
    planned.cluster.path.touch()
    planned.members.unreachable = planned.members.unhealthy = {"node3"}
    monkeypatch.setattr(Members, "health", lambda _: planned.members.health())
    monkeypatch.setattr(Members, "answers", lambda _: planned.members.answers())
    monkeypatch.setattr(Members, "listed", lambda _: planned.members.listed())
    deployment = DeploymentWithoutNode3(planned.cluster, limit=limit)
    deployment.planned = planned
    return deployment


def test_a_plan_goes_on_without_a_dead_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = Planned(tmp_path, monkeypatch)
    planned.change("node1", "/etc/etcd/cert/server.pem", sha256="0")
    found = asyncio.run(without_node3(planned, monkeypatch).plan())
    assert [(step.host, step.title) for step in found.steps] == [("node1", "write /etc/etcd/cert/server.pem")]
    assert found.blockers == (
        "node3: connect: no route to host; check the address; to continue without it: --limit node1 --limit node2",
    )
    deployment = without_node3(planned, monkeypatch)
    for can_limit, act in (
        (True, deployment.apply()),
        (True, deployment.renew_certificates()),
        (False, deployment.renew_certificates(renewal="replaced CA")),
        (False, deployment.restart()),
        (False, deployment.upgrade()),
        (False, deployment.change_member("add", "node3")),
    ):
        with pytest.raises(DeployError, match=r"^node3: connect: .*check the address") as caught:
            asyncio.run(act)
        assert str(caught.value).endswith("--limit node1 --limit node2") is can_limit
    assert planned.executed == []


def test_a_limited_apply_renews_certificates_despite_a_dead_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = Planned(tmp_path, monkeypatch)
    for name in planned.facts:
        planned.change(name, "/etc/etcd/cert/server.pem", sha256="0")
    done = asyncio.run(without_node3(planned, monkeypatch, "node1").apply())
    assert [step.host for step in done.steps] == ["node1"]
    assert planned.locked == ["node1", "node2"], "every reachable host is locked against other operators"
    with pytest.raises(ConfigError, match="no host named node9"):
        without_node3(planned, monkeypatch, "node9")


def test_logs_go_on_without_a_dead_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = Planned(tmp_path, monkeypatch)

    async def follow_logs(_cluster: Cluster, hosts: Collection[str], **_: object) -> AsyncGenerator[tuple[str, str], None]:
        for name in hosts:
            yield name, "a line"

    monkeypatch.setattr("tercet.deploy.members.logs.follow_logs", follow_logs)

    async def lines(*names: str) -> list[tuple[str, str]]:
        return [entry async for entry in without_node3(planned, monkeypatch).logs(names)]

    assert asyncio.run(lines()) == [
        ("node3", "-- not reached: connect: no route to host; check the address"),
        ("node1", "a line"),
        ("node2", "a line"),
    ]
    with pytest.raises(DeployError, match=r"^node3: connect"):
        asyncio.run(lines("node3"))


def test_an_unreachable_host_stops_everything_but_status_and_health(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.touch()
    config = tmp_path / "config"
    config.touch()
    ssh = SshSettings(port=free_port(), config=config, connect_timeout=2)
    cluster = replace(
        cluster_of(2, path), hosts=tuple(HostSpec(name=name, address="127.0.0.1", ssh=ssh) for name in ("m1", "m2"))
    )
    deployment = Deployment(cluster)
    all_hosts = (deployment.plan(), deployment.apply(), deployment.restart(), deployment.destroy(keep_data=True))
    some_hosts = (
        deployment.defrag(),
        deployment.compact(keep=1),
        deployment.change_member("remove", "m1"),
        deployment.recover(),
    )
    for act in (*all_hosts, *some_hosts):
        with pytest.raises(DeployError) as caught:
            asyncio.run(act)
        assert [str(error).split(":")[:2] for error in caught.value.errors] == [["m1", " connect"], ["m2", " connect"]]
    health = asyncio.run(deployment.health())
    assert [(one.name, one.is_healthy) for one in health] == [("m1", False), ("m2", False)]
    status = asyncio.run(deployment.status())
    assert all(one.unit == "" and one.error.startswith("connect: ") for one in status)
