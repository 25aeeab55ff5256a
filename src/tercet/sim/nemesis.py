"""Who breaks things, and when? Once a tick it throws its dice: links are cut and mended, members crash, return, freeze and
go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from tercet.sim.clock import TICK, Clock
from tercet.sim.faults import NONE, Faults
from tercet.sim.member import SimulatedMember
from tercet.sim.network import Network


class Nemesis:
    """The cause of all faults of a run. `faults` is what everybody asks; `stop` makes it all zero and mends what is broken."""

    def __init__(
        self, clock: Clock, random: Random, faults: Faults, network: Network, members: Sequence[SimulatedMember]
    ) -> None:
        self.faults = faults
        self._clock = clock
        self._random = random
        self._network = network
        self._members = members
        network.faults = faults

    def start(self) -> None:
        self._clock.after(TICK, self._tick)

    def stop(self) -> None:
        """From here on nothing breaks, and everybody is there."""
        self.faults = self._network.faults = NONE
        self._network.mend()
        for member in self._members:
            member.resume()
            if not member.is_up:
                member.start()

    def _tick(self) -> None:
        if self.faults is NONE:
            return
        self._clock.after(TICK, self._tick)
        if self._network.is_cut:
            if self._happens(self.faults.mend):
                self._network.mend()
        elif self._happens(self.faults.cut) and len(self._members) > 1:
            self._network.cut([member.id for member in self._members])
        for member in self._members:
            self._trouble(member)

    def _trouble(self, member: SimulatedMember) -> None:
        faults = self.faults
        if not member.is_up:
            if self._happens(faults.restart):
                member.start()
        elif member.is_paused:
            if self._happens(faults.resume):
                member.resume()
        elif self._happens(faults.crash):
            member.crash()
        elif self._happens(faults.pause):
            member.pause()
        elif self._happens(faults.transfer):
            member.transfer_leadership(self._random.choice(self._members).id)
        elif self._happens(faults.compact):
            member.compact(self._random.randrange(10))

    def _happens(self, chance: float) -> bool:
        return self._random.random() < chance
