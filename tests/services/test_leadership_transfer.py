"""Many that ask for a transfer of leadership to the same member share one."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from tercet import errors
from tercet.replica.replica import Replica
from tercet.services.leadership_transfer import LeadershipTransfers


class Leader:
    """What a transfer asks of a Replica."""

    def __init__(self) -> None:
        self.member_id = 1
        self.leader_id = 1
        self.leader_transferee = 0
        self.asked: list[int] = []

    @property
    def is_leader(self) -> bool:
        return self.leader_id == self.member_id

    def transfer_leadership(self, target: int) -> None:
        self.asked.append(target)
        self.leader_transferee = target


def run(test: Any) -> None:
    asyncio.run(asyncio.wait_for(test, 60))


@pytest.mark.parametrize("succeeds", [True, False])
def test_calls_for_one_target_share_a_transfer(succeeds: bool) -> None:
    async def test() -> None:
        leader = Leader()
        transfers = LeadershipTransfers(cast(Replica, leader), 50)
        calls = [asyncio.create_task(transfers.transfer(2)) for _ in range(200)]
        await asyncio.sleep(0)
        calls[7].cancel()
        leader.leader_transferee = 0
        if succeeds:
            leader.leader_id = 2
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert leader.asked == [2]
        assert isinstance(outcomes.pop(7), asyncio.CancelledError)
        assert set(outcomes) == ({None} if succeeds else {errors.TIMEOUT_LEADER_TRANSFER})
        leader.leader_id = 1
        again = asyncio.create_task(transfers.transfer(2))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert leader.asked == [2, 2]
        leader.leader_id = 2
        await again

    run(test())
