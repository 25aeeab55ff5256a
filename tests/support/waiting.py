"""Waiting for a condition, with deadlines that a slow machine can stretch: TEST_SLOWNESS=3 triples each.

A deadline bounds a failure; it is not part of the expectation. Poll for the condition, never sleep for a fixed time and then
assert.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import TypeVar

SLOWNESS = float(os.environ.get("TEST_SLOWNESS", "1"))
_POLL_SECONDS = 0.02

Result = TypeVar("Result")


def scaled(seconds: float) -> float:
    """A deadline in seconds for this machine."""
    return seconds * SLOWNESS


def wait_until(
    condition: Callable[[], Result], what: str, *, seconds: float = 60.0, errors: tuple[type[Exception], ...] = (OSError,)
) -> Result:
    """Poll until `condition` returns a true value; return that value.

    seconds: deadline, scaled by TEST_SLOWNESS. errors: exceptions that count as "not yet".
    Raises AssertionError with `what` and the last result.
    """
    deadline = time.monotonic() + scaled(seconds)
    while True:
        last: object
        try:
            result = condition()
        except errors as error:
            last = error
        else:
            if result:
                return result
            last = result
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {scaled(seconds)} s: {what} (last: {last!r})")
        time.sleep(_POLL_SECONDS)


async def until(condition: Callable[[], Result], *, what: str = "the condition holds", seconds: float = 20.0) -> Result:
    """The same on the event loop."""
    deadline = time.monotonic() + scaled(seconds)
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {scaled(seconds)} s: {what} (last: {result!r})")
        await asyncio.sleep(0.002)
    return result


async def settled(read: Callable[[], Result], *, quiet_seconds: float = 0.1, seconds: float = 20.0) -> Result:
    """Wait until `read` has returned the same value for `quiet_seconds`; return that value.

    For what must come to a halt: assert on the value at rest instead of sleeping and hoping that it has come to rest.
    """
    deadline = time.monotonic() + scaled(seconds)
    value, since = read(), time.monotonic()
    while time.monotonic() - since < scaled(quiet_seconds):
        assert time.monotonic() < deadline, f"still changing after {scaled(seconds)} s: {value!r}"
        await asyncio.sleep(0.005)
        if (now := read()) != value:
            value, since = now, time.monotonic()
    return value
