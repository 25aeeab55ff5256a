"""A local copy of the keys with one prefix, kept current by a watch.

    async with client.cache("config/") as cache:      # complete when the block begins
        cache["config/color"].text()                   # no request
        await cache.sync()                              # includes every write that was acknowledged before this call

Reads are of one revision, `cache.revision`, which may be older than the cluster's. After a compaction or a lost connection the
copy stays readable and catches up by itself. `sync` relies on progress reports, which etcd before 3.5.8 may send too early.
Source: etcd's cache package, whose reads can be linearizable likewise.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from types import TracebackType
from typing import Self

from tercet.client.core_calls import CoreCalls
from tercet.client.errors import TercetError
from tercet.client.key_space import Text, to_bytes
from tercet.client.recipes.wait import end_task, wait_first
from tercet.client.results import KV
from tercet.client.watch_list import ListBatch

logger = logging.getLogger(__name__)
_PROGRESS_SECONDS = 0.1


class Cache(Mapping[Text, KV]):
    """Keys to KV, readable like a dict. The order is that in which keys arrived."""

    def __init__(self, client: CoreCalls, prefix: Text) -> None:
        self._client = client
        self._prefix = to_bytes(prefix)
        self._kvs: dict[bytes, KV] = {}
        self._revision = 0
        self._changes = 0
        self._changed = asyncio.Event()
        self._callbacks: list[Callable[[ListBatch], object]] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Return when the copy is complete. Raises TercetError."""
        self._kvs, self._revision = {}, 0
        task = self._task = asyncio.create_task(self._follow())
        try:
            await self._reach(1)
        except BaseException:
            await end_task(task)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            await end_task(self._task)

    def __getitem__(self, key: Text) -> KV:
        return self._kvs[to_bytes(key)]

    def __contains__(self, key: object) -> bool:
        return isinstance(key, bytes | str) and to_bytes(key) in self._kvs

    def __iter__(self) -> Iterator[bytes]:
        return iter(tuple(self._kvs))  # the consumer may wait between two keys

    def __len__(self) -> int:
        return len(self._kvs)

    @property
    def revision(self) -> int:
        """Every change up to and including this revision is in the copy."""
        return self._revision

    def on_change(self, callback: Callable[[ListBatch], object]) -> None:
        """Call `callback` in the event loop after each batch of changes has been applied. It must not block.

        What it raises is logged.
        """
        self._callbacks.append(callback)

    async def changes(self) -> AsyncIterator[int]:
        """Yield the revision of the copy whenever a key has changed; what comes while the consumer is busy counts as one."""
        seen = self._changes
        while True:
            while self._changes == seen:
                await self._reach(self._revision + 1)
            seen = self._changes
            yield self._revision

    async def sync(self) -> None:
        """Wait until the copy includes every write acknowledged before this call. Raises TercetError."""
        current = await self._client.get_prefix(self._prefix, limit=1, keys_only=True)
        await self._reach(current.header.revision, _PROGRESS_SECONDS)

    async def _reach(self, revision: int, poll_seconds: float | None = None) -> None:
        """Wait for a revision. Raises what ended the watch. poll_seconds: how often to ask for progress; None: never."""
        while self._revision < revision:
            task = self._task
            if task is None or task.done():
                if task is not None and not task.cancelled():
                    task.result()
                raise RuntimeError("the cache is closed")
            await wait_first(self._changed, task, timeout=poll_seconds)
            if poll_seconds is not None and self._revision < revision:
                await self._client.request_progress()

    async def _follow(self) -> None:
        try:
            async for batch in self._client.watch_list(self._prefix, progress=True):
                self._apply(batch)
        except TercetError as error:  # who only reads would not notice
            logger.warning("the cache of %r is not kept current any more: %s", self._prefix, error)
            raise

    def _apply(self, batch: ListBatch) -> None:
        for event in batch.events:
            if event.is_delete:
                self._kvs.pop(event.key, None)
            else:
                self._kvs[event.key] = event.kv
        self._revision = max(self._revision, batch.revision)
        if batch.events or batch.is_resync:
            self._changes += 1
            for callback in self._callbacks:
                try:
                    callback(batch)
                except Exception:  # the copy must be kept current all the same
                    logger.exception("a callback of the cache of %r has failed", self._prefix)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
