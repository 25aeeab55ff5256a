"""Queues that processes share: each item goes to one of them.

    NAME/NANOSECONDS                     Queue: first in, first out by mod_revision
    NAME/PRIORITY/SEQUENCE               PriorityQueue: `%05d/%016d`; the lowest priority first
    __NAME/PRIORITY                      written with each item, so that two processes cannot choose the same sequence number

An item is taken by deleting it if it is unchanged. A process that dies after that has taken the item with it. If the answer to
the delete is lost, Indeterminate is raised, and the item may or may not be gone. A `get` that is cancelled takes nothing: what
it has deleted is put again under the same key, which is the end of a Queue.
Source: etcd client/v3/experimental/recipes/{queue,priority_queue,key}.go, whose keys are the same.
"""

from __future__ import annotations

import asyncio
import logging
import time

from tercet.client.core_calls import CoreCalls
from tercet.client.errors import TercetError
from tercet.client.key_space import Text, to_bytes
from tercet.client.kv_calls import SortBy
from tercet.client.recipes.repeating import undisturbed
from tercet.client.recipes.wait import wait_event
from tercet.client.results import KV

logger = logging.getLogger(__name__)
_HEAD_ITEMS = 16
"""Read at once, so that processes that compete for the first item find another without a further read."""
_PRIORITY_MAX = 0xFFFF


class ItemTaker:
    """Taking items in the order of `_sort_by`."""

    _sort_by: SortBy = "key"

    def __init__(self, client: CoreCalls, name: Text) -> None:
        self._client = client
        self._prefix = to_bytes(name) + b"/"

    async def get(self) -> bytes:
        """Take the first item; wait for one. Raises TercetError, Indeterminate if it may or may not be taken."""
        while True:
            head = await self._client.get_prefix(self._prefix, sort_by=self._sort_by, limit=_HEAD_ITEMS)
            for kv in head:
                if await self._take(kv):
                    return kv.value
            if not head:
                await wait_event(self._client, self._prefix, prefix=True, kind="put", since=head.header.revision + 1)

    async def get_now(self) -> bytes | None:
        """Take the first item, None if there is none. Raises TercetError, Indeterminate if it may or may not be taken."""
        while True:
            head = await self._client.get_prefix(self._prefix, sort_by=self._sort_by, limit=_HEAD_ITEMS)
            if not head:
                return None
            for kv in head:
                if await self._take(kv):
                    return kv.value

    async def length(self) -> int:
        """How many items wait. Raises TercetError."""
        return await self._client.count(self._prefix)

    async def _take(self, kv: KV) -> bool:
        client, is_taken, is_known = self._client, False, False

        async def take() -> None:
            nonlocal is_taken, is_known
            unchanged = client.mod_revision(kv.key) == kv.mod_revision
            is_taken = bool(await client.txn([unchanged], [client.delete_op(kv.key)]))
            is_known = True

        try:
            await undisturbed(take())
        except asyncio.CancelledError:
            if is_taken:
                await undisturbed(self._give_back(kv))
            elif not is_known:
                logger.warning("the item %r may be lost: a cancelled get does not know whether it has taken it", kv.key)
            raise
        return is_taken

    async def _give_back(self, kv: KV) -> None:
        try:
            await self._client.put_if_absent(kv.key, kv.value, lease=kv.lease)
        except TercetError as error:
            logger.error("the item %r is lost: a cancelled get had taken it, and cannot put it back: %s", kv.key, error)


class Queue(ItemTaker):
    """First in, first out."""

    _sort_by: SortBy = "mod_revision"

    async def put(self, value: Text) -> None:
        """Add an item. Raises TercetError, Indeterminate if it may or may not be added."""
        while not await self._client.put_if_absent(self._prefix + b"%d" % time.time_ns(), value):
            pass  # another process chose the same nanosecond


class PriorityQueue(ItemTaker):
    """Items of a lower priority number come first; equal ones in the order in which they were put."""

    async def put(self, value: Text, priority: int = 0) -> None:
        """Add an item. priority: 0 to 65535. Raises TercetError, Indeterminate if it may or may not be added."""
        if not 0 <= priority <= _PRIORITY_MAX:
            raise ValueError(f"a priority is a number from 0 to {_PRIORITY_MAX}")
        client, prefix = self._client, self._prefix + b"%05d" % priority
        while True:
            last = await client.get_prefix(prefix + b"/", sort_by="key", descending=True, limit=1, keys_only=True)
            sequence = int(last[0].key.rpartition(b"/")[2]) + 1 if last else 0
            base = b"__" + prefix
            unchanged = client.mod_revision(base) <= last.header.revision
            puts = [client.put_op(base, b""), client.put_op(prefix + b"/%016d" % sequence, value)]
            if await client.txn([unchanged], puts):
                return
