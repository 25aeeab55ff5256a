"""Electing a leader among processes, with a value that the others can read.

    NAME/LEASE        lease ID in hexadecimal; the value is the proposal. The key with the lowest create_revision leads.

Source: etcd client/v3/concurrency/election.go, whose keys are the same as those of `etcdctl elect` and the Election service.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Self

from tercet.client.core_calls import CoreCalls
from tercet.client.errors import Compacted, LockLost
from tercet.client.key_space import Text, to_bytes
from tercet.client.lease import Lease
from tercet.client.recipes.lock import LineKey
from tercet.client.recipes.repeating import until_known
from tercet.client.recipes.wait import wait_event
from tercet.client.results import KV
from tercet.errors import Code


class Election(LineKey):
    """One candidate's view of an election. Observing needs no candidacy. As a guard of transactions it works like a lock."""

    def __init__(self, client: CoreCalls, name: Text, *, ttl_seconds: int, lease: Lease | None) -> None:
        super().__init__(client, name, ttl_seconds=ttl_seconds, lease=lease)
        self._value = b""

    async def campaign(self, value: Text, timeout: float | None = None) -> bool:
        """Wait until this process leads, and propose `value`. Returns False after `timeout` seconds.

        Raises LeaseLost, TercetError.
        """
        self._value = to_bytes(value)
        return await self.acquire(timeout)

    def lead(self, value: Text) -> Self:
        """Set the value to propose, and return this election as a block.

        The block waits for the leadership, is cancelled when it is lost, and resigns at its end.
        """
        self._value = to_bytes(value)
        return self

    async def proclaim(self, value: Text) -> None:
        """Replace the leader's value. Raises LockLost if this process does not lead any more."""
        client, lease = self._client, self._lease
        if lease is None or not self.is_held:
            raise LockLost(f"{self._name!r} is not led by this process", Code.FAILED_PRECONDITION)
        put = client.put_op(self._key, to_bytes(value), lease=lease)
        await until_known(lambda: client.txn(then=[put], guard=self))

    async def resign(self) -> None:
        """Give the leadership or the candidacy up. Raises TercetError, LeaseLost if it was lost before."""
        await self.release()

    async def leader(self) -> KV | None:
        """The leader's key, whose value is its proposal; None if nobody leads. Raises TercetError."""
        found = await self._client.get_prefix(self._prefix, sort_by="create_revision", limit=1)
        return found[0] if found else None

    async def observe(self) -> AsyncIterator[KV]:
        """The leader's key, each of its new values, then the next leader, and so on. Raises TercetError."""
        client = self._client
        while True:
            found = await client.get_prefix(self._prefix, sort_by="create_revision", limit=1)
            if not found:
                await wait_event(client, self._prefix, prefix=True, kind="put", since=found.header.revision + 1)
                continue
            yield found[0]
            watch = client.watch(found[0].key, since=found.header.revision + 1)
            try:
                async for event in watch.events():
                    if event.is_delete:
                        break
                    yield event.kv
            except Compacted:
                continue
            finally:
                watch.close()

    async def _create(self, lease: Lease) -> KV:
        kv = await self._create_with(lease, self._value)
        if kv.value != self._value:  # the same lease again, with another value
            client = self._client
            mine = client.create_revision(kv.key) == kv.create_revision
            await client.txn([mine], [client.put_op(kv.key, self._value, lease=lease)])
        return kv
