"""Calls of the services Lease, Cluster and Maintenance."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tercet.compat import requests
from tercet.compat.etcd3 import etcdrpc
from tercet.compat.etcd3.connection import Connection, translated, translated_iterator
from tercet.compat.etcd3.leases import Lease
from tercet.compat.etcd3.locks import Lock
from tercet.compat.etcd3.members import Member


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

    @translated
    def lease(self, ttl: int, lease_id: int | None = None) -> Lease:
        """Grant a lease. ttl: seconds. lease_id: None for one that the server chooses."""
        granted = self._invoke(self.leasestub.LeaseGrant, etcdrpc.LeaseGrantRequest(TTL=ttl, ID=lease_id or 0))
        return Lease(lease_id=granted.ID, ttl=granted.TTL, etcd_client=self)

    @translated
    def revoke_lease(self, lease_id: int) -> None:
        """End a lease, which deletes its keys."""
        self._invoke(self.leasestub.LeaseRevoke, etcdrpc.LeaseRevokeRequest(ID=lease_id))

    @translated_iterator
    def refresh_lease(self, lease_id: int) -> Iterator[Any]:
        """Give a lease its whole TTL again, when the iteration starts. Yields the server's answer; TTL 0: there is none."""
        yield from self._invoke(self.leasestub.LeaseKeepAlive, [etcdrpc.LeaseKeepAliveRequest(ID=lease_id)])

    @translated
    def get_lease_info(self, lease_id: int) -> Any:
        """The LeaseTimeToLiveResponse, with the keys."""
        return self._invoke(self.leasestub.LeaseTimeToLive, etcdrpc.LeaseTimeToLiveRequest(ID=lease_id, keys=True))

    def lock(self, name: Any, ttl: int = 60) -> Lock:
        """A lock that is not acquired yet. ttl: seconds after which it is lost unless refreshed."""
        return Lock(name, ttl=ttl, etcd_client=self)


class ClusterCalls(Connection):
    """Members."""

    @translated
    def add_member(self, urls: Iterable[str]) -> Member:
        """Add a member with these peer URLs."""
        response = self._invoke(self.clusterstub.MemberAdd, etcdrpc.MemberAddRequest(peerURLs=urls))
        return self._member(response.member)

    @translated
    def remove_member(self, member_id: int) -> None:
        """Remove a member."""
        self._invoke(self.clusterstub.MemberRemove, etcdrpc.MemberRemoveRequest(ID=member_id))

    @translated
    def update_member(self, member_id: int, peer_urls: Iterable[str]) -> None:
        """Replace the peer URLs of a member."""
        self._invoke(self.clusterstub.MemberUpdate, etcdrpc.MemberUpdateRequest(ID=member_id, peerURLs=peer_urls))

    @property
    def members(self) -> Iterator[Member]:
        """All members; the server is called when the iteration starts."""
        return self._members()

    @translated_iterator
    def _members(self) -> Iterator[Member]:
        response = self._invoke(self.clusterstub.MemberList, etcdrpc.MemberListRequest())
        yield from map(self._member, response.members)

    def _member(self, member: Any) -> Member:
        return Member(member.ID, member.name, member.peerURLs, member.clientURLs, etcd_client=self)


class MaintenanceCalls(ClusterCalls):
    """Status, alarms, defragmentation, snapshots."""

    @translated
    def status(self) -> Status:
        """The state of the member that answers."""
        status = self._invoke(self.maintenancestub.Status, etcdrpc.StatusRequest())
        leader = next((member for member in self.members if member.id == status.leader), None)
        return Status(status.version, status.dbSize, leader, status.raftIndex, status.raftTerm)

    @translated
    def defragment(self) -> None:
        """Free the unused space of the member's database."""
        self._invoke(self.maintenancestub.Defragment, etcdrpc.DefragmentRequest())

    @translated
    def hash(self) -> int:
        """The hash of the member's database."""
        return int(self._invoke(self.maintenancestub.Hash, etcdrpc.HashRequest()).hash)

    @translated
    def create_alarm(self, member_id: int = 0) -> list[Alarm]:
        """Raise NOSPACE for a member, 0 for the cluster. Returns the alarms that it raised."""
        return self._alarms("activate", member_id, "no space")

    @translated_iterator
    def list_alarms(self, member_id: int = 0, alarm_type: str = "none") -> Iterator[Alarm]:
        """The alarms of a member (0: of all) and of a type ('none': of all), when the iteration starts."""
        yield from self._alarms("get", member_id, alarm_type)

    @translated
    def disarm_alarm(self, member_id: int = 0) -> list[Alarm]:
        """End NOSPACE. Returns the alarms that it ended."""
        return self._alarms("deactivate", member_id, "no space")

    @translated
    def snapshot(self, file_obj: Any) -> None:
        """Write the member's database to a binary file."""
        for part in self._invoke(self.maintenancestub.Snapshot, etcdrpc.SnapshotRequest()):
            file_obj.write(part.blob)

    def _alarms(self, action: str, member_id: int, alarm_type: str) -> list[Alarm]:
        request = requests.alarm_request(action, member_id, alarm_type)
        response = self._invoke(self.maintenancestub.Alarm, request)
        return [Alarm(alarm.alarm, alarm.memberID) for alarm in response.alarms]
