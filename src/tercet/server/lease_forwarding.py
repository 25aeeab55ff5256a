"""Asks the leader, over the peers' protocol, to renew a lease or to tell its remaining TTL."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, TypeVar

from tercet.errors import StatusError, Unavailable, strip_traceback
from tercet.peer import NoAnswer, NotPrimaryLessor, PeerClient
from tercet.proto import rpc_pb2
from tercet.replica.membership import Member
from tercet.slots import Slots

Found = TypeVar("Found")

_RENEWALS: Final = 64  # at a time; each takes a connection, and thousands of streams may renew
_LISTS: Final = 2  # of a lease's keys; one may take LEASE_BYTES_MAX
_WAIT_SECONDS: Final = 5.0  # for a turn


class LeaseForwarding:
    """Implements `services.lease.LeaderLeases`."""

    def __init__(self, client: PeerClient) -> None:
        self._client = client
        self._renewals = Slots(_RENEWALS)
        self._lists = Slots(_LISTS)
        self._asked: dict[tuple[int, int], asyncio.Task[int | StatusError | None]] = {}  # renewals that are not sent yet

    async def renew(self, leader: Member, lease_id: int) -> int | None:
        """One renewal serves all who ask for it before it is sent."""
        asked = self._asked.get((leader.id, lease_id))
        if asked is None:
            asked = asyncio.get_running_loop().create_task(self._renew(leader, lease_id))
            self._asked[leader.id, lease_id] = asked
        outcome = await asyncio.shield(asked)
        if isinstance(outcome, StatusError):
            raise outcome
        return outcome

    async def _renew(self, leader: Member, lease_id: int) -> int | StatusError | None:
        try:
            return await self._in_turn(self._renewals, partial(self._send_renewal, leader, lease_id))
        except StatusError as error:  # perhaps nobody waits for it any more
            return strip_traceback(error)
        finally:
            if self._asked.get((leader.id, lease_id)) is asyncio.current_task():
                del self._asked[leader.id, lease_id]

    async def _send_renewal(self, leader: Member, lease_id: int) -> int:
        del self._asked[leader.id, lease_id]
        return (await self._client.renew_lease(leader.peer_urls, lease_id)).TTL

    async def time_to_live(self, leader: Member, request: rpc_pb2.LeaseTimeToLiveRequest) -> bytes | None:
        turns = self._lists if request.keys else self._renewals
        return await self._in_turn(turns, partial(self._client.lease_time_to_live, leader.peer_urls, request))

    @staticmethod
    async def _in_turn(turns: Slots, ask: Callable[[], Awaitable[Found]]) -> Found | None:
        """None: no answer, or too many ask before."""
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                await turns.acquire()
        except TimeoutError:
            return None
        try:
            return await ask()
        except (NoAnswer, NotPrimaryLessor, Unavailable) as error:
            strip_traceback(error)
            return None
        finally:
            turns.release()
