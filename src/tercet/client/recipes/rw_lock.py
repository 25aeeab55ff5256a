"""A lock that many readers or one writer hold.

    NAME/read/NANOSECONDS     a reader: waits for the writers that came earlier
    NAME/write/NANOSECONDS    a writer: waits for everybody who came earlier

Source: etcd client/v3/experimental/recipes/rwmutex.go, whose keys are the same.
"""

from __future__ import annotations

from typing import Literal

from tercet.client.core_calls import CoreCalls
from tercet.client.key_space import Text, to_bytes
from tercet.client.lease import Lease
from tercet.client.recipes.held_key import HeldKey
from tercet.client.recipes.wait import wait_event
from tercet.client.results import KV, Range


class RWLock:
    """`read()` and `write()` give objects to acquire, each for one holder at a time."""

    def __init__(self, client: CoreCalls, name: Text, *, ttl_seconds: int, lease: Lease | None) -> None:
        self._client = client
        self._name = to_bytes(name)
        self._ttl_seconds = ttl_seconds
        self._lease = lease

    def read(self) -> RWLockHold:
        """Share the lock with other readers."""
        return RWLockHold(self._client, self._name, "read", ttl_seconds=self._ttl_seconds, lease=self._lease)

    def write(self) -> RWLockHold:
        """Hold the lock alone."""
        return RWLockHold(self._client, self._name, "write", ttl_seconds=self._ttl_seconds, lease=self._lease)


class RWLockHold(HeldKey):
    """The lock as a reader or a writer holds it."""

    def __init__(
        self, client: CoreCalls, name: bytes, side: Literal["read", "write"], *, ttl_seconds: int, lease: Lease | None
    ) -> None:
        super().__init__(client, name, ttl_seconds=ttl_seconds, lease=lease)
        self._side = side.encode()

    def _new_key(self, lease: Lease) -> bytes:
        return b"%s/%s/%d" % (self._name, self._side, lease.unique_nanoseconds())

    async def _create(self, lease: Lease) -> KV:
        while (kv := await create_unique(self._client, self._key, lease)) is None:
            self._key = self._new_key(lease)  # another process chose the same nanosecond
        return kv

    async def _wait_turn(self, *, can_wait: bool) -> bool:
        earlier = self._name + (b"/write" if self._side == b"read" else b"/")
        while True:
            before = await self._client.get_prefix(
                earlier,
                limit=1,
                sort_by="mod_revision",
                descending=True,
                max_mod_revision=self._token - 1,
                keys_only=True,
            )
            if not before:
                await self._own()
                return True
            if not can_wait:
                return False
            await wait_event(self._client, before[0].key, kind="delete", since=before.header.revision + 1)


async def create_unique(client: CoreCalls, key: bytes, lease: Lease) -> KV | None:
    """Create a key under a lease; may be repeated. None if it exists under another one."""
    created = await client.txn(
        [client.create_revision(key) == 0],
        [client.put_op(key, b"", lease=lease), client.get_op(key)],
        [client.get_op(key), client.get_op(key)],
    )
    found = created[1]
    assert isinstance(found, Range)
    return found[0] if found and found[0].lease == lease.id else None
