"""Encodings of the lease service: the id in a renewal, and responses that grow with the leases or keys, made in slices."""

from __future__ import annotations

from typing import Final

from tercet.lease import Lease
from tercet.mvcc import Answer, Budget
from tercet.mvcc.sorted_runs import SortedRuns
from tercet.mvcc.work import BYTES_SHIFT, VISIT
from tercet.proto.wire import paste_field, varint
from tercet.replica.lease_keeper import LeaseKeeper

_CHUNK: Final = 256
_ID_TAG: Final = 0x08
_VARINT_BYTES_MAX: Final = 9  # of a positive int64
_SIGN: Final = 1 << 63


def encoded_lease_id(request: bytes) -> bytes:
    """The ID of an encoded LeaseKeepAliveRequest, as the varint that the response repeats. b"" for anything but the one field
    with a positive ID in its shortest form: protobuf must parse it.
    """
    size = len(request)
    if not 2 <= size <= 1 + _VARINT_BYTES_MAX or request[0] != _ID_TAG or not 0 < request[size - 1] < 0x80:
        return b""
    for at in range(1, size - 1):
        if request[at] < 0x80:
            return b""
    return request[1:]


def time_to_live_body(lease_id: int, ttl_seconds: int, granted_seconds: int) -> bytes:
    """A LeaseTimeToLiveResponse without header and keys."""
    fields = ((b"\x10", lease_id), (b"\x18", ttl_seconds), (b"\x20", granted_seconds))
    return b"".join([tag + varint(value) for tag, value in fields if value])


class LeaseKeys(Answer):
    """A LeaseTimeToLiveResponse with the keys of the lease, in their order.

    A key that the lease gains or loses meanwhile is in it or not. A copy of all keys would be a long step, and hundreds of them
    would wait.
    """

    __slots__ = ("_lease", "_size", "_start")

    def __init__(self, body: bytes, lease: Lease) -> None:
        self.parts = [body]
        self._lease = lease
        self._start = b""
        self._size = 0

    @property
    def size_bytes(self) -> int:
        return self._size

    def step(self, budget: Budget) -> bool:
        """See `work.Steps`."""
        while budget.left > 0:
            keys = self._lease.keys().first(self._start, None, _CHUNK)
            if not keys:
                return False
            self._start = keys[-1] + b"\0"
            part = b"".join([paste_field(5, key) for key in keys])
            self.parts.append(part)
            self._size += len(part)
            budget.left -= _CHUNK * VISIT + (len(part) >> BYTES_SHIFT)
        return True


class LeaseIds(Answer):
    """A LeaseLeasesResponse: the ids of all leases. On the leader the soonest to expire comes first."""

    __slots__ = ("_ids", "_keeper", "_leases", "_left")

    def __init__(self, leases: list[Lease], keeper: LeaseKeeper) -> None:
        self.parts = []
        self._leases = leases
        self._keeper = keeper
        self._ids = SortedRuns()
        self._left = 0

    @property
    def size_bytes(self) -> int:
        return self._ids.size_bytes

    def discard(self, budget: Budget) -> bool:
        return self._ids.discard(budget)

    def step(self, budget: Budget) -> bool:
        """See `work.Steps`."""
        while self._leases:
            if budget.left <= 0:
                return True
            self._gather(self._leases[-_CHUNK:])
            del self._leases[-_CHUNK:]
            budget.left -= _CHUNK * VISIT
        while self._left:
            if budget.left <= 0:
                return True
            count = min(_CHUNK, self._left)
            self.parts.append(b"".join([self._next() for _ in range(count)]))
            self._left -= count
            budget.left -= _CHUNK * VISIT
        return False

    def _gather(self, leases: list[Lease]) -> None:
        for lease in leases:
            if not lease.is_gone:
                remaining = self._keeper.remaining_seconds(lease)
                milliseconds = 0 if remaining is None else int(remaining * 1000)
                self._ids.add(milliseconds.to_bytes(8, "big") + (lease.id + _SIGN).to_bytes(8, "big"))
                self._left += 1

    def _next(self) -> bytes:
        lease_id = int.from_bytes(self._ids.next()[8:], "big") - _SIGN
        return paste_field(2, b"\x08" + varint(lease_id))
