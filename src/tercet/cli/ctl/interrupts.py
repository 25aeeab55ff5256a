"""SIGINT and SIGTERM as an end that a command expects: `lock` and `elect` release what they hold, and exit with 0."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, TypeVar

from tercet.cli.ctl.errors import CommandError, Exit

T = TypeVar("T")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Inside the block the signals set `received`."""

    def __init__(self) -> None:
        self.received = asyncio.Event()

    def __enter__(self) -> Interrupts:
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self.received.set)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.remove_signal_handler(number)

    async def race(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`. Raises CommandError "context canceled" if a signal arrives before its end, as in etcdctl."""
        task = asyncio.ensure_future(work)
        waiter = asyncio.ensure_future(self.received.wait())
        try:
            await asyncio.wait((task, waiter), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise CommandError(Exit.ERROR, "context canceled")
        finally:
            for one in (task, waiter):
                one.cancel()
            await asyncio.wait((task, waiter))

    async def received_before(self, event: asyncio.Event) -> bool:
        """Wait for a signal or for `event`. True if the signal came first."""
        waiters = [asyncio.ensure_future(one.wait()) for one in (self.received, event)]
        await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
        for waiter in waiters:
            waiter.cancel()
        return self.received.is_set()
