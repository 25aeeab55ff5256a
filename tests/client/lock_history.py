"""What holders of one lock do and see, and whether it was exclusive: recorded, then checked."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import tercet
from tercet import AsyncClient


@dataclass
class Holding:
    """Times on one monotonic clock: when `acquire` returned, and when the holder gave up or was told of the loss."""

    worker: int
    token: int
    acquired: float
    released: float = 0.0


class LockHistory:
    """Workers contend for one lock, and write under it with its guard."""

    def __init__(self, *, clock: Callable[[], float], ttl_seconds: int) -> None:
        self._clock = clock
        self._ttl_seconds = ttl_seconds
        self.holdings: list[Holding] = []
        self.acknowledged: list[int] = []
        self.unknown: list[int] = []

    def count(self, worker: int) -> int:
        return sum(holding.worker == worker for holding in self.holdings)

    async def hold(self, client: AsyncClient, worker: int, seconds: float = 0.02) -> None:
        """Acquire, write, hold for a while, release. Errors of the cluster end it."""
        lock = client.lock("l", ttl_seconds=self._ttl_seconds)
        holding: Holding | None = None
        try:
            async with lock:
                holding = Holding(worker, lock.token, self._clock())
                self.holdings.append(holding)
                try:
                    await client.txn(then=[client.put_op("log", str(lock.token))], guard=lock)
                    self.acknowledged.append(lock.token)
                except tercet.Indeterminate:
                    self.unknown.append(lock.token)
                await asyncio.sleep(seconds)
                holding.released = self._clock()
        except tercet.TercetError:
            await asyncio.sleep(seconds)
        finally:
            if holding is not None and not holding.released:
                holding.released = self._clock()

    def check_exclusion(self) -> None:
        """No two holders at a time, none told too late that its lease is lost; tokens rise in the order of time."""
        ordered = sorted(self.holdings, key=lambda holding: holding.acquired)
        for one, next_one in itertools.pairwise(ordered):
            assert one.released <= next_one.acquired, f"{one} and {next_one} overlap"
            assert one.token < next_one.token, f"{one} has a token that is not below that of {next_one}"

    async def check_log(self, client: AsyncClient) -> None:
        """The guarded writes, as the store's history has them: in the order of tokens, each acknowledged one there."""
        written: list[int] = []
        first = await client.get("log")
        assert first is not None
        async for batch in client.watch("log", since=first.create_revision):
            written += [int(event.value) for event in batch]
            if batch.revision == first.mod_revision:
                break
        assert written == sorted(written)
        assert set(self.acknowledged) <= set(written) <= set(self.acknowledged) | set(self.unknown)
        assert len(written) == len(set(written)), "a guarded write happened twice"
