"""While a world runs, the process's clocks and sources of chance are the world's.

Replaced are the functions of `time`, `random`, `os.urandom`, `uuid` and `secrets` that are looked up when they are called; a
module that copied one at import (`from time import monotonic`) keeps the real one, and so does `datetime.now`.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

EPOCH = 1_700_000_000.0
"""What `time.time()` says at the beginning of a world."""


@contextmanager
def deterministic(chance: Random, now: Callable[[], float]) -> Iterator[None]:
    """now: virtual seconds since the world began. The module's functions of `random` continue from a seed of `chance`."""

    def urandom(size: int, /) -> bytes:
        return chance.randbytes(size)

    def sleep(seconds: float, /) -> None:
        raise RuntimeError("time.sleep blocks a simulated loop: use asyncio.sleep")

    replacements: list[tuple[Any, str, Any]] = [
        (time, "time", lambda: EPOCH + now()),
        (time, "time_ns", lambda: int((EPOCH + now()) * 1e9)),
        (time, "monotonic", now),
        (time, "monotonic_ns", lambda: int(now() * 1e9)),
        (time, "perf_counter", now),
        (time, "perf_counter_ns", lambda: int(now() * 1e9)),
        (time, "clock_gettime", lambda _: EPOCH + now()),
        (time, "sleep", sleep),
        (os, "urandom", urandom),
        (random, "_urandom", urandom),
    ]
    state = random.getstate()
    kept = [(module, name, getattr(module, name)) for module, name, _ in replacements]
    for module, name, value in replacements:
        setattr(module, name, value)
    random.seed(chance.getrandbits(64))
    try:
        yield
    finally:
        random.setstate(state)
        for module, name, value in kept:
            setattr(module, name, value)
