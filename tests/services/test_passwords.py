"""Which threads hash passwords: a login on a busy host must not wait for a processor longer than etcd's would."""

from __future__ import annotations

import asyncio
import os
import sys
import threading

import pytest

from tercet.services.passwords import Passwords
from tests.services.harness import run


def _niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@pytest.mark.skipif(sys.platform != "linux", reason="threads have a niceness of their own on Linux only")
def test_only_a_flood_of_logins_is_hashed_at_low_priority() -> None:
    async def test() -> None:
        own, low = _niceness(), min(_niceness() + 10, 19)
        passwords = Passwords(cost=4)
        for _ in range(6):
            assert await passwords._run(_niceness) == own
        assert await asyncio.gather(*(passwords._run(_niceness) for _ in range(7))) == [own] * 4 + [low] * 3
        passwords.close()

    run(test())
