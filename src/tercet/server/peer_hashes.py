"""The hashes of this member and of its peers, for the corruption checks (corruption_check.py)."""

from __future__ import annotations

import asyncio
import logging

from tercet.errors import RequestError, StatusError, TercetError, strip_traceback
from tercet.log_fields import fields
from tercet.mvcc import KVHash
from tercet.peer import NoAnswer, PeerClient
from tercet.proto import rpc_pb2
from tercet.replica.membership import Member, hex_id
from tercet.replica.replica import Replica
from tercet.server.corruption_check import PeerHash
from tercet.services.awaitables import propose, read_index
from tercet.services.maintenance import MaintenanceService

logger = logging.getLogger(__name__)


class PeerHashes:
    """Implements `corruption_check.Hasher`: peers answer at /members/hashkv."""

    def __init__(self, replica: Replica, maintenance: MaintenanceService, client: PeerClient, cluster_id: int) -> None:
        self._replica = replica
        self._maintenance = maintenance
        self._client = client
        self._cluster_id = cluster_id

    @property
    def member_id(self) -> int:
        return self._replica.member_id

    def compactions(self) -> list[KVHash]:
        return self._maintenance.compaction_hasher.hashes.all()

    async def own(self) -> rpc_pb2.HashKVResponse:
        return await self._maintenance.hash_at(self._replica.store.revision)  # 0 may be that of a compaction

    async def of_peers(self, revision: int) -> list[PeerHash]:
        others = [one for one in self._replica.membership.sorted() if one.id != self.member_id and one.peer_urls]
        return list(await asyncio.gather(*(self._of(other, revision) for other in others)))

    async def confirm(self) -> None:
        await read_index(self._replica)

    async def raise_alarm(self, member_id: int) -> None:
        alarm = rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.ACTIVATE, memberID=member_id, alarm=rpc_pb2.CORRUPT)
        logger.error("raising the CORRUPT alarm for member %s", hex_id(member_id))
        try:
            await propose(self._replica, "alarm", alarm)
        except StatusError as error:  # the next check raises it again
            logger.warning("failed to raise the CORRUPT alarm: %s", strip_traceback(error))

    async def _of(self, other: Member, revision: int) -> PeerHash:
        failure: TercetError | None = None
        for url in other.peer_urls:
            try:
                return PeerHash(other.id, other.peer_urls, await self._client.hash_kv(url, revision, self._cluster_id))
            except (NoAnswer, RequestError) as error:
                failure = strip_traceback(error)
                place = fields(requested_revision=revision, remote_peer_endpoint=url, error=str(error))
                logger.warning("failed hash kv request", extra=place)
        return PeerHash(other.id, other.peer_urls, None, failure)
