"""Simulated tests of code that uses a cluster: real members, our client and the caller's coroutines, in virtual time.

    from tercet.simulation import World, sim_test

    @sim_test(seeds=200)
    async def test_counter(world: World) -> None:
        etcd = await world.etcd(size=3)
        ...

A seed determines latencies, faults and the order of callbacks; one that fails is run again with the same result.
"""

from tercet.simulation.cluster import SimulatedCluster, SimulatedMember
from tercet.simulation.hosts import Host
from tercet.simulation.loop import Deadlock
from tercet.simulation.nemesis import KINDS
from tercet.simulation.testing import NotDeterministic, SeedFailed, check_determinism, run_seed, sim_test
from tercet.simulation.world import World

__all__ = [
    "KINDS",
    "Deadlock",
    "Host",
    "NotDeterministic",
    "SeedFailed",
    "SimulatedCluster",
    "SimulatedMember",
    "World",
    "check_determinism",
    "run_seed",
    "sim_test",
]
