"""Days of a cluster and its clients in virtual time: members crash, stop and are cut off, leaders change, history is compacted;
clients hold locks and leases, lead elections, count and watch. What they were promised is checked all the time and at the end.

    python -m tests.client.soak --hours 72 --seed 0        # `make soak-clients`

Members send heartbeats once a second: an idle cluster costs little, and three days take minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

import tercet
from tercet import AsyncClient
from tercet.client.recipes.repeating import until_known
from tercet.embed.settings import Setting
from tercet.simulation import SimulatedCluster, World, run_seed
from tests.client.lock_history import LockHistory

CONFIG: dict[str, Setting] = {
    "heartbeat_interval": 1000,
    "election_timeout": 5000,
    "warning_unary_request_duration": "1h",  # how often calls are looked at follows from these two
    "warning_apply_duration": "1h",
}
LEASE_SECONDS = 20
HOUR = 3600.0


@dataclass
class Soak:
    """What clients did, and what they were told."""

    world: World
    etcd: SimulatedCluster
    until: float
    locks: LockHistory
    report: Callable[[str], object]
    added: int = 0
    perhaps_added: int = 0
    leading: set[int] = field(default_factory=set)
    terms: list[int] = field(default_factory=list)
    watched: int = 0
    resumes: int = 0
    logged: list[int] = field(default_factory=list)
    leases: int = 0
    lost_leases: int = 0
    moves: int = 0

    @property
    def summary(self) -> str:
        faults = sum(not text.startswith("end of") for _, text in self.world.trace)
        increments = f"{self.added} to {self.added + self.perhaps_added} increments"
        return (
            f"{self.world.now / HOUR:.1f} h: {faults} faults, {self.moves} leaders moved, {len(self.locks.holdings)} locks, "
            f"{len(self.terms)} elections, {self.lost_leases} of {self.leases} leases lost, {increments}, "
            f"{self.watched} events over {self.resumes} resumes, {self.world.network.messages} messages"
        )

    @property
    def is_over(self) -> bool:
        return self.world.now >= self.until

    async def repeat(self, work: Callable[[AsyncClient, int], Awaitable[None]], number: int, pause: float) -> None:
        async with self.etcd.client() as client:
            while not self.is_over:
                await work(client, number)
                await asyncio.sleep(self.world.random.uniform(0, 2 * pause))

    async def hold(self, client: AsyncClient, number: int) -> None:
        await self.locks.hold(client, number, seconds=self.world.random.uniform(0, 30))

    async def count(self, client: AsyncClient, number: int) -> None:
        """One more, by a compare: an answer that is lost leaves it open."""
        with suppress(tercet.TercetError):
            kv = await client.get("counter")
            try:
                if kv is None:
                    is_added = await client.put_if_absent("counter", "1")
                else:
                    is_added = await client.replace("counter", kv.value, str(int(kv.value) + 1))
                self.added += is_added
            except tercet.Indeterminate:
                self.perhaps_added += 1

    async def lead(self, client: AsyncClient, number: int) -> None:
        with suppress(tercet.TercetError):
            async with client.election("election", ttl_seconds=LEASE_SECONDS).lead(f"{number}") as election:
                assert not self.leading, f"{number} leads beside {self.leading}"
                self.leading.add(number)
                self.terms.append(election.token)
                try:
                    await asyncio.sleep(self.world.random.uniform(0, 60))
                finally:
                    self.leading.discard(number)

    async def keep(self, client: AsyncClient, number: int) -> None:
        """A key under a lease is there while the client believes to have the lease."""
        key = f"service/{number}"
        self.leases += 1
        try:
            async with client.lease(LEASE_SECONDS) as lease:
                await client.put(key, "up", lease=lease)
                for _ in range(self.world.random.randrange(20)):
                    await asyncio.sleep(10)
                    asked = self.world.now
                    found = await client.get(key)
                    assert found is not None or lease.is_lost, f"{key} is gone, asked at {asked}"
        except tercet.LeaseLost:
            self.lost_leases += 1
        except tercet.TercetError:
            pass

    async def watch(self) -> None:
        """Every change once and in order, over all faults."""
        async with self.etcd.client() as client:
            last = 0
            watcher = client.watch("", prefix=True, since=1)
            async for batch in watcher:
                if not batch.events:
                    continue
                assert batch.revision > last, f"revision {batch.revision} after {last}"
                last, self.resumes = batch.revision, watcher.resumes
                self.watched += len(batch.events)
                self.logged += [int(event.value) for event in batch if event.key == b"log"]
                if any(event.key == b"end" for event in batch):
                    return

    async def operate(self) -> None:
        """Leaders are moved, history is compacted an hour later."""
        async with self.etcd.client(timeout=30) as client:
            while not self.is_over:
                revision = 0
                with suppress(tercet.TercetError):
                    revision = (await client.maintenance.status()).header.revision
                for _ in range(4):
                    await asyncio.sleep(min(HOUR / 4, max(0, self.until - self.world.now)))
                    with suppress(tercet.TercetError):
                        await self.move_leader()
                with suppress(tercet.TercetError):
                    await client.compact(revision)
                self.report(self.summary)

    async def move_leader(self) -> None:
        leader = self.etcd.leader
        if leader is None:
            return
        async with AsyncClient(leader.endpoint, timeout=30) as client:
            status = await client.maintenance.status()
            others = [member.id for member in await client.cluster.list_members() if member.id != status.header.member_id]
            await client.maintenance.move_leader(self.world.random.choice(others))
            self.moves += 1

    async def check(self) -> None:
        """After the faults."""
        self.locks.check_exclusion()
        assert self.terms == sorted(set(self.terms)), "an election has a token that is not above the last one"
        assert self.logged == sorted(set(self.logged)), "a write under a lock happened twice, or out of order"
        assert set(self.locks.acknowledged) <= set(self.logged) <= set(self.locks.acknowledged) | set(self.locks.unknown)
        async with self.etcd.client(timeout=60) as client:
            counter = await client.get("counter")
            assert counter is not None
            assert self.added <= int(counter.value) <= self.added + self.perhaps_added
            deadline = self.world.now + 10 * LEASE_SECONDS
            while leases := await client.list_leases():
                assert self.world.now < deadline, f"leases {leases} have not ended"
                await asyncio.sleep(1)
            left = {kv.key for kv in await client.get_prefix("")}
            assert left <= {b"counter", b"log", b"end"}, left
            revision = (await client.put("end", "again")).header.revision
        hashes = set()
        for member in self.etcd.members:
            async with AsyncClient(member.endpoint, timeout=60) as client:
                await client.get("end")  # the member has applied it
                hashes.add((await client.maintenance.hash_kv(revision)).hash)
        assert len(hashes) == 1, "the members' stores differ"


async def soak(world: World, seconds: float, report: Callable[[str], object]) -> Soak:
    etcd = await world.etcd(size=3, config=CONFIG)
    locks = LockHistory(clock=lambda: world.now, ttl_seconds=LEASE_SECONDS)
    state = Soak(world, etcd, world.now + seconds, locks, report)
    watching = world.host("watcher").start(state.watch())
    work = [(state.hold, 30.0), (state.count, 20.0), (state.lead, 30.0), (state.keep, 60.0)]
    async with world.nemesis(etcd, every=(30, 600), lasting=(1, 60)):
        tasks = [
            world.host(f"{one.__name__}{number}").start(state.repeat(one, number, pause))
            for one, pause in work
            for number in (1, 2)
        ]
        tasks.append(world.host("operator").start(state.operate()))
        for task in tasks:
            await task
    async with etcd.client(timeout=60) as client:
        await until_known(lambda: client.put("end", ""))
    await watching
    await state.check()
    return state


def run(hours: float, seed: int, report: Callable[[str], object] = lambda text: None) -> Soak:
    """report: called with what has happened after each hour. Raises SeedFailed."""
    found: list[Soak] = []

    async def scenario(world: World) -> None:
        found.append(await soak(world, hours * HOUR, report))

    run_seed(scenario, seed, limit_seconds=(hours + 2) * HOUR)
    return found[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=72.0, help="virtual hours (default: 72)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    processor = time.process_time  # time itself is the world's while it runs
    began = processor()

    def report(text: str) -> None:
        print(f"{processor() - began:6.0f} s  {text}", flush=True)

    report(run(arguments.hours, arguments.seed, report).summary)


if __name__ == "__main__":
    main()
