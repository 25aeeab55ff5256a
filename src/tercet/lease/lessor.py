"""The leases and the keys attached to them: the replicated part, applied from the log.

Entries grant, checkpoint and revoke a lease; the store's Puts and deletes attach and detach keys. Only the lease itself is
stored (bucket `lease`): a key's lease is in its KeyValue, and the store attaches it again when it is opened. Expiry is not
decided here: the leader's listener keeps the deadlines (expiry.py) and proposes a revoke like any client. So leases end through
the log alone; a wrong clock makes them end early or late, but on all members alike.

Invariants: `leased` and the keys of the leases agree; a key belongs to at most one lease.
Source: etcd server/lease/lessor.go, by its behaviour. Departs in: no clock here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

from google.protobuf.message import DecodeError

from tercet.containers import ShardedDict, SortedKeys
from tercet.errors import LEASE_EXISTS, LEASE_NOT_FOUND, TOO_LARGE_LEASE_TTL, StorageFailure, require
from tercet.lease.counts import LeaseCounts
from tercet.lease.lease import Lease
from tercet.proto import stored_pb2
from tercet.storage.interfaces import Backend, Bucket

TTL_SECONDS_MAX: Final = 9_000_000_000
_UINT64: Final = (1 << 64) - 1


class Listener(Protocol):
    """Keeps the deadlines of leases."""

    def granted(self, lease: Lease) -> None: ...
    def checkpointed(self, lease: Lease) -> None: ...
    def revoked(self, lease: Lease) -> None: ...


class Lessor:
    """All leases of a member.

    ttl_seconds_min: the TTL of a lease that asked for less; no lease may expire faster than a leader can be replaced.
    counts: of the member.
    leased: the lease of each key that has one.
    """

    __slots__ = ("_backend", "_counts", "_leases", "_listener", "_ttl_seconds_min", "leased")

    def __init__(self, backend: Backend, *, ttl_seconds_min: int, counts: LeaseCounts | None = None) -> None:
        self._backend = backend
        self._ttl_seconds_min = ttl_seconds_min
        self._leases: dict[int, Lease] = {}
        self.leased: ShardedDict[int] = ShardedDict()
        self._listener: Listener | None = None
        self._counts = LeaseCounts() if counts is None else counts
        for stored_key, stored in backend.scan(Bucket.LEASE):
            lease = _decode(stored_key, stored, ttl_seconds_min)
            self._leases[lease.id] = lease

    def listen(self, listener: Listener) -> None:
        """Tell `listener` of each lease that is granted, checkpointed or revoked."""
        self._listener = listener

    def move_to(self, backend: Backend, counts: LeaseCounts) -> None:
        """Continue on the member's backend, which now holds the database that these leases were read from."""
        self._backend = backend
        self._counts = counts

    # Entries of the log.

    def grant(self, lease_id: int, ttl_seconds: int) -> Lease:
        """Grant a lease; its TTL may be longer than requested.

        lease_id: not 0; the proposer chooses one where the client did not. Raises TOO_LARGE_LEASE_TTL or LEASE_EXISTS.
        """
        if lease_id == 0:
            raise LEASE_NOT_FOUND
        if ttl_seconds > TTL_SECONDS_MAX:
            raise TOO_LARGE_LEASE_TTL
        if lease_id in self._leases:
            raise LEASE_EXISTS
        lease = Lease(lease_id, max(ttl_seconds, self._ttl_seconds_min))
        self._leases[lease_id] = lease
        self._persist(lease)
        self._counts.grant(lease.ttl_seconds)
        if self._listener is not None:
            self._listener.granted(lease)
        return lease

    def keys_of(self, lease_id: int) -> SortedKeys:
        """The keys attached to a lease; deleting them detaches them. Raises LEASE_NOT_FOUND."""
        lease = self._leases.get(lease_id)
        if lease is None:
            raise LEASE_NOT_FOUND
        return lease.keys()

    def revoke(self, lease_id: int) -> None:
        """Remove a lease whose keys have been deleted. Raises LEASE_NOT_FOUND."""
        lease = self._leases.get(lease_id)
        if lease is None:
            raise LEASE_NOT_FOUND
        require(not lease.key_count, "a revoked lease still holds keys", lease)
        del self._leases[lease_id]
        lease.is_gone = True
        self._backend.delete(Bucket.LEASE, bucket_key(lease_id))
        self._counts.revoked += 1
        if self._listener is not None:
            self._listener.revoked(lease)

    def checkpoint(self, lease_id: int, remaining_seconds: int, *, persist: bool = True) -> None:
        """Record the remaining TTL, so that a new leader does not start with the full one; 0 or less clears the record.

        persist: keep the record over a restart. A lease that does not exist any more is ignored.
        """
        lease = self._leases.get(lease_id)
        if lease is None:
            return
        lease.remaining_seconds = max(0, remaining_seconds)
        if persist:
            self._persist(lease)
        if self._listener is not None:
            self._listener.checkpointed(lease)

    # Keys, for the store (mvcc.Leases).

    def lease_exists(self, lease_id: int) -> bool:
        return lease_id in self._leases

    def lease_of(self, key: bytes) -> int:
        """The id of the lease that a key is attached to, or 0."""
        return self.leased.get(key) or 0

    def attach(self, key: bytes, lease_id: int) -> None:
        """Attach `key`, which has no lease. Without effect if the lease does not exist: a restored store may name one."""
        lease = self._leases.get(lease_id)
        if lease is not None:
            lease.attach(key)
            self.leased.set(key, lease_id)

    def detach(self, keys: list[bytes]) -> None:
        """Detach those of `keys`, ascending, that have a lease."""
        if not self.leased:
            return
        held = 0
        run: list[bytes] = []
        for key in keys:
            lease_id = self.leased.pop(key)
            if lease_id is None:
                continue
            if lease_id != held:
                if run:
                    self._leases[held].detach(run)
                held, run = lease_id, []
            run.append(key)
        if run:
            self._leases[held].detach(run)

    # Reads.

    def __len__(self) -> int:
        return len(self._leases)

    def __iter__(self) -> Iterator[Lease]:
        return iter(self._leases.values())

    def get(self, lease_id: int) -> Lease | None:
        return self._leases.get(lease_id)

    def _persist(self, lease: Lease) -> None:
        stored = stored_pb2.Lease(ID=lease.id, TTL=lease.ttl_seconds, RemainingTTL=lease.remaining_seconds)
        self._backend.put(Bucket.LEASE, bucket_key(lease.id), stored.SerializeToString(deterministic=True))


def bucket_key(lease_id: int) -> bytes:
    """8 bytes, big endian; a negative id as its two's complement."""
    return (lease_id & _UINT64).to_bytes(8, "big")


def _decode(stored_key: bytes, stored: bytes, ttl_seconds_min: int) -> Lease:
    try:
        record = stored_pb2.Lease.FromString(stored)
    except DecodeError as error:
        raise StorageFailure(f"backend, bucket lease, {stored_key.hex()}: not a lease") from error
    if bucket_key(record.ID) != stored_key or record.ID == 0:
        raise StorageFailure(f"backend, bucket lease, {stored_key.hex()}: stored under another id than {record.ID}")
    return Lease(record.ID, max(record.TTL, ttl_seconds_min), max(0, record.RemainingTTL))
