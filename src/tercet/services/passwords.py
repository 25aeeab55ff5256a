"""Password hashes: bcrypt, in a few threads, of low priority where many wait.

One hash takes some 50 ms of processor time, by design. So a flood of logins waits here, in a queue that is bounded, and takes
nothing from the event loop: bcrypt releases the interpreter, and the kernel prefers the other threads.

A few logins at a time are hashed at the member's own priority: on a host whose processors other programs keep busy, a thread of
low priority gets a tenth of its share, and a login would miss the client's dial timeout (2 s in etcdctl).

A call that waits holds its request: a long password takes the place of many, so that a thousand of megabytes cannot wait.

bcrypt reads 72 bytes. Longer passwords are refused when they are set, and cut when they are compared, as in etcd.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from tercet.errors import PASSWORD_TOO_LONG, TOO_MANY_REQUESTS

_BYTES_MAX: Final = 72
_WAITING_MAX: Final = 1000
_FEW: Final = 4  # logins at a time that are no flood
_FLOOD_NICENESS: Final = 10  # added to the member's own
_PLACE_BYTES: Final = 4 << 10  # of a password, for each of these places
Result = TypeVar("Result")


class Passwords:
    """Hashes and compares passwords. cost: of new hashes, the binary logarithm of their rounds; 4 to 31."""

    def __init__(self, cost: int) -> None:
        self._cost = cost
        self._waiting = 0
        threads = max(1, (os.cpu_count() or 1) // 2)
        self._prompt_threads = ThreadPoolExecutor(threads, thread_name_prefix="bcrypt")
        self._flood_threads = ThreadPoolExecutor(threads, thread_name_prefix="bcrypt-low", initializer=_lower_priority)

    async def hash(self, password: str) -> bytes:
        """Raises PASSWORD_TOO_LONG or TOO_MANY_REQUESTS."""
        raw = password.encode()
        if len(raw) > _BYTES_MAX:
            raise PASSWORD_TOO_LONG
        return await self._run(lambda: _hash(raw, self._cost))

    async def matches(self, password: str, hashed: bytes) -> bool:
        """Raises TOO_MANY_REQUESTS."""
        raw = password.encode()
        places = 1 + len(raw) // _PLACE_BYTES
        raw = raw[:_BYTES_MAX]
        return await self._run(lambda: _matches(raw, hashed), places)

    def close(self) -> None:
        """Drop what waits."""
        self._prompt_threads.shutdown(wait=False, cancel_futures=True)
        self._flood_threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[[], Result], places: int = 1) -> Result:
        if self._waiting >= _WAITING_MAX:
            raise TOO_MANY_REQUESTS
        threads = self._prompt_threads if self._waiting < _FEW else self._flood_threads
        self._waiting += places
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, work)
        finally:
            self._waiting -= places


def _hash(password: bytes, cost: int) -> bytes:
    import bcrypt  # most members never hash a password

    hashed: bytes = bcrypt.hashpw(password, bcrypt.gensalt(cost, prefix=b"2a"))  # the prefix that Go writes
    return hashed


def _matches(password: bytes, hashed: bytes) -> bool:
    import bcrypt

    try:
        is_equal: bool = bcrypt.checkpw(password, hashed)
    except ValueError:  # not a hash: a root user may have stored anything
        return False
    return is_equal


def _lower_priority() -> None:
    """On Linux the niceness of a thread is its own."""
    thread = threading.get_native_id()
    try:
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + _FLOOD_NICENESS)
    except (AttributeError, OSError):
        return
