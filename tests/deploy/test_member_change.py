"""Adding, removing and replacing members: the order of the steps, and the orders that are refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest

from tercet.deploy.cluster.cluster import Cluster
from tercet.deploy.facts.preflight import Examined
from tercet.deploy.members import changes
from tercet.deploy.members.left_behind import LeftBehind
from tercet.deploy.members.members import MemberAnswer, MemberHealth, Members
from tercet.deploy.plan.certificates import ensure_certificates
from tercet.deploy.plan.desired import desired
from tercet.deploy.plan.plan import Phase, Plan
from tercet.deploy.run.executor import DeployError, execute, silent
from tercet.deploy.run.member_change import MemberChange
from tercet.deploy.run.quorum_gate import may_add, may_remove
from tercet.deploy.run.survey import HostSurvey
from tercet.deploy.ssh.remote import Host
from tercet.errors import Code, ConfigError, StatusError
from tercet.proto import rpc_pb2
from tests.deploy.clusters import artifact_of, as_wanted, cluster_of, fresh
from tests.deploy.scripted_host import STOPPED, ScriptedHost
from tests.deploy.test_rolling import ScriptedMembers

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def voters(text: str) -> list[MemberHealth]:
    """One member per letter: h commits, d does not."""
    return [MemberHealth(f"m{n}", "", letter == "h", 0.0, commits=letter == "h") for n, letter in enumerate(text, 1)]


@pytest.mark.parametrize(
    ("text", "name", "is_allowed"),
    [
        ("hhh", "m1", True),
        ("hhd", "m3", True),  # the dead one
        ("hhd", "m1", False),  # one of two would remain
        ("hd", "m2", True),
        ("hd", "m1", False),
        ("h", "m1", False),
        ("hhhdd", "m5", True),
        ("hhhdd", "m1", False),
        ("hhddd", "m5", False),  # nothing commits
    ],
)
def test_members_are_removed_while_the_others_commit(text: str, name: str, is_allowed: bool) -> None:
    assert may_remove(voters(text), name) is is_allowed


@pytest.mark.parametrize(
    ("text", "is_allowed"),
    [("h", True), ("hh", True), ("hhh", True), ("hhd", False), ("hd", False), ("hhhhd", True), ("hhhdd", False), ("", False)],
)
def test_members_are_added_to_a_cluster_that_can_lose_the_new_one(text: str, is_allowed: bool) -> None:
    assert may_add(voters(text)) is is_allowed


class Cast:
    """node1 to node3 of a file; those in `listed` are members."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *listed: str, has_data: Collection[str] = ()) -> None:
        self.cluster = cluster_of(tmp_path)
        certificates = ensure_certificates(self.cluster, now=NOW)
        self.hosts = {spec.name: ScriptedHost(spec.name) for spec in self.cluster.hosts}
        self.members = ScriptedMembers(self.cluster, {}, leader=listed[0] if listed else "node1")
        self.members.unhealthy = {name for name in self.hosts if name not in listed}
        self.list = [
            rpc_pb2.Member(ID=n, name=name, peerURLs=[self.cluster.peer_url(self.cluster.host(name))], clientURLs=["c"])
            for n, name in enumerate(listed, 1)
        ]
        self.calls: list[str] = []
        self.too_early = 2
        artifact = artifact_of(self.cluster)

        async def survey(_: Cluster, hosts: Collection[str], *__: object) -> dict[str, HostSurvey]:
            wishes = {name: desired(self.cluster, self.cluster.host(name), artifact, certificates) for name in hosts}
            facts = {name: (as_wanted if name in has_data else fresh)(self.cluster, wish) for name, wish in wishes.items()}
            return {name: HostSurvey(facts[name], artifact, wishes[name]) for name in hosts}

        async def examine(*_: object) -> Examined:
            return Examined((), {})

        async def listed_members() -> list[rpc_pb2.Member]:
            return list(self.list)

        async def add_learner(_: object, url: str) -> int:
            self.calls.append(f"add {url}")
            self.list.append(rpc_pb2.Member(ID=99, peerURLs=[url], isLearner=True))
            return 99

        async def promote(_: object, member_id: int) -> None:
            if self.too_early:
                self.too_early -= 1
                raise StatusError(Code.FAILED_PRECONDITION, "can only promote a learner member which is in sync with leader")
            self.calls.append(f"promote {member_id}")
            for member in self.list:
                member.isLearner = member.isLearner and member_id != member.ID

        async def remove(_: object, member_id: int) -> None:
            self.calls.append(f"remove {member_id}")
            self.list = [member for member in self.list if member_id != member.ID]

        self.members.listed = listed_members  # type: ignore[method-assign]
        for name, fake in (("survey", survey), ("examine", examine)):
            monkeypatch.setattr(f"tercet.deploy.run.member_change.{name}", fake)
        for name, call in (("add_learner", add_learner), ("promote", promote), ("remove", remove)):
            monkeypatch.setattr(f"tercet.deploy.members.changes.{name}", call)
        monkeypatch.setattr("tercet.deploy.run.member_change._POLL_SECONDS", 0.001)

    def change(self) -> MemberChange:
        hosts = {name: cast(Host, host) for name, host in self.hosts.items()}
        return MemberChange(self.cluster, hosts, cast(Members, self.members), silent, NOW)

    def plan(self, action: str, name: str) -> Plan:
        return asyncio.run(getattr(self.change(), action)(name))


def titles(plan: Plan) -> list[str]:
    return [step.title for phase in plan.phases if phase.title != "prepare" for step in phase.steps]


def run_membership(plan: Plan) -> None:
    """The steps that call the cluster."""
    kept = [phase for phase in plan.phases if phase.title in ("membership", "promote")]
    asyncio.run(execute(Plan(tuple(kept))))


def test_a_new_member_is_prepared_then_added_then_started_then_promoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cast_ = Cast(tmp_path, monkeypatch, "node1", "node2")
    found = cast_.plan("add", "node3")
    assert [phase.title for phase in found.phases] == ["prepare", "membership", "start", "promote", "health"]
    assert {step.host for step in found.steps} == {"node3"}
    (unit,) = [step.diff for step in found.steps if step.title.endswith("/etcd.service")]
    assert "+  --initial-cluster-state=existing \\" in unit
    assert f"+  --initial-cluster={cast_.cluster.initial_cluster()} \\" in unit
    run_membership(found)
    assert cast_.calls == ["add https://10.0.0.3:2380", "promote 99"], "promoted when it had caught up"
    cast_.list[-1].name = "node3"
    assert cast_.plan("add", "node3").is_empty


def test_initial_cluster_has_the_present_members_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From one to three: a member that names hosts that are not members yet would not start."""
    found = Cast(tmp_path, monkeypatch, "node1").plan("add", "node2")
    (unit,) = [step.diff for step in found.steps if step.title.endswith("/etcd.service")]
    assert "--initial-cluster=node1=https://10.0.0.1:2380,node2=https://10.0.0.2:2380 \\" in unit


def test_an_interrupted_addition_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cast_ = Cast(tmp_path, monkeypatch, "node1", "node2")
    cast_.list.append(rpc_pb2.Member(ID=99, peerURLs=["https://10.0.0.3:2380"], isLearner=True))
    assert titles(cast_.plan("add", "node3")) == ["start", "promote", "health"]
    cast_.cluster = cluster_of(tmp_path, hosts="hosts: [{name: node1, address: 10.0.0.1}, {name: x, address: 10.0.0.9}]")
    with pytest.raises(ConfigError, match=r"63 .*is still joining"):
        cast_.plan("add", "x")


def test_data_of_an_earlier_member_is_moved_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cast_ = Cast(tmp_path, monkeypatch, "node1", "node2", has_data=["node3"])
    found = cast_.plan("add", "node3")
    assert [step.title for step in found.steps][:2] == ["stop and disable etcd.service", "move the earlier data aside"]
    asyncio.run(execute(Plan((Phase("prepare", found.steps[:2]),))))
    moved = [command for command in cast_.hosts["node3"].commands if "replaced-20260102T000000Z" in command]
    assert moved == [
        "if [ -e /var/lib/etcd/member ]; then mv -T /var/lib/etcd/member /var/lib/etcd/replaced-20260102T000000Z; fi"
    ]


def test_a_member_that_was_left_behind_is_one_again_when_its_data_is_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cast_ = Cast(tmp_path, monkeypatch, "node1", "node2", has_data=["node3"])
    cast_.members.left_behind.add([cast_.cluster.host("node3")], "recovery", "20260102T000000Z")
    found = cast_.plan("add", "node3")
    aside, readmission = [step.title for step in found.steps][1:3]
    assert (aside, readmission) == ("move the earlier data aside", "end the fencing of its earlier member")
    asyncio.run(execute(Plan((Phase("prepare", found.steps[:3]),))))
    assert "touch /var/lib/etcd/rejoined-20260102T000000Z" in cast_.hosts["node3"].commands[-1]
    assert not list(LeftBehind.read(cast_.cluster))


def test_a_change_waits_until_the_members_are_connected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """etcd refuses changes in the first five seconds of a connection: a second member joins right after the first."""
    cast_ = Cast(tmp_path, monkeypatch, "node1", "node2", "node3")
    refusals = 2

    def refused_at_first(call: Callable[..., Awaitable[int | None]]) -> Callable[..., Awaitable[int | None]]:
        async def refused(*arguments: object) -> int | None:
            nonlocal refusals
            refusals -= 1
            if refusals >= 0:
                raise StatusError(Code.UNAVAILABLE, "etcdserver: unhealthy cluster")
            return await call(*arguments)

        return refused

    for name in ("add_learner", "remove"):
        monkeypatch.setattr(changes, name, refused_at_first(getattr(changes, name)))
    run_membership(cast_.plan("remove", "node3"))
    refusals = 2
    run_membership(cast_.plan("add", "node3"))
    assert cast_.calls == ["remove 3", "add https://10.0.0.3:2380", "promote 99"]


def test_the_dead_member_is_removed_and_the_last_ones_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cast_ = Cast(tmp_path, monkeypatch, "node1", "node2", "node3")
    cast_.members.unhealthy = {"node3"}
    with pytest.raises(DeployError, match=r"^node1: member: not removed: node3 is not healthy: no leader"):
        cast_.plan("remove", "node1")
    found = cast_.plan("remove", "node3")
    assert titles(found) == ["remove node3 from the cluster", "stop and disable etcd.service"]
    run_membership(found)
    assert cast_.calls == ["remove 3"]
    assert titles(cast_.plan("remove", "node3")) == ["stop and disable etcd.service"], "interrupted before the stop"
    cast_.hosts["node3"] = ScriptedHost("node3", before=STOPPED)
    assert cast_.plan("remove", "node3").is_empty
    del cast_.list[1]
    with pytest.raises(DeployError, match="it is the only member"):
        cast_.plan("remove", "node1")


def test_a_member_that_the_file_no_longer_has_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cast_ = Cast(tmp_path, monkeypatch, "node1", "node2")
    cast_.list.append(rpc_pb2.Member(ID=0xABC, name="old", peerURLs=["https://10.0.0.9:2380"]))
    for name in ("old", "abc"):
        assert titles(cast_.plan("remove", name)) == [f"remove {name} from the cluster"]


def test_a_dead_member_is_replaced_by_one_at_another_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cast_ = Cast(tmp_path, monkeypatch, "node1", "node2", "node3")
    cast_.list[2].peerURLs[:] = ["https://10.0.0.9:2380"]
    cast_.members.unhealthy = {"node3"}
    with pytest.raises(ConfigError, match=r"has a member node3 at https://10\.0\.0\.9:2380.*member replace node3"):
        cast_.plan("add", "node3")
    found = cast_.plan("replace", "node3")
    assert [title for title in titles(found) if not title.startswith("copy ")] == [
        "stop and disable etcd.service",
        "remove node3 from the cluster",
        "add as learner",
        "start",
        "promote",
        "health",
    ]
    every = [step.title for step in found.steps]
    assert "enable etcd.service" in every, "the stop has disabled it"
    copied = next(title for title in every if title.startswith("copy "))
    assert every.index(copied) < every.index("stop and disable etcd.service"), "a failed copy leaves the member in the cluster"
    assert every.count(copied) == 1


def test_a_cluster_with_a_failed_member_does_not_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cast_ = Cast(tmp_path, monkeypatch, "node1", "node2")
    cast_.members.unhealthy = {"node2", "node3"}
    with pytest.raises(DeployError, match=r"^node3: member: not added: node2 is not healthy"):
        cast_.plan("add", "node3")


def test_a_release_that_cannot_join_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After `upgrade --to`, the cluster file still has the release before."""
    cast_ = Cast(tmp_path, monkeypatch, "node1", "node2")
    plain = cast_.members.answer_of

    async def newer(name: str) -> MemberAnswer:
        return replace(await plain(name), version="99.1.0")

    cast_.members.answer_of = newer  # type: ignore[method-assign]
    with pytest.raises(DeployError, match=r"^node3: member: not added: .* members run 99\.1\.0; set engine\.source"):
        cast_.plan("add", "node3")


@pytest.mark.parametrize("free", [1151, 1152])
def test_a_member_is_not_removed_for_one_that_has_no_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    """The earlier data is kept beside the new."""
    cast_ = Cast(tmp_path, monkeypatch, "node1", "node2", "node3", has_data=["node3"])
    plain = cast_.members.answer_of

    async def sized(name: str) -> MemberAnswer:
        return replace(await plain(name), db_size=1 << 30)

    async def examine(*_: object) -> Examined:
        spec = cast_.cluster.host("node3")
        wish = desired(cast_.cluster, spec, artifact_of(cast_.cluster), ensure_certificates(cast_.cluster, now=NOW))
        return Examined((), {"node3": replace(fresh(cast_.cluster, wish), disk_free={"/var/lib/etcd": free << 20})})

    cast_.members.answer_of = sized  # type: ignore[method-assign]
    monkeypatch.setattr("tercet.deploy.run.member_change.examine", examine)
    if free == 1152:
        assert cast_.plan("replace", "node3").steps
        return
    text = r"^node3: member: not added: 1151 MiB free for /var/lib/etcd, 1152 MiB needed for the database; free space"
    with pytest.raises(DeployError, match=text):
        cast_.plan("replace", "node3")


def test_without_an_answer_nothing_is_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cast_ = Cast(tmp_path, monkeypatch, "node1")

    async def none() -> None:
        return None

    cast_.members.listed = none  # type: ignore[method-assign,assignment]
    for action in ("add", "remove", "replace"):
        with pytest.raises(ConfigError, match="no member answers"):
            cast_.plan(action, "node2")
