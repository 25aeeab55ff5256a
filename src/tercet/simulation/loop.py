"""An event loop in virtual time, on a simulated network.

Nothing waits: when no callback is ready, the clock moves to the next timer. What would make a run depend on the machine, such
as threads, sockets of the kernel or signals, is refused with a sentence that says so.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import socket
import threading
from collections.abc import Callable
from random import Random
from typing import Any

from tercet.errors import TercetError
from tercet.simulation.hosts import boot_of, current_boot
from tercet.simulation.network import Network

_LATE_SECONDS = 1e-6  # timers of real loops are late as well; code may rely on a deadline having passed


class Deadlock(TercetError):
    """Every task waits for something that cannot happen any more."""


class VirtualLoop(asyncio.BaseEventLoop):
    """random: chooses the order of callbacks of different hosts that are ready at the same time; each host keeps its own order.

    steps_max: callbacks to run before the run counts as endless.
    """

    def __init__(self, network: Network, random: Random, *, steps_max: int = 50_000_000) -> None:
        super().__init__()
        self._now = 0.0
        self._thread = threading.get_ident()
        self._clock_resolution = 1e-9
        self._random = random
        self._steps_left = steps_max
        self._ready: Any
        self._scheduled: list[asyncio.TimerHandle]
        self.limit_seconds = math.inf  # of virtual time; not a timer, which would hide a deadlock
        self.network = network
        network.loop, network.run_soon = self, self._ready.extend

    def time(self) -> float:
        """Virtual seconds since the world began."""
        return self._now

    def create_task(self, coro: Any, *, context: Any = None, **options: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = super().create_task(coro, context=context, **options)
        boot = boot_of(context) if context is not None else current_boot()
        if boot is not None:
            boot.tasks.add(task)
            task.add_done_callback(boot.tasks.discard)
        return task

    def _run_once(self) -> None:
        self._steps_left -= 1
        if self._steps_left < 0:
            raise Deadlock("the simulation does not end: it ran too many turns")
        scheduled, ready = self._scheduled, self._ready
        while scheduled and scheduled[0].cancelled():
            heapq.heappop(scheduled)._scheduled = False  # type: ignore[attr-defined]
        if not ready:
            if not scheduled:
                raise Deadlock("all tasks wait, and no timer or message is left that could wake one")
            self._now = max(self._now, scheduled[0].when() + _LATE_SECONDS)
            if self._now > self.limit_seconds:
                self._now = self.limit_seconds
                raise TimeoutError(f"the scenario has not ended after {self.limit_seconds:g} virtual seconds")
        while scheduled and scheduled[0].when() <= self._now:
            timer = heapq.heappop(scheduled)
            timer._scheduled = False  # type: ignore[attr-defined]
            ready.append(timer)
        for handle in self._interleaved([ready.popleft() for _ in range(len(ready))]):
            if handle.cancelled():
                continue
            boot = boot_of(handle._context)  # type: ignore[attr-defined]
            if boot is None or boot.admits(handle):
                handle._run()

    def _interleaved(self, handles: list[asyncio.Handle]) -> list[asyncio.Handle]:
        """The callbacks in an order that keeps that of each host."""
        queues: dict[int, list[asyncio.Handle]] = {}
        for handle in handles:
            queues.setdefault(id(boot_of(handle._context)), []).append(handle)  # type: ignore[attr-defined]
        if len(queues) == 1:
            return handles
        waiting = [iter(queue) for queue in queues.values()]
        lengths = [len(queue) for queue in queues.values()]
        merged = []
        while waiting:
            at = self._random.randrange(len(waiting))
            merged.append(next(waiting[at]))
            lengths[at] -= 1
            if not lengths[at]:
                del waiting[at], lengths[at]
        return merged

    def _write_to_self(self) -> None:
        pass

    def _process_events(self, event_list: Any) -> None:
        pass

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass  # cancelled timers leave when their time comes

    # --- threads

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: Any = None
    ) -> asyncio.Handle:
        if threading.get_ident() != self._thread:
            raise RuntimeError("a simulated loop was called from another thread; threads are not simulated")
        return self.call_soon(callback, *args, context=context)

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """The function runs at once, in this thread: it takes no virtual time."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    # --- the network

    async def getaddrinfo(self, host: Any, port: Any, *, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> Any:
        address = self.network.resolve(host if host is not None else "")
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, int(port or 0)))]

    async def create_connection(self, protocol_factory: Any, host: Any = None, port: Any = None, **options: Any) -> Any:
        if options.get("ssl"):
            raise NotImplementedError("TLS is not simulated: use http:// between simulated hosts")
        if options.get("sock") is not None:
            host, port = self.network.dialled(options["sock"])
        return await self.network.connect(protocol_factory, host, int(port))

    async def create_server(self, protocol_factory: Any, host: Any = None, port: Any = None, **options: Any) -> Any:
        if options.get("ssl"):
            raise NotImplementedError("TLS is not simulated: use http:// between simulated hosts")
        if options.get("sock") is not None:
            host, port = options["sock"].getsockname()[:2]
        return self.network.listen(protocol_factory, host, int(port or 0))

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """The socket stays unconnected; `create_connection(sock=...)` then connects to the simulated address."""
        await self.network.reach(sock, *address[:2])

    async def create_unix_connection(self, protocol_factory: Any, path: Any = None, **options: Any) -> Any:
        raise NotImplementedError("Unix sockets are not simulated: use TCP between simulated hosts")

    async def create_unix_server(self, protocol_factory: Any, path: Any = None, **options: Any) -> Any:
        raise NotImplementedError("Unix sockets are not simulated: use TCP between simulated hosts")

    async def create_datagram_endpoint(self, protocol_factory: Any, *args: Any, **options: Any) -> Any:
        raise NotImplementedError("datagrams are not simulated")

    async def subprocess_exec(self, *args: Any, **options: Any) -> Any:
        raise NotImplementedError("processes are not simulated: run coroutines on hosts")

    async def subprocess_shell(self, *args: Any, **options: Any) -> Any:
        raise NotImplementedError("processes are not simulated: run coroutines on hosts")
