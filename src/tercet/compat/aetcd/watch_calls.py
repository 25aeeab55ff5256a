"""Calls of the Watch service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from tercet.client import prefix_end
from tercet.compat.aetcd import exceptions, rtypes
from tercet.compat.aetcd.connection import Connection, connected, raise_translated


class WatchCalls(Connection):
    """A watch survives a lost connection. Its iterator raises RevisionCompactedError if the server has compacted what it would
    have to send.

    Keywords of all watches: start_revision, progress_notify, kind (an EventKind), prev_kv. `watch_id` and `fragment` are
    accepted and have no effect, as in the original.
    """

    @connected
    async def watch(
        self,
        key: bytes,
        range_end: bytes | None = None,
        start_revision: int | None = None,
        progress_notify: bool = False,
        kind: rtypes.EventKind | None = None,
        prev_kv: bool = False,
        watch_id: int | None = None,
        fragment: bool = False,
    ) -> rtypes.Watch:
        """A watch that exists at the server already. Raises WatchTimeoutError if it is not created in time."""
        events: asyncio.Queue[Any] = asyncio.Queue()
        created = await self._watcher.add_callback(
            key,
            events.put,
            range_end=range_end,
            start_revision=start_revision,
            progress_notify=progress_notify,
            kind=kind,
            prev_kv=prev_kv,
            watch_id=watch_id,
            fragment=fragment,
        )
        canceled = asyncio.Event()

        async def cancel() -> None:
            canceled.set()
            await events.put(None)
            if self._watcher is not None:  # not closed
                await self._watcher.cancel(created.watch_id)

        return rtypes.Watch(lambda: _events(events, canceled), cancel, created.watch_id)

    async def watch_prefix(self, key_prefix: bytes, range_end: bytes | None = None, *args: Any, **kwargs: Any) -> rtypes.Watch:
        """As `watch`, for all keys with a prefix; `range_end` has no effect."""
        return await self.watch(key_prefix, prefix_end(key_prefix), *args, **kwargs)

    @connected
    async def watch_once(
        self,
        key: bytes,
        timeout: float | None = None,
        range_end: bytes | None = None,
        start_revision: int | None = None,
        progress_notify: bool = False,
        kind: rtypes.EventKind | None = None,
        prev_kv: bool = False,
        watch_id: int | None = None,
        fragment: bool = False,
    ) -> rtypes.Event:
        """The first event. Raises WatchTimeoutError after `timeout` seconds."""
        events: asyncio.Queue[Any] = asyncio.Queue()
        watcher = self._watcher
        created = await watcher.add_callback(
            key,
            events.put,
            range_end=range_end,
            start_revision=start_revision,
            progress_notify=progress_notify,
            kind=kind,
            prev_kv=prev_kv,
            watch_id=watch_id,
            fragment=fragment,
        )
        try:
            event = await asyncio.wait_for(events.get(), timeout)
        except TimeoutError as error:
            raise exceptions.WatchTimeoutError from error
        finally:
            await watcher.cancel(created.watch_id)
        if isinstance(event, Exception):
            raise event
        first: rtypes.Event = event
        return first

    async def watch_prefix_once(
        self, key_prefix: bytes, timeout: float | None = None, range_end: bytes | None = None, *args: Any, **kwargs: Any
    ) -> rtypes.Event:
        """As `watch_once`, for all keys with a prefix; `range_end` has no effect."""
        return await self.watch_once(key_prefix, timeout, prefix_end(key_prefix), *args, **kwargs)


async def _events(events: asyncio.Queue[Any], canceled: asyncio.Event) -> AsyncIterator[rtypes.Event]:
    while not canceled.is_set():
        event = await events.get()
        if event is None or canceled.is_set():
            return
        if isinstance(event, Exception):
            raise_translated(event)
        yield event
