"""The Cluster service's view of the other members: how long each has been connected, and promotion at the leader."""

from __future__ import annotations

from typing import Any

from tercet import errors
from tercet.peer import NoAnswer, PeerClient
from tercet.replica.replica import Replica
from tercet.server.replica_driver import ReplicaDriver


class PeerConnections:
    """Implements `services.cluster.Connections` over the transport."""

    def __init__(self, member: ReplicaDriver, client: PeerClient) -> None:
        self._member = member
        self._client = client

    @property
    def _replica(self) -> Replica:
        return self._member.replica

    def connected_seconds(self, member_id: int) -> float:
        transport = self._member.transport
        since = transport.active_since(member_id) if transport is not None else None
        return 0.0 if since is None else self._member.now() - since

    async def forward_promote(self, member_id: int, token: bytes) -> list[dict[str, Any]]:
        leader = self._replica.membership.members.get(self._replica.leader_id)
        if leader is None:
            raise errors.NO_LEADER
        try:
            return await self._client.promote(leader.peer_urls, member_id, token.decode("latin-1"))
        except NoAnswer as error:
            raise errors.NO_LEADER from error
