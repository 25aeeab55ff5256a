"""A lock that `permits` holders share, first come, first served.

    NAME/LEASE/NANOSECONDS     the `permits` keys with the lowest create_revisions hold a permit

All processes must use the same number of permits. Not among etcd's recipes.
"""

from __future__ import annotations

from tercet.client.core_calls import CoreCalls
from tercet.client.key_space import Text
from tercet.client.lease import Lease
from tercet.client.recipes.held_key import HeldKey
from tercet.client.recipes.rw_lock import create_unique
from tercet.client.recipes.wait import wait_event
from tercet.client.results import KV


class Semaphore(HeldKey):
    """One permit of a semaphore, to be acquired; make one object for each permit that a process wants to hold."""

    def __init__(self, client: CoreCalls, name: Text, permits: int, *, ttl_seconds: int, lease: Lease | None) -> None:
        super().__init__(client, name, ttl_seconds=ttl_seconds, lease=lease)
        if permits < 1:
            raise ValueError("a semaphore has at least one permit")
        self._permits = permits

    async def holders(self) -> tuple[KV, ...]:
        """The keys that hold a permit, in the order in which they came. Raises TercetError."""
        found = await self._client.get_prefix(self._name + b"/", sort_by="create_revision", limit=self._permits)
        return found.kvs

    def _new_key(self, lease: Lease) -> bytes:
        return b"%s/%x/%d" % (self._name, lease.id, lease.unique_nanoseconds())

    async def _create(self, lease: Lease) -> KV:
        kv = await create_unique(self._client, self._key, lease)
        assert kv is not None  # the key contains the lease
        return kv

    async def _wait_turn(self, *, can_wait: bool) -> bool:
        prefix = self._name + b"/"
        while True:
            found = await self._client.get_prefix(
                prefix, sort_by="create_revision", max_create_revision=self._token, limit=self._permits, keys_only=True
            )
            if any(kv.key == self._key for kv in found):
                return True
            if len(found) < self._permits:
                await self._own()  # raises: the own key is gone
            if not can_wait:
                return False
            await wait_event(self._client, prefix, prefix=True, kind="delete", since=found.header.revision + 1)
