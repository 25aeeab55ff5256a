"""However many clients of a follower renew leases, the leader is asked a bounded number of times at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tercet import errors
from tercet.errors import StatusError
from tercet.peer import NoAnswer, PeerClient
from tercet.proto import rpc_pb2
from tercet.replica.membership import Member
from tercet.server.lease_forwarding import LeaseForwarding
from tests.support.fakes import uses_fakes

LEADER = Member(7, ("http://127.0.0.1:1",))
MISSING, SILENT = 404, 500


class Leader(PeerClient):
    """Answers once `answers` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = asyncio.Event()
        self.sent: list[int] = []
        self.most_at_once = 0
        self._at_once = 0

    async def renew_lease(self, urls: Sequence[str], id: int) -> rpc_pb2.LeaseKeepAliveResponse:
        self.sent.append(id)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        await self.answers.wait()
        self._at_once -= 1
        if id == MISSING:
            raise errors.LEASE_NOT_FOUND
        if id == SILENT:
            raise NoAnswer("nobody answers")
        return rpc_pb2.LeaseKeepAliveResponse(ID=id, TTL=30)


@uses_fakes
def test_renewals_of_one_lease_that_wait_share_one_request() -> None:
    async def main() -> None:
        leader = Leader()
        forwarding = LeaseForwarding(leader)
        first = asyncio.gather(*(forwarding.renew(LEADER, 5) for _ in range(100)))
        for _ in range(3):
            await asyncio.sleep(0)
        assert leader.sent == [5]
        later = asyncio.gather(*(forwarding.renew(LEADER, 5) for _ in range(100)))  # what is sent already does not serve them
        gone = asyncio.ensure_future(forwarding.renew(LEADER, MISSING))
        silent = asyncio.ensure_future(forwarding.renew(LEADER, SILENT))
        for _ in range(3):
            await asyncio.sleep(0)
        leader.answers.set()
        assert await first == await later == [30] * 100
        assert leader.sent == [5, 5, MISSING, SILENT]
        with pytest.raises(StatusError) as caught:
            await gone
        assert caught.value is errors.LEASE_NOT_FOUND
        assert await silent is None

    asyncio.run(main())


@uses_fakes
def test_renewals_of_many_leases_take_turns() -> None:
    async def main() -> None:
        leader = Leader()
        forwarding = LeaseForwarding(leader)
        renewals = asyncio.gather(*(forwarding.renew(LEADER, lease) for lease in range(1, 301)))
        for _ in range(5):
            await asyncio.sleep(0)
        leader.answers.set()
        assert await renewals == [30] * 300
        assert leader.most_at_once <= 64
        assert sorted(leader.sent) == list(range(1, 301))

    asyncio.run(main())
