"""A leader that cannot expire leases hands leadership to a member that can."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tercet.replica.membership import Member
from tercet.replica.replica import Replica
from tercet.server.lease_handover import TERCET_KEY, hand_over_leases
from tests.support.fakes import uses_fakes

ETCD = {"etcdserver": "3.7.1"}
OURS = {"etcdserver": "3.7.1", TERCET_KEY: "1"}


class FakeReplica:
    """Member 1, leader of five; a transfer succeeds at once."""

    member_id = 1
    leader_transferee = 0

    def __init__(self, *, has_leases: bool) -> None:
        self.has_leases = has_leases
        self.leader_id = 1
        self.transfers: list[int] = []
        members = [Member(one, (f"http://{one}:2380",), is_learner=one == 5) for one in (1, 2, 3, 4, 5)]
        self.membership = SimpleNamespace(voters=lambda: [member for member in members if not member.is_learner])

    @property
    def is_leader(self) -> bool:
        return self.leader_id == 1

    def raft_status(self) -> Any:
        return SimpleNamespace(progress={one: SimpleNamespace(match=10 * one) for one in (1, 2, 3, 4, 5)})

    def transfer_leadership(self, target: int) -> None:
        self.transfers.append(target)
        self.leader_id = target


@pytest.mark.parametrize(
    ("has_leases", "versions", "transfers"),
    [
        (True, {2: ETCD, 3: ETCD, 4: OURS, 5: ETCD}, [3]),
        (True, {2: ETCD, 3: None, 4: OURS, 5: ETCD}, [2]),
        (True, {2: OURS, 3: OURS, 4: None, 5: ETCD}, []),
        (False, {2: ETCD, 3: ETCD, 4: ETCD, 5: ETCD}, []),
    ],
)
@uses_fakes
def test_leadership_goes_to_the_most_advanced_voter_that_expires_leases(
    has_leases: bool, versions: Mapping[int, Mapping[str, str] | None], transfers: list[int]
) -> None:
    replica = FakeReplica(has_leases=has_leases)

    async def fetch(member: Member) -> Mapping[str, str] | None:
        return versions[member.id]

    async def test() -> None:
        task = asyncio.ensure_future(hand_over_leases(cast(Replica, replica), fetch))
        for _ in range(20):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(test())
    assert replica.transfers == transfers
