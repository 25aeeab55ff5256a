"""Asks the leader, over the peers' protocol, to renew a lease or to tell its remaining TTL."""

from __future__ import annotations

from tercet.errors import Unavailable, strip_traceback
from tercet.peer import NoAnswer, NotPrimaryLessor, PeerClient
from tercet.proto import rpc_pb2
from tercet.replica.membership import Member


class LeaseForwarding:
    """Implements `services.lease.LeaderLeases`."""

    def __init__(self, client: PeerClient) -> None:
        self._client = client

    async def renew(self, leader: Member, lease_id: int) -> int | None:
        try:
            return (await self._client.renew_lease(leader.peer_urls, lease_id)).TTL
        except (NoAnswer, NotPrimaryLessor, Unavailable) as error:
            strip_traceback(error)
            return None

    async def time_to_live(self, leader: Member, request: rpc_pb2.LeaseTimeToLiveRequest) -> bytes | None:
        try:
            response = await self._client.lease_time_to_live(leader.peer_urls, request)
        except (NoAnswer, NotPrimaryLessor, Unavailable) as error:
            strip_traceback(error)
            return None
        response.ClearField("header")
        return response.SerializeToString()
