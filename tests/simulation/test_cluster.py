"""Real members and our client in a world: what it is for."""

from __future__ import annotations

import asyncio

import pytest

import tercet
from tercet.sim import World as WorldOfSim
from tercet.simulation import SeedFailed, SimulatedCluster, World, check_determinism, run_seed


async def write(world: World, etcd: SimulatedCluster, name: str, until: float) -> list[int]:
    """Puts of rising numbers; returns those that were acknowledged."""
    acknowledged = []
    async with etcd.client() as client:
        number = 0
        while world.now < until:
            number += 1
            try:
                await client.put(name, str(number))
            except tercet.TercetError as error:
                world.note(f"{name}: {type(error).__name__}")
            else:
                acknowledged.append(number)
            await asyncio.sleep(0.1)
    return acknowledged


async def under_faults(world: World) -> None:
    """No acknowledged write is lost, and writing goes on after the faults."""
    etcd = await world.etcd(size=3)
    async with world.nemesis(etcd):
        writers = [world.host(name).start(write(world, etcd, name, world.now + 30)) for name in ("a", "b")]
        written = [await writer for writer in writers]
    async with etcd.client(timeout=30) as client:
        for name, acknowledged in zip(("a", "b"), written, strict=True):
            kv = await client.get(name)
            assert kv is not None
            assert int(kv.text()) >= acknowledged[-1], name
    assert len({member.revision for member in etcd.members if member.is_leader}) == 1


@pytest.mark.parametrize("seed", range(4))
def test_acknowledged_writes_survive_faults(seed: int) -> None:
    world = run_seed(under_faults, seed)
    assert world.trace, "there were faults"


def test_a_seed_with_faults_is_deterministic() -> None:
    check_determinism(under_faults, 11)


def test_a_member_that_is_starting_is_not_started_again() -> None:
    """The nemesis may be cancelled while it starts a member; the end of its block then starts all that do not run."""

    async def scenario(world: World) -> None:
        etcd = await world.etcd(size=1)
        member = etcd.members[0]
        member.crash()
        first = asyncio.ensure_future(member.start())
        await asyncio.sleep(0)
        assert not member.is_running
        await etcd.restore()
        await first
        etcd.check()

    World(1).run(scenario)


def test_a_crashed_member_comes_back_with_what_was_acknowledged() -> None:
    async def scenario(world: World) -> None:
        etcd = await world.etcd(size=1)
        async with etcd.client() as client:
            await client.put("k", "v")
            etcd.members[0].crash()
            with pytest.raises(tercet.TercetError):
                await client.get("k", timeout=1)
            await etcd.members[0].start()
            kv = await client.get("k")
            assert kv is not None
            assert kv.text() == "v"

    assert WorldOfSim is World
    World(1).run(scenario)


async def lost_update(world: World) -> None:
    """Read, compute, write: correct only while nobody else does the same."""
    etcd = await world.etcd(size=1)

    async def add() -> None:
        async with etcd.client() as client:
            kv = await client.get("n")
            await client.put("n", str(int(kv.text()) + 1 if kv else 1))

    tasks = [world.host(name).start(add()) for name in ("a", "b")]
    for task in tasks:
        await task
    async with etcd.client() as client:
        kv = await client.get("n")
    assert kv is not None
    assert kv.text() == "2"


async def no_lost_update(world: World) -> None:
    """The same with a compare: the write happens only if nothing has changed."""
    etcd = await world.etcd(size=1)

    async def add() -> None:
        async with etcd.client() as client:
            while True:
                kv = await client.get("n")
                seen, number = (kv.mod_revision, int(kv.text())) if kv else (0, 0)
                if await client.txn(when=[client.mod_revision("n") == seen], then=[client.put_op("n", str(number + 1))]):
                    return

    tasks = [world.host(name).start(add()) for name in ("a", "b")]
    for task in tasks:
        await task
    async with etcd.client() as client:
        kv = await client.get("n")
    assert kv is not None
    assert kv.text() == "2"


class Disk:
    """A resource outside of the cluster. With `checks_tokens` it refuses writers that have lost the lock."""

    def __init__(self, checks_tokens: bool) -> None:
        self._checks_tokens = checks_tokens
        self._newest = 0
        self.value = 0

    def write(self, value: int, token: int) -> bool:
        if self._checks_tokens and token < self._newest:
            return False
        self._newest = max(self._newest, token)
        self.value = value
        return True


async def acquire(client: tercet.AsyncClient, key: str) -> tuple[int, int]:
    """A lock as many programs make it: a key with a lease, and nobody told when it expires. Returns (lease, fencing token)."""
    lease = await client.grant_lease(2)
    while not (held := await client.txn(when=[client.version(key) == 0], then=[client.put_op(key, "", lease=lease.id)])):
        await asyncio.sleep(0.2)
    return lease.id, held.header.revision


async def with_lock(world: World, *, fencing: bool) -> None:
    """Two workers count on a disk, each under a lock; one of them stops for a while, as a garbage collector makes it."""
    etcd = await world.etcd(size=1)
    disk = Disk(fencing)
    counted = 0

    async def work() -> None:
        nonlocal counted
        async with etcd.client() as client:
            for _ in range(3):
                try:
                    lease, token = await acquire(client, "disk")
                    value = disk.value
                    await asyncio.sleep(0.5)
                    counted += disk.write(value + 1, token)
                    await client.revoke_lease(lease)
                except tercet.LeaseNotFound:
                    world.note("the lease has expired")

    tasks = [world.host(name).start(work()) for name in ("a", "b")]
    await asyncio.sleep(world.random.uniform(0, 4))
    world.host("a").pause()
    await asyncio.sleep(10)
    world.host("a").resume()
    for task in tasks:
        await task
    assert disk.value == counted, "an acknowledged count is lost"


def seeds_until_failure(scenario: object, seeds: int) -> int | None:
    for seed in range(seeds):
        try:
            run_seed(scenario, seed)  # type: ignore[arg-type]
        except SeedFailed as failed:
            if not isinstance(failed.__cause__, AssertionError):
                raise
            return seed
    return None


def test_a_lost_update_is_found() -> None:
    failing = seeds_until_failure(lost_update, 1000)
    assert failing is not None
    with pytest.raises(SeedFailed, match=f"seed {failing} fails"):
        run_seed(lost_update, failing)


def test_a_transaction_loses_no_update() -> None:
    assert seeds_until_failure(no_lost_update, 30) is None


def test_a_lock_without_fencing_is_found() -> None:
    async def unfenced(world: World) -> None:
        await with_lock(world, fencing=False)

    assert seeds_until_failure(unfenced, 1000) is not None


def test_a_fencing_token_makes_the_lock_safe() -> None:
    async def fenced(world: World) -> None:
        await with_lock(world, fencing=True)

    assert seeds_until_failure(fenced, 30) is None
