"""What must hold of leases, whatever breaks: checked with every committed entry, and at the end of a run.

- A lease outlives every promise: its TTL from the moment at which a client sent the grant, or a renewal, that was answered.
- A renewal is answered once its checkpoint is cleared, by a leader that has applied what the leaders before it have revoked:
  else the next leader would end it too early, or this one.
- Only the leader of a term revokes expired leases in it: a deposed leader adds nothing to the log of another.
- A key that is attached to a lease exists, also where a restarted member has read both from its database.
- Expired leases end, with their keys, once nothing breaks any more.

Clients never revoke leases from FIRST_EXPIRING on, so each of their revokes in the log is a leader's. (Where a client revokes a
lease and grants it again, a leader's revoke that follows in the log ends it: etcd's requests name the lease, not the grant.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from tercet.errors import require
from tercet.lease import Lessor
from tercet.mvcc import Store
from tercet.proto import internal_pb2, rpc_pb2
from tercet.raft.types import Entry, EntryType
from tercet.replica.replica import Replica
from tercet.sim.clock import MICROSECONDS
from tercet.sim.history import Operation

FIRST_EXPIRING: Final = 11
_MEMBER_SHIFT: Final = 48  # of the proposer's id in a request id


class LeaseRules:
    """The promises that clients of the whole run were given."""

    def __init__(self) -> None:
        self._alive_until: dict[int, int] = {}  # virtual microseconds, by lease

    def answered(self, operation: Operation) -> None:
        """A grant or a renewal may have been answered."""
        response = operation.response
        if isinstance(response, rpc_pb2.LeaseGrantResponse | rpc_pb2.LeaseKeepAliveResponse) and response.ID >= FIRST_EXPIRING:
            until = operation.called + response.TTL * MICROSECONDS
            self._alive_until[response.ID] = max(until, self._alive_until.get(response.ID, 0))

    def committed(self, entry: Entry, now: int, leaders: Mapping[int, int]) -> None:
        """An entry is known to be committed. leaders: the leader of each term. Raises InvariantViolation."""
        if entry.type != EntryType.NORMAL or not entry.data:
            return
        request = internal_pb2.InternalRaftRequest.FromString(entry.data)
        lease_id = request.lease_revoke.ID
        if not request.HasField("lease_revoke") or lease_id < FIRST_EXPIRING:
            return
        until = self._alive_until.get(lease_id, 0)
        require(now >= until, "a lease ends before the time that was promised", lease_id, now, until)
        proposer, leader = request.header.ID >> _MEMBER_SHIFT, leaders.get(entry.term)
        require(leader in (None, proposer), "a member that does not lead revokes an expired lease", lease_id, proposer, leader)


def check_renewal(replica: Replica, lease_id: int) -> None:
    """Call it as a renewal is answered. Raises InvariantViolation."""
    lease, raft = replica.lessor.get(lease_id), replica.raft
    remaining = 0 if lease is None else lease.remaining_seconds
    require(not remaining, "a renewed lease keeps its checkpoint", lease_id, remaining)
    applied = raft.log.term(raft.applied_index)
    require(applied == raft.term, "a leader renews a lease before it has applied an entry of its term", lease_id, applied)


def check_leased_keys(lessor: Lessor, store: Store) -> None:
    """Each key of a lease is there. Call it between entries. Raises InvariantViolation."""
    for key, lease_id in lessor.leased.items():
        require(key in store.index, "a key that does not exist is attached to a lease", key, lease_id)


def has_expiring(lessors: Iterable[Lessor]) -> bool:
    """Whether any of the leases that should have expired is left."""
    return any(lease.id >= FIRST_EXPIRING for lessor in lessors for lease in lessor)


def check_leases(lessor: Lessor, expected: Mapping[int, set[bytes]]) -> None:
    """A member has the leases, and their keys, that the log leads to. Raises InvariantViolation."""
    found = {lease.id: set(lease.keys().all()) for lease in lessor}
    require(found == expected, "other leases than the log's", found, expected)
    leased = {key: lease for lease, keys in expected.items() for key in keys}
    require(dict(lessor.leased.items()) == leased, "other leased keys than the log's", lessor.leased, leased)
