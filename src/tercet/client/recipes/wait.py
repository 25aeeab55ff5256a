"""Waiting: for a key to be deleted or put, and for the tasks of recipes."""

from __future__ import annotations

import asyncio
from typing import Literal

from tercet.client.core_calls import CoreCalls
from tercet.client.errors import Compacted
from tercet.client.key_space import Text


async def wait_event(client: CoreCalls, key: Text, *, kind: Literal["put", "delete"], since: int, prefix: bool = False) -> None:
    """Return at the first such event from revision `since` on, or when it may have been compacted: the caller reads again."""
    watch = client.watch(key, prefix=prefix, since=since, only=kind)
    try:
        await anext(watch)
    except Compacted:
        return
    finally:
        watch.close()


async def wait_first(event: asyncio.Event, task: asyncio.Task[None], *, timeout: float | None = None) -> None:
    """Return when the event is set, the task has ended, or `timeout` seconds have passed."""
    waking = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait((waking, task), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waking.cancel()


async def end_task(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait for its end. What it has failed with is not raised."""
    task.cancel()
    task.add_done_callback(_retrieve)
    await asyncio.wait((task,))


def _retrieve(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()
