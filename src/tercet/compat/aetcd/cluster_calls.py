"""Calls of the services Lease, Cluster and Maintenance."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

from tercet.compat import requests
from tercet.compat.aetcd.connection import Connection, connected
from tercet.compat.aetcd.leases import Lease
from tercet.compat.aetcd.locks import Lock
from tercet.compat.aetcd.members import Member
from tercet.proto import rpc_pb2


class Status:
    """The state of the member that answered. leader: a Member, or None while there is none."""

    def __init__(self, version: str, db_size: int, leader: Any, raft_index: int, raft_term: int) -> None:
        self.version = version
        self.db_size = db_size
        self.leader = leader
        self.raft_index = raft_index
        self.raft_term = raft_term


class Alarm:
    """An alarm of a member."""

    def __init__(self, alarm_type: int, member_id: int) -> None:
        self.alarm_type = alarm_type
        self.member_id = member_id


class LeaseCalls(Connection):
    """Leases and locks."""

    @connected
    async def lease(self, ttl: int, lease_id: int | None = None) -> Lease:
        """Grant a lease. ttl: seconds. lease_id: None for one that the server chooses. Raises DuplicateLeaseError."""
        granted = await self._invoke(self.leasestub.LeaseGrant, rpc_pb2.LeaseGrantRequest(TTL=ttl, ID=lease_id or 0))
        return Lease(lease_id=granted.ID, ttl=granted.TTL, etcd_client=self)

    @connected
    async def revoke_lease(self, lease_id: int) -> None:
        """End a lease, which deletes its keys."""
        await self._invoke(self.leasestub.LeaseRevoke, rpc_pb2.LeaseRevokeRequest(ID=lease_id))

    @connected
    async def refresh_lease(self, lease_id: int) -> Any:
        """Give a lease its whole TTL again. Returns the server's answer; TTL 0: there is none."""
        answers = self._invoke(self.leasestub.LeaseKeepAlive, [rpc_pb2.LeaseKeepAliveRequest(ID=lease_id)])
        try:
            return await anext(answers, None)
        finally:
            await answers.aclose()

    @connected
    async def get_lease_info(self, lease_id: int, *, keys: bool = True) -> Any:
        """The LeaseTimeToLiveResponse."""
        request = rpc_pb2.LeaseTimeToLiveRequest(ID=lease_id, keys=keys)
        return await self._invoke(self.leasestub.LeaseTimeToLive, request)

    def lock(self, key: bytes, ttl: int = 60) -> Lock:
        """A lock that is not acquired yet. ttl: seconds after which it is lost unless refreshed."""
        return Lock(self, key, ttl)


class ClusterCalls(Connection):
    """Members."""

    @connected
    async def add_member(self, urls: Iterable[str]) -> Member:
        """Add a member with these peer URLs."""
        response = await self._invoke(self.clusterstub.MemberAdd, rpc_pb2.MemberAddRequest(peerURLs=urls))
        return self._member(response.member)

    @connected
    async def remove_member(self, member_id: int) -> None:
        """Remove a member."""
        await self._invoke(self.clusterstub.MemberRemove, rpc_pb2.MemberRemoveRequest(ID=member_id))

    @connected
    async def update_member(self, member_id: int, peer_urls: Iterable[str]) -> None:
        """Replace the peer URLs of a member."""
        request = rpc_pb2.MemberUpdateRequest(ID=member_id, peerURLs=peer_urls)
        await self._invoke(self.clusterstub.MemberUpdate, request)

    @connected
    async def members(self) -> AsyncIterator[Member]:
        """All members."""
        response = await self._invoke(self.clusterstub.MemberList, rpc_pb2.MemberListRequest())
        for member in response.members:
            yield self._member(member)

    def _member(self, member: Any) -> Member:
        return Member(member.ID, member.name, member.peerURLs, member.clientURLs, etcd_client=self)


class MaintenanceCalls(ClusterCalls):
    """Status, alarms, defragmentation, snapshots."""

    @connected
    async def status(self) -> Status:
        """The state of the member that answers."""
        status = await self._invoke(self.maintenancestub.Status, rpc_pb2.StatusRequest())
        members = [member async for member in self.members()]
        leader = next((member for member in members if member.id == status.leader), None)
        return Status(status.version, status.dbSize, leader, status.raftIndex, status.raftTerm)

    @connected
    async def defragment(self) -> None:
        """Free the unused space of the member's database."""
        await self._invoke(self.maintenancestub.Defragment, rpc_pb2.DefragmentRequest())

    @connected
    async def hash(self) -> int:
        """The hash of the member's database."""
        return int((await self._invoke(self.maintenancestub.Hash, rpc_pb2.HashRequest())).hash)

    @connected
    async def create_alarm(self, member_id: int = 0) -> list[Alarm]:
        """Raise NOSPACE for a member, 0 for the cluster. Returns the alarms that it raised."""
        return await self._alarms("activate", member_id, "no space")

    @connected
    async def list_alarms(self, member_id: int = 0, alarm_type: str = "none") -> AsyncIterator[Alarm]:
        """The alarms of a member (0: of all) and of a type ('none': of all)."""
        for alarm in await self._alarms("get", member_id, alarm_type):
            yield alarm

    @connected
    async def disarm_alarm(self, member_id: int = 0) -> list[Alarm]:
        """End NOSPACE. Returns the alarms that it ended."""
        return await self._alarms("deactivate", member_id, "no space")

    @connected
    async def snapshot(self, file_obj: Any) -> None:
        """Write the member's database to a binary file."""
        async for part in self._invoke(self.maintenancestub.Snapshot, rpc_pb2.SnapshotRequest()):
            file_obj.write(part.blob)

    async def _alarms(self, action: str, member_id: int, alarm_type: str) -> list[Alarm]:
        request = requests.alarm_request(action, member_id, alarm_type)
        response = await self._invoke(self.maintenancestub.Alarm, request)
        return [Alarm(alarm.alarm, alarm.memberID) for alarm in response.alarms]
