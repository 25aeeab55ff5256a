"""Client calls to real members through fake SSH forwarding, and members that do not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar, cast

import pytest

from tercet.deploy.cluster.settings import TlsSettings
from tercet.deploy.members.members import Members
from tercet.deploy.plan.plan import Plan
from tercet.deploy.run.executor import DeployError, execute
from tercet.deploy.run.rolling import health_phase, restart_plan
from tercet.deploy.ssh.host_error import HostError
from tercet.deploy.ssh.remote import Host
from tests.deploy.loopback_cluster import LoopbackCluster, loopback_cluster
from tests.support.waiting import scaled

Result = TypeVar("Result")
pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackCluster]:
    with loopback_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        with_members(cluster, until_healthy)
        yield cluster


def with_members(three: LoopbackCluster, act: Callable[[Members], Awaitable[Result]]) -> Result:
    async def bounded() -> Result:
        async with asyncio.timeout(scaled(100)), three.wires(), Members(three.cluster, three.hosts) as members:
            return await act(members)

    return asyncio.run(bounded())


async def until_healthy(members: Members) -> None:
    await execute(Plan((health_phase(members.cluster, members, [spec.name for spec in members.cluster.hosts]),)))


async def leader_of(members: Members) -> str:
    [leader] = [answer.name for answer in (await members.answers()).values() if answer.is_leader]
    return leader


def test_status_and_health_of_every_member(three: LoopbackCluster) -> None:
    async def act(members: Members) -> None:
        health = await members.health()
        assert [(one.name, one.is_healthy, one.error) for one in health] == [(name, True, "") for name in ("m1", "m2", "m3")]
        assert [one.endpoint for one in health] == three.cluster.endpoints()
        assert all(0 < one.took_seconds < scaled(20) for one in health)
        answers = await members.answers()
        assert len({answer.member_id for answer in answers.values()}) == 3
        assert len({answer.leader for answer in answers.values()}) == 1
        assert {answer.version for answer in answers.values()} == {"3.5.1"}
        assert all(answer.raft_term > 0 and answer.raft_index > 0 and answer.db_size > 0 for answer in answers.values())
        assert await leader_of(members) in answers
        listed = await members.listed()
        assert listed is not None
        assert {member.name for member in listed} == {"m1", "m2", "m3"}

    with_members(three, act)


def test_leadership_can_be_moved(three: LoopbackCluster) -> None:
    async def act(members: Members) -> None:
        answers = await members.answers()
        leader = await leader_of(members)
        heir = next(answer for answer in answers.values() if not answer.is_leader)
        await members.move_leader(leader, heir)
        await until_healthy(members)
        assert await leader_of(members) == heir.name

    with_members(three, act)


def test_a_certificate_for_another_address_is_rejected(three: LoopbackCluster) -> None:
    """The certificate must be valid for the member's address, not for the end of the tunnel."""

    async def act(members: Members) -> None:
        host = cast(Host, _LeadingTo(three, "127.0.0.3"))
        async with Members(three.cluster, {"m1": host}) as others:
            health = await others.health_of(three.cluster.hosts[0])
        assert not health.is_healthy
        assert "certificate verify failed" in health.error
        assert "127.0.0.2" in health.error

    with_members(three, act)


class _LeadingTo:
    """A host whose forwarded ports lead to another member."""

    def __init__(self, three: LoopbackCluster, address: str) -> None:
        self.name, self.spec = "m1", three.cluster.hosts[0]
        self._host, self._address = three.locals["m1"], address

    async def forward(self, address: str, port: int) -> int:
        return await self._host.forward(self._address, port)


def test_without_certificates_members_have_an_error(three: LoopbackCluster, tmp_path: Path) -> None:
    async def act(members: Members) -> None:
        fresh = replace(three.cluster, tls=TlsSettings(directory=tmp_path / "none"))
        async with Members(fresh, three.hosts) as others:
            assert [one.is_healthy for one in await others.health()] == [False] * 3
            assert all(str(tmp_path) in answer.error for answer in (await others.answers()).values())
            assert await others.listed() is None

    with_members(three, act)


def test_a_rolling_restart_takes_the_leader_last_and_moves_leadership_once(three: LoopbackCluster) -> None:
    async def act(members: Members) -> None:
        leader = await leader_of(members)
        before = {name: len(host.restarts) for name, host in three.locals.items()}
        said: list[tuple[str | None, str]] = []
        plan = await restart_plan(three.cluster, three.hosts, members, ["m1", "m2", "m3"])
        await execute(plan, lambda event: said.append((event.host, event.detail)) if event.state == "done" else None)
        assert {name: len(host.restarts) for name, host in three.locals.items()} == {n: c + 1 for n, c in before.items()}
        assert said[-1][0] == leader
        now = await leader_of(members)
        assert now != leader
        assert [(host, "leadership moved" in detail) for host, detail in said] == [
            *((host, False) for host, _ in said[:2]),
            (leader, True),
        ]
        assert all(one.is_healthy for one in await members.health())

    with_members(three, act)


def test_no_restart_while_another_member_is_down(three: LoopbackCluster) -> None:
    async def act(members: Members) -> None:
        three.locals["m2"].stop()
        running = {name: len(three.locals[name].restarts) for name in ("m1", "m3")}
        health = {one.name: one for one in await members.health()}
        assert (health["m1"].is_healthy, health["m2"].is_healthy, health["m3"].is_healthy) == (True, False, True)
        assert health["m2"].error == f"connection to 127.0.0.3:{three.cluster.listen.client_port} refused"
        with pytest.raises(DeployError, match=r"m2: restart: not restarted: its etcd\.service is inactive/dead"):
            await restart_plan(three.cluster, three.hosts, members, ["m1", "m2", "m3"])
        with pytest.raises(DeployError, match=r"its etcd\.service is inactive"):
            await restart_plan(three.cluster, three.hosts, members, ["m1"])
        assert {name: len(three.locals[name].restarts) for name in running} == running

    with_members(three, act)


def test_a_member_that_is_down_may_be_started(three: LoopbackCluster) -> None:
    async def act(members: Members) -> None:
        three.locals["m2"].stop()
        await execute(await restart_plan(three.cluster, three.hosts, members, ["m2"]))
        assert all(one.is_healthy for one in await members.health())

    with_members(three, act)


def test_an_unreachable_host_is_a_result_with_an_error(three: LoopbackCluster) -> None:
    async def act(members: Members) -> None:
        hosts: dict[str, Host | HostError] = {**three.hosts, "m3": HostError("m3", "connect", "no route to host")}
        async with Members(three.cluster, hosts) as some:
            assert [one.error for one in await some.health()] == ["", "", "connect: no route to host"]
            assert (await some.answers())["m3"].error == "connect: no route to host"

    with_members(three, act)
