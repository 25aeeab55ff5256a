"""Hosts of a simulated world, and on which of them code runs.

Every task and callback belongs to the host in whose context it was started. A host that is paused keeps its callbacks until it
resumes; one that has crashed runs nothing any more of what it ran before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar

from tercet.intake import OWNER

Result = TypeVar("Result")


class Host:
    """One machine: a name, an address, and a boot that its tasks belong to. run_soon: appends callbacks to the loop's."""

    def __init__(self, name: str, address: str, run_soon: Callable[[list[asyncio.Handle]], None]) -> None:
        self._run_soon = run_soon
        self.name = name
        self.address = address
        self.is_paused = False
        self.boot = Boot(self)
        self.dead: set[asyncio.Task[Any]] = set()
        """The tasks of boots that are over; kept, since a task that nothing refers to is closed and runs `finally` blocks."""

    def __repr__(self) -> str:
        return f"<host {self.name} {self.address}>"

    def context(self) -> Context:
        """A context whose callbacks and tasks belong to this host, as it runs now."""
        context = copy_context()
        context.run(_BOOT.set, self.boot)
        context.run(OWNER.set, self.boot)
        return context

    def start(self, coroutine: Coroutine[Any, Any, Result], *, name: str | None = None) -> asyncio.Task[Result]:
        """Run a coroutine on this host."""
        return asyncio.get_running_loop().create_task(coroutine, name=name or self.name, context=self.context())

    async def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """`start` a coroutine and wait for its result, from any host."""
        return await self.start(coroutine)

    def pause(self) -> None:
        """Run nothing until `resume`, like SIGSTOP: connections stay open, and what arrives waits."""
        self.is_paused = True

    def resume(self) -> None:
        """Go on with what has waited."""
        if self.is_paused:
            self.is_paused = False
            self._run_soon(self.boot.release())

    def crash(self) -> None:
        """End all that runs here, without its `finally` blocks; connections break. What is started afterwards is a new boot."""
        self.boot.is_over = True
        self.boot.held.clear()
        self.dead |= self.boot.tasks
        self.boot = Boot(self)
        self.is_paused = False


class Boot:
    """The time from one start of a host to its crash. held: callbacks that wait while the host is paused."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.is_over = False
        self.held: list[asyncio.Handle] = []
        self.tasks: set[asyncio.Task[Any]] = set()
        """Those that have not ended."""

    def admits(self, handle: asyncio.Handle) -> bool:
        """Whether a callback may run now. While the host is paused it is kept."""
        if self.is_over:
            return False
        if self.host.is_paused:
            self.held.append(handle)
            return False
        return True

    def release(self) -> list[asyncio.Handle]:
        """What has waited and may run now."""
        held, self.held = self.held, []
        return held


_BOOT: ContextVar[Boot | None] = ContextVar("tercet_simulated_boot", default=None)


def boot_of(context: Context) -> Boot | None:
    """The boot that a callback's context belongs to; None: it belongs to the world, like the test itself."""
    return context.get(_BOOT)


def current_boot() -> Boot | None:
    return _BOOT.get()
