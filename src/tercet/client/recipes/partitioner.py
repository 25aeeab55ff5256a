"""Dividing a set of items among processes: each item belongs to one process at a time.

    NAME/members/LEASE         one for each process
    NAME/items/ITEM/LEASE      a lock for each item

The members, ordered by their keys, get every n-th item. After a change of members each process releases the items that it
loses; it does so only when the application asks for the next share, which says that it has stopped working on them. The locks
keep the new owner waiting until then, so that no item ever belongs to two.
Not among etcd's recipes; kazoo's SetPartitioner has the same purpose.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tercet.client.core_calls import CoreCalls
from tercet.client.key_space import Text, to_bytes
from tercet.client.lease import Lease
from tercet.client.recipes.lock import Lock
from tercet.client.recipes.party import Party, PartyMember
from tercet.client.recipes.wait import end_task, wait_first


@dataclass(frozen=True, slots=True)
class Share:
    """owned: the items to work on; lost: those to stop working on before the next share is asked for."""

    owned: frozenset[bytes]
    lost: frozenset[bytes]


class Partitioner:
    """A block in which this process takes part; iterate over it for its share, whenever it changes.

    The end of the block gives all items up: stop working on them inside it. Raises LeaseLost, which ends the ownership of all.
    """

    def __init__(self, client: CoreCalls, name: Text, items: Iterable[Text], *, ttl_seconds: int) -> None:
        """items: the same in all processes."""
        self._client = client
        self._name = to_bytes(name)
        self._items = sorted({to_bytes(item) for item in items})
        self._party = Party(client, self._name + b"/members", ttl_seconds=ttl_seconds)
        self._member: PartyMember | None = None
        self._keeping: _Keeping | None = None
        self._observing: asyncio.Task[None] | None = None
        self._lost: frozenset[bytes] = frozenset()

    async def __aenter__(self) -> Self:
        member = self._member = self._party.join()
        await member.__aenter__()
        keeping = self._keeping = _Keeping(self._client, self._name, self._items, member.lease)
        self._observing = asyncio.create_task(self._observe(keeping, member.key))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._observing is not None
        assert self._keeping is not None
        assert self._member is not None
        try:  # each step also if the one before was cancelled: else the lease would be renewed, and the items kept
            await end_task(self._observing)
        finally:
            try:
                await self._keeping.close()
            finally:
                await self._member.__aexit__(kind, error, trace)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Share:
        """The next share. Says that the application has stopped working on what the one before had lost."""
        if self._keeping is None or self._observing is None:
            raise RuntimeError("iterate over a partitioner inside its block")
        await self._keeping.give_up(self._lost)
        self._lost = frozenset()
        share = await self._keeping.changed(self._observing)
        self._lost = share.lost
        return share

    async def _observe(self, keeping: _Keeping, own: bytes) -> None:
        async for members in self._party.observe():
            keeping.set_due(_due(self._items, [kv.key for kv in members], own))


def _due(items: list[bytes], members: list[bytes], own: bytes) -> frozenset[bytes]:
    """The items of one member."""
    order = sorted(members)
    return frozenset(items[order.index(own) :: len(order)]) if own in order else frozenset()


class _Keeping:
    """The locks of one process, as they are and as they should be."""

    def __init__(self, client: CoreCalls, name: bytes, items: list[bytes], lease: Lease) -> None:
        self._locks = {
            item: Lock(client, name + b"/items/" + item, ttl_seconds=lease.ttl_seconds, lease=lease) for item in items
        }
        self._due: frozenset[bytes] = frozenset()
        self._reported: frozenset[bytes] = frozenset()
        self._lease = lease
        self._is_closed = False
        self._error: BaseException | None = None
        self._acquiring: dict[bytes, asyncio.Task[bool]] = {}
        self._wake = asyncio.Event()
        lease.on_lost(self._wake.set)

    def set_due(self, due: frozenset[bytes]) -> None:
        self._due = due
        for item, task in tuple(self._acquiring.items()):
            if item not in due:
                task.cancel()
        for item in due:
            self._acquire(item)
        self._wake.set()

    async def changed(self, observing: asyncio.Task[None]) -> Share:
        """Wait until the share differs from the one reported last."""
        while True:
            self._wake.clear()
            if self._lease.is_lost:
                raise self._lease.lost_error()
            if observing.done():
                observing.result()  # raises its error
            if self._error is not None:
                raise self._error
            held = frozenset(item for item, lock in self._locks.items() if lock.is_held)
            owned, lost = held & self._due, held - self._due
            if lost or owned != self._reported:
                self._reported = owned
                return Share(owned, lost)
            await wait_first(self._wake, observing)

    async def give_up(self, lost: frozenset[bytes]) -> None:
        for item in lost:
            await self._locks[item].release()
            if item in self._due:
                self._acquire(item)

    async def close(self) -> None:
        self._is_closed = True
        tasks = tuple(self._acquiring.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _acquire(self, item: bytes) -> None:
        lock = self._locks[item]
        if lock.is_held or item in self._acquiring:
            return
        task = self._acquiring[item] = asyncio.ensure_future(lock.acquire())
        task.add_done_callback(lambda done: self._acquired(item, done))

    def _acquired(self, item: bytes, task: asyncio.Task[bool]) -> None:
        del self._acquiring[item]
        if not task.cancelled():
            self._error = self._error or task.exception()
            self._wake.set()
        elif item in self._due and not self._is_closed:
            self._acquire(item)  # due again since it was cancelled
