"""Writes that can be repeated: a transaction that checks first has the same effect once or twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tercet.client.errors import Indeterminate, Timeout, Unavailable

Result = TypeVar("Result")
_PAUSE_SECONDS = 0.05
_PAUSE_SECONDS_MAX = 1.0


async def until_known(attempt: Callable[[], Awaitable[Result]]) -> Result:
    """Repeat until the outcome is known. The caller bounds the time, and the write does not mind being made twice."""
    pause = _PAUSE_SECONDS
    while True:
        try:
            return await attempt()
        except (Indeterminate, Unavailable, Timeout):
            await asyncio.sleep(pause)
            pause = min(pause * 2, _PAUSE_SECONDS_MAX)
