"""Barriers: a key that others wait for to go, and a meeting point for a number of processes.

    NAME                          Barrier: exists while it is held
    NAME/waiters/NANOSECONDS      DoubleBarrier: one for each process that has entered, under its lease
    NAME/ready                    put by the last one to enter, deleted by the last one to leave

Source: etcd client/v3/experimental/recipes/{barrier,double_barrier}.go, whose keys are the same.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Self

from tercet.client.core_calls import CoreCalls
from tercet.client.errors import AlreadyExists, FailedPrecondition, TercetError
from tercet.client.key_space import Text, to_bytes
from tercet.client.lease import Lease
from tercet.client.recipes.repeating import until_known
from tercet.client.recipes.rw_lock import create_unique
from tercet.client.recipes.wait import wait_event
from tercet.client.results import KV
from tercet.errors import Code


class Barrier:
    """While one process holds it, the others wait. It has no lease: it outlives its holder."""

    def __init__(self, client: CoreCalls, name: Text) -> None:
        self._client = client
        self._key = to_bytes(name)

    async def hold(self) -> None:
        """Raises AlreadyExists if it is held already, TercetError, Indeterminate if it may or may not be held."""
        if not await self._client.put_if_absent(self._key, b""):
            raise AlreadyExists(f"the barrier {self._key!r} is held already", Code.ALREADY_EXISTS)

    async def release(self) -> None:
        """Let all who wait go on. May be repeated. Raises TercetError."""
        await self._client.delete(self._key)

    async def wait(self) -> None:
        """Return when it is not held. Raises TercetError."""
        while True:
            found = await self._client.get_range(self._key, self._key + b"\0")
            if not found:
                return
            await wait_event(self._client, self._key, kind="delete", since=found.header.revision + 1)


class DoubleBarrier:
    """`count` processes start together, and end together. A process that dies counts as having left.

    As a block: enter, then leave.
    """

    def __init__(self, client: CoreCalls, name: Text, count: int, *, ttl_seconds: int) -> None:
        self._client = client
        self._waiters = to_bytes(name) + b"/waiters/"
        self._ready = to_bytes(name) + b"/ready"
        self._count = count
        self._ttl_seconds = ttl_seconds
        self._lease: Lease | None = None
        self._own: KV | None = None
        self._round = 0

    async def __aenter__(self) -> Self:
        await self.enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.leave()

    async def enter(self) -> None:
        """Return when `count` processes have entered. Raises FailedPrecondition if they have without this one, TercetError."""
        lease = self._lease = await self._client.lease(self._ttl_seconds).start()
        try:
            async with lease.cancel_on_loss():
                await self._enter(lease)
        except BaseException:
            self._lease = self._own = None
            with suppress(TercetError):  # it expires
                await lease.revoke()
            raise

    async def _enter(self, lease: Lease) -> None:
        client, own = self._client, None
        while own is None:
            key = self._waiters + b"%d" % lease.unique_nanoseconds()
            own = await until_known(partial(create_unique, client, key, lease))
        self._own = own
        present = await until_known(lambda: client.get_prefix(self._waiters, sort_by="create_revision", keys_only=True))
        places = [kv.key for kv in present]
        if own.key in places[self._count :]:
            raise FailedPrecondition(f"{self._count} others have entered {self._ready!r}", Code.FAILED_PRECONDITION)
        if own.key in places[self._count - 1 :]:
            await until_known(lambda: self._put_ready(own))
        self._round = await until_known(lambda: self._wait_ready(own.create_revision))

    async def _put_ready(self, own: KV) -> None:
        """Once, and not if it arrives late, when the own key is gone."""
        client, created = self._client, own.create_revision
        is_due = [client.create_revision(own.key) == created, client.mod_revision(self._ready) < created]
        await client.txn(is_due, [client.put_op(self._ready, b"")])

    async def _wait_ready(self, since: int) -> int:
        """Wait until the key is put, at or after this revision: an older one was left by processes that died.

        Returns its revision. While the own key exists, nobody deletes it.
        """
        while True:
            found = await self._client.get_range(self._ready, self._ready + b"\0")
            if found and found[0].mod_revision >= since:
                return found[0].mod_revision
            await wait_event(self._client, self._ready, kind="put", since=found.header.revision + 1)

    async def leave(self) -> None:
        """Return when all have left. The process that entered first leaves last. Raises TercetError, LeaseLost."""
        lease, own = self._lease, self._own
        if lease is None or own is None:
            return
        self._lease = self._own = None
        try:
            async with lease.cancel_on_loss():
                await until_known(lambda: self._leave(own))
        finally:
            with suppress(TercetError):  # it expires
                await lease.revoke()

    async def _leave(self, own: KV) -> None:
        """The first key waits for the last one to go, all others go and wait for the first."""
        client = self._client
        while True:
            # Those who have left may begin the next round, whose keys are younger, before others know that this one has ended.
            found = await client.get_prefix(
                self._waiters, sort_by="create_revision", keys_only=True, max_create_revision=self._round
            )
            if not found:
                return
            first, last = found[0], found[len(found) - 1]
            if first.key == own.key and first.key == last.key:
                gone, ready = client.delete_op(own.key), client.delete_op(self._ready)
                await client.txn([client.mod_revision(self._ready) == self._round], [gone, ready], [gone])
                return
            if first.key != own.key:
                await client.delete(own.key)
            awaited = last if first.key == own.key else first
            await wait_event(client, awaited.key, kind="delete", since=found.header.revision + 1)
