"""Waiting for a condition, with deadlines that a slow machine can stretch: TEST_SLOWNESS=3 triples each.

A deadline bounds a failure; it is not part of the expectation. A loaded machine pauses any process for seconds, so no deadline
is shorter than 60 s. Poll for the condition, never sleep for a fixed time and then assert.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import TypeVar

SLOWNESS = float(os.environ.get("TEST_SLOWNESS", "1"))
_POLL_SECONDS = 0.02
_SETTLED_POLL_SECONDS = 0.005
_DEADLINE_SECONDS_MIN = 60.0

Result = TypeVar("Result")


def scaled(seconds: float) -> float:
    """A deadline in seconds for this machine."""
    return max(seconds, _DEADLINE_SECONDS_MIN) * SLOWNESS


def stretched(seconds: float) -> float:
    """A duration that the test waits for in any case, such as a TTL, for this machine."""
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


async def until(condition: Callable[[], Result], *, what: str = "the condition holds", seconds: float = 60.0) -> Result:
    """The same on the event loop."""
    deadline = time.monotonic() + scaled(seconds)
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {scaled(seconds)} s: {what} (last: {result!r})")
        await asyncio.sleep(0.002)
    return result


async def settled(read: Callable[[], Result], *, quiet_seconds: float = 0.1, seconds: float = 60.0) -> Result:
    """Wait until `read` has returned the same value for `quiet_seconds`; return that value.

    For what must come to a halt: assert on the value at rest instead of sleeping and hoping that it has come to rest. Time in
    which this process was paused does not count: the value must also be the same in each of many turns of the loop.
    """
    deadline = time.monotonic() + scaled(seconds)
    value, quiet_polls = read(), 0
    while quiet_polls * _SETTLED_POLL_SECONDS < stretched(quiet_seconds):
        assert time.monotonic() < deadline, f"still changing after {scaled(seconds)} s: {value!r}"
        await asyncio.sleep(_SETTLED_POLL_SECONDS)
        now = read()
        quiet_polls = quiet_polls + 1 if now == value else 0
        value = now
    return value
