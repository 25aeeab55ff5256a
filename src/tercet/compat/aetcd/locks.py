"""A lock that aetcd clients exclude each other with: the key as given, with the owner's UUID as its value.

This is not the layout of etcd's own lock service: it does not exclude `etcdctl lock` or `tercet.AsyncClient.lock`, and there is
no fencing token.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from tercet.compat.aetcd import exceptions, rtypes


class Lock:
    """`async with client.lock(b"key") as lock: ...`. A failed acquisition does not raise there: ask `is_acquired`."""

    def __init__(self, client: Any, key: bytes, ttl: int) -> None:
        self._client = client
        self.key = key
        self.ttl = ttl
        self.lease: Any = None
        self.uuid = uuid.uuid1().bytes
        self.revision = 0

    async def acquire(self, timeout: float | None = 10) -> bool:
        """Wait at most `timeout` seconds, None: forever. Returns whether the lock is held."""
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        while not await self._try_acquire():
            remaining = None if deadline is None else max(deadline - loop.time(), 0)
            if remaining == 0:
                return False
            await self._wait_for_delete_event(remaining)
        return True

    async def release(self) -> bool:
        """Returns whether the lock was held."""
        transactions = self._client.transactions
        held = [transactions.value(self.key) == self.uuid]
        success, _ = await self._client.transaction(compare=held, success=[transactions.delete(self.key)], failure=[])
        return bool(success)

    async def refresh(self) -> Any:
        """Give the lock its whole TTL again. Raises ValueError if it was never acquired."""
        if self.lease is None:
            raise ValueError(f"no lease associated with this lock: {self.key!r}")
        return await self.lease.refresh()

    async def is_acquired(self) -> bool:
        """Whether the server says that this object holds the lock."""
        found = await self._client.get(self.key)
        return found is not None and bool(found.value == self.uuid)

    async def __aenter__(self) -> Lock:
        await self.acquire()
        return self

    async def __aexit__(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        await self.release()

    async def _try_acquire(self) -> bool:
        transactions = self._client.transactions
        self.lease = await self._client.lease(self.ttl)
        success, results = await self._client.transaction(
            compare=[transactions.create(self.key) == 0],
            success=[transactions.put(self.key, self.uuid, lease=self.lease)],
            failure=[transactions.get(self.key)],
        )
        if success:
            self.revision = results[0].response_put.header.revision
            return True
        self.revision = results[0][0][1].mod_revision
        await self.lease.revoke()
        self.lease = None
        return False

    async def _wait_for_delete_event(self, timeout: float | None) -> None:
        """Until the key of the present owner is deleted, or the time has passed."""
        delete = rtypes.EventKind.DELETE
        try:
            await self._client.watch_once(self.key, timeout=timeout, start_revision=self.revision + 1, kind=delete)
        except exceptions.WatchTimeoutError:
            return
