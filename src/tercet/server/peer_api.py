"""This member's answers to the requests of its peers other than replication (peer/member_endpoints.py)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final

from tercet.errors import NO_LEADER, StatusError
from tercet.log_fields import fields
from tercet.peer import NotPrimaryLessor
from tercet.proto import rpc_pb2
from tercet.replica.membership import hex_id
from tercet.replica.replica import Replica
from tercet.services.authorization import Authorization
from tercet.services.awaitables import read_index
from tercet.services.cluster import ClusterService
from tercet.services.headers import Headers
from tercet.services.lease import LeaseService
from tercet.services.maintenance import MaintenanceService
from tercet.version import ETCD_VERSION

logger = logging.getLogger(__name__)

_EMPTY_HEADER: Final = b"\x0a\x00"  # as etcd sends it


class PeerApi:
    """Implements `peer.MemberApi` with the services for clients."""

    def __init__(
        self,
        replica: Replica,
        headers: Headers,
        authorization: Authorization,
        cluster: ClusterService,
        maintenance: MaintenanceService,
        leases: LeaseService,
    ) -> None:
        self._replica = replica
        self._authorization = authorization
        self._headers = headers
        self._cluster = cluster
        self._maintenance = maintenance
        self._leases = leases

    def members(self) -> Sequence[dict[str, Any]]:
        return self._replica.membership.to_json()

    def versions(self) -> dict[str, str]:
        return versions(self._replica)

    async def downgrade_enabled(self) -> bool:
        await read_index(self._replica)
        return self._replica.membership.downgrade_target is not None

    async def promote(self, id: int, authorization: str) -> Sequence[dict[str, Any]]:
        if not self._replica.is_leader:
            raise NO_LEADER
        self._authorization.require_admin_token(authorization.encode().removeprefix(b"Bearer "))
        try:
            await self._cluster.promote_here(id)
        except StatusError as error:
            logger.warning("failed to promote a member", extra=fields(member_id=hex_id(id), error=error.message))
            raise
        return self.members()

    async def hash_kv(self, revision: int) -> rpc_pb2.HashKVResponse:
        if self._replica.repair.is_lost:
            raise NO_LEADER  # there is nothing to hash until the leader's database has come
        response = await self._maintenance.hash_at(revision)
        response.MergeFromString(self._headers.current())
        return response

    async def renew_lease(self, id: int) -> rpc_pb2.LeaseKeepAliveResponse:
        ttl = await self._leases.renew_here(id)
        if ttl is None:
            raise NotPrimaryLessor
        return rpc_pb2.LeaseKeepAliveResponse(ID=id, TTL=ttl)

    async def lease_time_to_live(self, request: rpc_pb2.LeaseTimeToLiveRequest) -> bytes:
        found = await self._leases.time_to_live_here(request)
        if found is None:
            raise NotPrimaryLessor
        return _EMPTY_HEADER + found


def versions(replica: Replica) -> dict[str, str]:
    """The object at /version, for clients and peers."""
    cluster = replica.membership.cluster_version or "not_decided"
    return {"etcdserver": ETCD_VERSION, "etcdcluster": cluster, "storage": replica.storage_version or "unknown"}
