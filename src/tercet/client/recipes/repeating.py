"""Writes that can be repeated: a transaction that checks first has the same effect once or twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from tercet.client.errors import Indeterminate, Timeout, TooManyRequests, Unavailable

Result = TypeVar("Result")
_PAUSE_SECONDS = 0.05
_PAUSE_SECONDS_MAX = 1.0


async def until_known(attempt: Callable[[], Awaitable[Result]]) -> Result:
    """Repeat until the outcome is known. The caller bounds the time, and the write does not mind being made twice."""
    pause = _PAUSE_SECONDS
    while True:
        try:
            return await attempt()
        except (Indeterminate, Unavailable, Timeout, TooManyRequests):
            await asyncio.sleep(pause)
            pause = min(pause * 2, _PAUSE_SECONDS_MAX)


async def undisturbed(work: Coroutine[Any, Any, Result], *, unless: Callable[[], bool] = lambda: False) -> Result:
    """Let `work` come to its end also if this task is cancelled meanwhile, and raise the cancellation then.

    unless: asked at each cancellation, whether to cancel the work as well.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as error:
            cancelled = error
            if unless():
                task.cancel()
    if cancelled is None:
        return task.result()
    if not task.cancelled():
        task.exception()  # is not raised
    raise cancelled
