"""Rolling restarts: order, and when a restart is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import cast

import pytest

from tercet.deploy.cluster.cluster import Cluster, HostSpec
from tercet.deploy.members.left_behind import LeftBehind
from tercet.deploy.members.members import MemberAnswer, MemberHealth, Members
from tercet.deploy.run import rolling
from tercet.deploy.run.executor import DeployError, execute
from tercet.deploy.run.quorum_gate import Keep, judge
from tercet.deploy.run.rolling import in_order, restart_plan
from tercet.deploy.ssh.remote import Host
from tercet.errors import Code, StatusError
from tercet.proto import rpc_pb2
from tests.deploy.scripted_host import FAILED, RUNNING, STOPPED, ScriptedHost, cluster_of


class ScriptedMembers:
    """Fake members; a restarted member becomes healthy, unless it is in `broken`."""

    def __init__(
        self,
        cluster: Cluster,
        hosts: dict[str, ScriptedHost],
        *,
        leader: str,
        unhealthy: Collection[str] = (),
        unreachable: Collection[str] = (),
        stays_leader: bool = False,
        recovers: bool = False,
    ) -> None:
        self.recovers = recovers
        self.cluster = cluster
        self.left_behind = LeftBehind(cluster)
        self.hosts = hosts
        self.leader = leader
        self.unhealthy = {*unhealthy, *unreachable}
        self.unreachable = set(unreachable)
        self.unstarted: set[str] = set()
        self.unpublished: set[str] = set()
        self.moves: list[tuple[str, str]] = []
        self._stays_leader = stays_leader
        self._ids = {spec.name: number for number, spec in enumerate(cluster.hosts, 1)}

    async def health(self) -> list[MemberHealth]:
        return [await self.health_of(spec) for spec in self.cluster.hosts]

    async def health_of(self, spec: HostSpec) -> MemberHealth:
        await asyncio.sleep(0)
        is_unhealthy = spec.name in self.unhealthy and not (self.recovers and self.hosts[spec.name].starts)
        commits = None if spec.name in self.unreachable else not is_unhealthy
        return MemberHealth(spec.name, "", not is_unhealthy, 0.001, "no leader" if is_unhealthy else "", commits)

    async def answers(self) -> dict[str, MemberAnswer]:
        return {name: await self.answer_of(name) for name in self._ids}

    async def answer_of(self, name: str) -> MemberAnswer:
        return MemberAnswer(name, member_id=self._ids[name], leader=self._ids[self.leader], raft_index=10)

    async def listed(self) -> list[rpc_pb2.Member]:
        return [
            rpc_pb2.Member(
                ID=self._ids[spec.name],
                name="" if spec.name in self.unstarted else spec.name,
                peerURLs=[self.cluster.peer_url(spec)],
                clientURLs=[] if spec.name in self.unstarted | self.unpublished else [f"https://{spec.name}:2379"],
            )
            for spec in self.cluster.hosts
        ]

    async def move_leader(self, leader: str, to: MemberAnswer) -> None:
        if self._stays_leader:
            raise StatusError(Code.UNAVAILABLE, "leader transfer took too long")
        self.moves.append((leader, to.name))
        self.leader = to.name


def restarted(members: ScriptedMembers, names: Collection[str] = ("m1", "m2", "m3")) -> list[str]:
    """Restart them; returns the restarted hosts in order."""
    rolling_members = cast(Members, members)
    hosts = {name: cast(Host, host) for name, host in members.hosts.items()}
    events: list[str] = []

    async def act() -> None:
        plan = await restart_plan(members.cluster, hosts, rolling_members, names)
        await execute(plan, lambda event: events.append(event.host or "") if event.state == "done" else None)

    asyncio.run(act())
    return events


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rolling, "_BEFORE_SECONDS", 0.1)
    monkeypatch.setattr(rolling, "_POLL_SECONDS", 0.01)


def three(**more: ScriptedHost) -> dict[str, ScriptedHost]:
    return {name: more.get(name, ScriptedHost(name)) for name in ("m1", "m2", "m3")}


@pytest.mark.parametrize(
    ("leader", "unhealthy", "order"),
    [
        ("m1", (), ["m2", "m3", "m1"]),
        ("m2", (), ["m1", "m3", "m2"]),
        ("m1", ("m3",), ["m3", "m2", "m1"]),
        ("m3", ("m3",), ["m3", "m1", "m2"]),
    ],
)
def test_unhealthy_members_are_first_and_the_leader_last(leader: str, unhealthy: tuple[str, ...], order: list[str]) -> None:
    members = ScriptedMembers(cluster_of(3), three(), leader=leader, unhealthy=unhealthy)
    health, answers = asyncio.run(members.health()), asyncio.run(members.answers())
    assert in_order(["m1", "m2", "m3"], health, answers) == order
    assert in_order(["m1", "m3"], health, answers) == [name for name in order if name != "m2"]


def test_leadership_moves_once_to_a_restarted_member() -> None:
    members = ScriptedMembers(cluster_of(3), three(), leader="m1")
    assert restarted(members) == ["m2", "m3", "m1"]
    assert [leader for leader, _ in members.moves] == ["m1"]
    assert [host.starts for host in members.hosts.values()] == [1, 1, 1]


def test_a_new_leader_also_transfers_leadership_before_its_restart() -> None:
    members = ScriptedMembers(cluster_of(3), three(), leader="m1")
    assert restarted(members, ["m1"]) == ["m1"]
    assert members.moves == [("m1", "m2")]


def test_the_first_failure_stops_the_restart() -> None:
    hosts = three(m2=ScriptedHost("m2", after=(f"{FAILED} NRestarts=1",), journal="a bad flag"))
    members = ScriptedMembers(cluster_of(3), hosts, leader="m3")
    with pytest.raises(DeployError, match=r"(?s)^m2: restart: .*a bad flag"):
        restarted(members)
    assert [host.starts for host in hosts.values()] == [1, 1, 0]


def test_no_restart_while_another_member_is_unhealthy() -> None:
    members = ScriptedMembers(cluster_of(3), three(), leader="m1", unhealthy=["m3"])
    with pytest.raises(DeployError, match=r"^m2: restart: not restarted: m3 is not healthy: no leader"):
        restarted(members, ["m2"])
    assert [host.starts for host in members.hosts.values()] == [0, 0, 0]


def test_a_member_that_stays_unhealthy_stops_the_restart() -> None:
    hosts = three()
    members = ScriptedMembers(cluster_of(3, start_timeout=1), hosts, leader="m1", unhealthy=["m2"])
    with pytest.raises(DeployError, match=r"^m2: restart: m2 is not healthy: no leader"):
        restarted(members)
    assert [host.starts for host in hosts.values()] == [0, 1, 0]


def test_a_stopped_member_is_reported_before_any_restart() -> None:
    hosts = three(m2=ScriptedHost("m2", before=STOPPED))
    members = ScriptedMembers(cluster_of(3), hosts, leader="m1")
    with pytest.raises(DeployError, match=r"^m2: restart: not restarted: its etcd\.service is inactive/dead\. .* apply"):
        restarted(members)
    assert [host.starts for host in hosts.values()] == [0, 0, 0]


def test_a_leader_that_cannot_transfer_leadership_is_not_restarted() -> None:
    members = ScriptedMembers(cluster_of(3), three(), leader="m1", stays_leader=True)
    with pytest.raises(DeployError, match=r"^m1: restart: not restarted: leadership transfer failed: leader transfer"):
        restarted(members, ["m1"])
    assert members.hosts["m1"].starts == 0


@pytest.mark.parametrize("count", [1, 2])
def test_clusters_of_one_or_two_members_are_restarted(count: int) -> None:
    names = [f"m{number}" for number in range(1, count + 1)]
    hosts = {name: ScriptedHost(name, before=RUNNING) for name in names}
    members = ScriptedMembers(cluster_of(count), hosts, leader="m1")
    assert restarted(members, names) == sorted(names, reverse=True)


# The quorum gate.


def test_without_a_majority_all_members_are_restarted_together() -> None:
    """After all certificates have expired nothing commits, and no member gets ready alone."""
    members = ScriptedMembers(cluster_of(3), three(), leader="m1", unhealthy=["m1", "m2", "m3"], recovers=True)
    assert sorted(restarted(members)) == ["m1", "m2", "m3"]
    assert [host.starts for host in members.hosts.values()] == [1, 1, 1]
    assert members.moves == []


def test_a_member_that_cannot_be_asked_may_be_serving() -> None:
    members = ScriptedMembers(cluster_of(3), three(), leader="m1", unhealthy=["m1", "m2"], unreachable=["m3"])
    with pytest.raises(DeployError, match=r"^m1: restart: not restarted: m3 is not healthy"):
        restarted(members, ["m1"])
    assert [host.starts for host in members.hosts.values()] == [0, 0, 0]


def test_five_members_are_restarted_with_one_down() -> None:
    hosts = {f"m{number}": ScriptedHost(f"m{number}") for number in range(1, 6)}
    members = ScriptedMembers(cluster_of(5), hosts, leader="m1", unreachable=["m5"])
    assert restarted(members, ["m2", "m3"]) == ["m2", "m3"]
    members.unhealthy.add("m4")
    with pytest.raises(DeployError, match=r"^m2: restart: not restarted: m4 is not healthy: no leader; m5 is not healthy"):
        restarted(members, ["m2"])


@pytest.mark.parametrize(
    ("health", "keep", "blockers", "commits"),
    [
        ("+++", "all", "", True),
        ("++-", "majority", "3", True),
        ("+++++", "all", "", True),
        ("++++-", "all", "5", True),
        ("++++-", "majority", "", True),
        ("+++-?", "majority", "45", True),
        ("-++", "majority", "", True),
        ("---", "majority", "", False),
        ("--?", "majority", "3", False),
        ("?--", "majority", "", False),
        ("+", "all", "", True),
        ("++", "majority", "", True),
        ("-?", "majority", "2", False),
    ],
)
def test_restarting_the_first_member(health: str, keep: Keep, blockers: str, commits: bool) -> None:
    """+ commits, - does not commit, ? unknown."""
    states = {"+": True, "-": False, "?": None}
    members = [MemberHealth(str(number), "", False, 0, "", states[one]) for number, one in enumerate(health, 1)]
    verdict = judge(members, "1", keep=keep)
    assert ("".join(one.name for one in verdict.blockers), verdict.commits) == (blockers, commits)
