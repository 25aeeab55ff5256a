"""The cluster version that a leader proposes."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast

import pytest

from tercet.errors import ConfigError
from tercet.replica.membership import Member
from tercet.replica.replica import Replica
from tercet.server.cluster_version import (
    check_compatible,
    check_own_version,
    decide,
    monitor_cluster_version,
    monitor_downgrade,
    stop_below_cluster_version,
)
from tercet.version import ETCD_VERSION
from tests.services.harness import served


@pytest.mark.parametrize(
    ("versions", "current", "target", "expected"),
    [
        (["3.7.1", "3.6.4"], None, None, "3.6.0"),
        (["3.7.1", "3.6.4"], "3.5.0", None, "3.6.0"),
        (["3.7.1", "3.6.4"], "3.6.0", None, None),
        (["3.7.1", None], "3.6.0", None, None),
        (["3.7.1", "unknown"], "3.6.0", None, None),
        (["3.7.1", ""], None, None, "3.0.0"),
        # A downgrade lowers the version by one minor, and keeps it there although all members could go higher.
        (["3.7.1", "3.7.0"], "3.7.0", "3.6.0", "3.6.0"),
        (["3.7.1", "3.6.4"], "3.7.0", "3.6.0", "3.6.0"),
        (["3.7.1", "3.7.0"], "3.6.0", "3.6.0", None),
        (["3.7.1", "3.7.0"], "3.7.0", "3.5.0", None),
        (["3.7.1", "3.7.0"], "3.6.0", None, "3.7.0"),
    ],
)
def test_the_version_follows_the_members_and_a_downgrade(
    versions: list[str | None], current: str | None, target: str | None, expected: str | None
) -> None:
    assert decide(dict(enumerate(versions)), current, target) == expected


def test_a_member_does_not_run_below_the_cluster_version() -> None:
    check_own_version(None)
    check_own_version("3.7.0")
    check_own_version("3.6.0")
    with pytest.raises(ConfigError, match="invalid downgrade; server version is lower than determined cluster version"):
        check_own_version("3.8.0")


@pytest.mark.parametrize(
    ("clusters", "problem"),
    [
        (["3.7.0"], ""),
        (["3.6.0", None], ""),
        (["not_decided", "3.7.0"], ""),
        (["3.8.0"], "cluster version 3.8.0 of member 0 is too high"),
        (["3.7.0", "3.8.0"], "too high"),
        (["2.3.0"], "too low"),
        ([None, None], "no member reported a cluster version"),
        (["not_decided"], "no member reported a cluster version"),
    ],
)
def test_a_member_joins_only_a_cluster_of_a_supported_version(clusters: list[str | None], problem: str) -> None:
    versions = {number: version and {"etcdcluster": version} for number, version in enumerate(clusters)}
    if problem:
        with pytest.raises(ConfigError, match=f"incompatible with current running cluster: .*{problem}"):
            check_compatible(versions, 99)  # type: ignore[arg-type]
    else:
        check_compatible(versions, 99)  # type: ignore[arg-type]


def test_during_a_downgrade_a_member_of_the_target_version_joins() -> None:
    versions = {1: {"etcdcluster": "3.8.0"}}
    check_compatible(versions, 99, is_downgrading=True)
    with pytest.raises(ConfigError, match="too high"):
        check_compatible({1: {"etcdcluster": "3.9.0"}}, 99, is_downgrading=True)


def test_the_leader_ends_a_downgrade_once_all_members_run_the_target() -> None:
    other = Member(7, ("http://other:2380",), "other")
    answers: list[str | None] = [None, "3.6.9", "not a version"]

    async def fetch(asked: Member) -> str | None:
        assert asked == other
        return answers.pop(0) if answers else ETCD_VERSION

    async def scenario() -> None:
        async with served() as member:
            membership = member.replica.membership
            membership.members[other.id] = other
            target = ".".join(ETCD_VERSION.split(".")[:2]) + ".0"
            membership.set_downgrade(True, target)
            monitor = asyncio.create_task(monitor_downgrade(member.replica, fetch, 0.01))
            while membership.downgrade_target is not None:
                await asyncio.sleep(0.01)
            assert answers == []
            monitor.cancel()

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_a_running_member_stops_when_the_cluster_version_rises_above_its_own() -> None:
    membership = SimpleNamespace(cluster_version="3.7.0")
    failures: list[ConfigError] = []

    async def scenario() -> None:
        replica = cast(Replica, SimpleNamespace(membership=membership))
        watching = asyncio.create_task(stop_below_cluster_version(replica, failures.append))
        await asyncio.sleep(0)
        assert not watching.done()
        membership.cluster_version = "3.8.0"
        await asyncio.wait_for(watching, 60)

    asyncio.run(scenario())
    assert [str(failure).partition(":")[0] for failure in failures] == [
        "invalid downgrade; server version is lower than determined cluster version"
    ]


def test_the_monitor_ends_when_it_is_cancelled_as_the_leader_changes() -> None:
    """Peers that stop together with this member change its leader in the turn in which its tasks are cancelled."""

    async def test() -> None:
        replica = SimpleNamespace(leader_listeners=[], is_leader=False)

        async def fetch(member: Member) -> str | None:
            raise AssertionError

        task = asyncio.ensure_future(monitor_cluster_version(cast(Replica, replica), fetch))
        while not replica.leader_listeners:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        for listener in replica.leader_listeners:
            listener(2)
        await asyncio.sleep(0)  # the inner wait has ended, and the monitor has not resumed
        task.cancel()
        for _ in range(10):
            await asyncio.sleep(0)
        assert task.cancelled(), "the cancellation is lost"

    asyncio.run(test())
