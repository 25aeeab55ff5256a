"""A world: hosts, their network, virtual time, and chance, all determined by a seed.

    async def scenario(world: World) -> None:
        etcd = await world.etcd(size=3)
        shop = world.host("shop")
        async with world.nemesis(etcd):
            await shop.run(sell(etcd.endpoints))

    World(seed=17).run(scenario)

What runs here must be plain asyncio: coroutines, streams, our client. Threads, processes, TLS and extension modules with
sockets or clocks of their own, uvloop and grpcio among them, are not simulated.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Any, TypeVar, cast

from tercet.embed.settings import Setting
from tercet.simulation.cluster import SimulatedCluster
from tercet.simulation.determinism import deterministic
from tercet.simulation.hosts import Host
from tercet.simulation.loop import VirtualLoop
from tercet.simulation.nemesis import KINDS, Nemesis
from tercet.simulation.network import Network

Result = TypeVar("Result")

_CLOSING_SECONDS = 30.0


class World:
    """latency_seconds: bounds of the latency of each message. limit_seconds: virtual time after which a run fails."""

    def __init__(
        self, seed: int, *, latency_seconds: tuple[float, float] = (0.0002, 0.002), limit_seconds: float = 3600.0
    ) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.network = Network(Random(self.random.getrandbits(64)), latency_seconds)
        self.trace: list[tuple[float, str]] = []
        """(virtual seconds, what happened): faults, and what the scenario notes itself."""
        self._limit_seconds = limit_seconds
        self._loop = VirtualLoop(self.network, Random(self.random.getrandbits(64)))
        self._clusters: list[SimulatedCluster] = []

    # --- for scenarios

    @property
    def now(self) -> float:
        """Virtual seconds since the world began."""
        return self._loop.time()

    def host(self, name: str) -> Host:
        """The host of this name, added if there is none."""
        return self.network.hosts.get(name) or self.network.add_host(name)

    def crash(self, host: Host) -> None:
        """End all that runs on a host, without its `finally` blocks; its connections break."""
        boot = host.boot
        host.crash()
        self.network.host_crashed(boot)

    async def etcd(self, size: int = 3, *, name: str = "etcd", config: Mapping[str, Setting] | None = None) -> SimulatedCluster:
        """Start a cluster; its members are hosts of their own: etcd0, etcd1, ..."""
        cluster = SimulatedCluster(self.network, size, config, name=name)
        self._clusters.append(cluster)
        await cluster.start()
        return cluster

    @asynccontextmanager
    async def nemesis(
        self,
        cluster: SimulatedCluster,
        kinds: Sequence[str] = KINDS,
        *,
        every: tuple[float, float] = (1.0, 5.0),
        lasting: tuple[float, float] = (0.2, 5.0),
    ) -> AsyncIterator[None]:
        """Within the block, faults happen to members of `cluster`; at its end all are undone and all members run."""
        nemesis = Nemesis(cluster, Random(self.random.getrandbits(64)), self.note, kinds=kinds, every=every, lasting=lasting)
        task = asyncio.get_running_loop().create_task(nemesis.run(), name="nemesis")
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await cluster.restore()

    def note(self, text: str) -> None:
        """Add a line to the trace."""
        self.trace.append((self.now, text))

    # --- running

    def run(self, scenario: Callable[[World], Awaitable[Result]]) -> Result:
        """Run a scenario to its end, once. Raises what it raises, Deadlock, and TimeoutError at the limit of virtual time."""
        loop = self._loop

        async def main() -> Result:
            return await scenario(self)

        loop.limit_seconds = self._limit_seconds

        with deterministic(Random(self.random.getrandbits(64)), loop.time):
            try:
                result = loop.run_until_complete(main())
                for cluster in self._clusters:
                    cluster.check()
                return result
            finally:
                self._close()

    def _close(self) -> None:
        """Cancel what still runs, and drop what does not end."""
        loop = self._loop
        loop.limit_seconds = math.inf
        self.network.close()
        for host in self.network.hosts.values():
            host.is_paused = False
        tasks = sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name())
        for task in tasks:
            task.cancel()
        dead = set().union(*(host.dead for host in self.network.hosts.values()))
        ending = _all_ended([task for task in tasks if task not in dead])
        with suppress(BaseException):
            loop.run_until_complete(ending)
        ending.close()
        for task in tasks:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                with suppress(BaseException):  # its `finally` blocks find a closed network
                    cast(Coroutine[Any, Any, Any], task.get_coro()).close()
        asyncio.set_event_loop(None)
        loop.close()

    @property
    def digest(self) -> int:
        """A checksum of every delivery of the network and its time: equal for two runs of a seed."""
        return self.network.digest


async def _all_ended(tasks: Sequence[asyncio.Task[Any]]) -> None:
    if tasks:
        await asyncio.wait(tasks, timeout=_CLOSING_SECONDS)
