"""Faults at random moments, drawn from the world's chance: the same seed gives the same faults."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from tercet.simulation.cluster import SimulatedCluster, SimulatedMember

KINDS: Final = ("partition", "oneway", "pause", "crash", "delay")


class Nemesis:
    """Makes one fault at a time in `cluster`, and undoes it. every, lasting: bounds in virtual seconds.

    Raises ValueError for a kind that is none of KINDS.
    """

    def __init__(
        self,
        cluster: SimulatedCluster,
        random: Random,
        trace: Callable[[str], None],
        *,
        kinds: Sequence[str] = KINDS,
        every: tuple[float, float] = (1.0, 5.0),
        lasting: tuple[float, float] = (0.2, 5.0),
    ) -> None:
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown:
            raise ValueError(f"no fault is called {unknown[0]}; there are {', '.join(KINDS)}")
        self._cluster = cluster
        self._random = random
        self._trace = trace
        self._kinds = kinds
        self._every = every
        self._lasting = lasting

    async def run(self) -> None:
        """Until cancelled; then the last fault is undone."""
        while True:
            await asyncio.sleep(self._random.uniform(*self._every))
            kind = self._random.choice(self._kinds)
            member = self._random.choice(self._cluster.members)
            self._trace(f"{kind} {member.host.name}")
            undo = self._begin(kind, member)
            try:
                await asyncio.sleep(self._random.uniform(*self._lasting))
            finally:
                self._trace(f"end of {kind} {member.host.name}")
                starting = undo()
            if starting is not None:
                await asyncio.shield(starting)

    def _begin(self, kind: str, member: SimulatedMember) -> Callable[[], asyncio.Task[None] | None]:
        """Make a fault; returns what ends it."""
        cluster = self._cluster
        if kind in ("partition", "oneway"):
            cluster.partition([member], oneway=kind == "oneway")
            return cluster.heal
        if kind == "delay":
            for other in cluster.members:
                cluster.delay(member, other, self._random.uniform(0.02, 0.5))
            return cluster.heal
        if kind == "pause":
            member.pause()
            return member.resume
        member.crash()
        return member.start_soon
