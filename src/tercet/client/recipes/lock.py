"""A mutual exclusion lock, fair: first come, first served.

    NAME/LEASE        lease ID in hexadecimal, no value. The key with the lowest create_revision holds the lock.

Each waiter watches only the key created just before its own, so that a release wakes one waiter.
Source: etcd client/v3/concurrency/mutex.go, whose keys are the same: the lock excludes `etcdctl lock` and the Lock service.
"""

from __future__ import annotations

from tercet.client.lease import Lease
from tercet.client.recipes.held_key import HeldKey
from tercet.client.recipes.wait import wait_event
from tercet.client.results import KV, Range


class LineKey(HeldKey):
    """A key in a line, whose first key is the owner's: a lock, or a candidacy."""

    @property
    def _prefix(self) -> bytes:
        return self._name + b"/"

    def _new_key(self, lease: Lease) -> bytes:
        return self._prefix + b"%x" % lease.id

    async def _create(self, lease: Lease) -> KV:
        return await self._create_with(lease, b"")

    async def _create_with(self, lease: Lease, value: bytes) -> KV:
        """Create the key unless it exists: the same lease is the same waiter."""
        client, key = self._client, self._key
        created = await client.txn(
            [client.create_revision(key) == 0],
            [client.put_op(key, value, lease=lease), client.get_op(key)],
            [client.get_op(key), client.get_op(key)],
        )
        found = created[1]
        assert isinstance(found, Range)
        return found[0]

    async def _wait_turn(self, *, can_wait: bool) -> bool:
        while True:
            before = await self._client.get_prefix(
                self._prefix,
                limit=1,
                sort_by="create_revision",
                descending=True,
                max_create_revision=self._token - 1,
                keys_only=True,
            )
            if not before:
                await self._own()
                return True
            if not can_wait:
                return False
            await wait_event(self._client, before[0].key, kind="delete", since=before.header.revision + 1)

    async def line(self) -> tuple[KV, ...]:
        """The keys of the owner and of those who wait, in order. Raises TercetError."""
        return (await self._client.get_prefix(self._prefix, sort_by="create_revision")).kvs


class Lock(LineKey):
    """A lock with a fencing token. It excludes all locks of the same name, those of `etcdctl lock` included."""
