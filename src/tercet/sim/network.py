"""Links between members: they lose, delay, duplicate and reorder messages, and can be cut in one direction or both.

Links are worse than TCP on purpose: raft must not need order. One property of TCP is kept: a forwarded proposal arrives at most
once, since a second copy would be indistinguishable from another request. Messages are copied, so that members share no memory.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from tercet.raft.types import Message, MessageType
from tercet.sim.clock import MICROSECONDS, MILLISECOND, Clock
from tercet.sim.faults import Faults
from tercet.sim.trace import Trace, describe
from tercet.storage.interfaces import Bucket


class Packet(NamedTuple):
    """A message and, with a snapshot, its database."""

    message: Message
    database: list[tuple[Bucket, bytes, bytes]] | None = None


class Network:
    """All links of one cluster. `deliver` is called when a packet arrives; `lost` when one with a database does not."""

    def __init__(
        self,
        clock: Clock,
        random: Random,
        trace: Trace,
        *,
        deliver: Callable[[Packet], None],
        lost: Callable[[Packet], None],
    ) -> None:
        self.faults = Faults()
        self._clock = clock
        self._random = random
        self._trace = trace
        self._deliver = deliver
        self._lost = lost
        self._cut: set[tuple[int, int]] = set()
        self._cut_off: set[int] = set()

    @property
    def is_cut(self) -> bool:
        return bool(self._cut or self._cut_off)

    def send(self, packet: Packet) -> None:
        """Send a packet; it may arrive once, twice or never."""
        chance = self._random.random
        if self._is_broken(packet.message) or chance() < self.faults.drop:
            self._lose(packet)
            return
        self._clock.after(self._latency(), lambda: self._arrive(packet))
        if chance() < self.faults.duplicate and packet.database is None and packet.message.type != MessageType.PROP:
            self._clock.after(self._latency(), lambda: self._arrive(packet))

    def cut(self, members: list[int]) -> None:
        """Partition the members in two groups, in one direction or both; or cut only some of the pairs between the groups."""
        random = self._random
        shuffled = members[:]
        random.shuffle(shuffled)
        size = random.randint(1, len(members) - 1)
        pairs = [(a, b) for a in shuffled[:size] for b in shuffled[size:]]
        if random.random() < 0.4:
            pairs = random.sample(pairs, random.randint(1, len(pairs)))
        direction = random.choice(("both", "both", "there", "back"))
        if direction != "back":
            self._cut.update(pairs)
        if direction != "there":
            self._cut.update((b, a) for a, b in pairs)
        self._trace_cuts()

    def cut_off(self, member: int) -> None:
        """Cut one member off from all others."""
        self._cut_off.add(member)
        self._trace_cuts()

    def mend(self) -> None:
        """Let all links work again."""
        self._cut.clear()
        self._cut_off.clear()
        self._trace("net", "mended")

    def _trace_cuts(self) -> None:
        links = [f"{a}>{b}" for a, b in sorted(self._cut)] + [f"{member} off" for member in sorted(self._cut_off)]
        self._trace("net", f"cut {' '.join(links)}")

    def _is_broken(self, message: Message) -> bool:
        if (message.from_, message.to) in self._cut:
            return True
        return bool(self._cut_off) and (message.from_ in self._cut_off or message.to in self._cut_off)

    def _latency(self) -> int:
        if self.faults.delay and self._random.random() < self.faults.delay:
            return self._random.randint(MILLISECOND, 3 * MICROSECONDS)
        return self._random.randint(MILLISECOND // 5, 8 * MILLISECOND)

    def _arrive(self, packet: Packet) -> None:
        message = packet.message
        if self._is_broken(message):
            self._lose(packet)
            return
        self._deliver(Packet(message.copy(), packet.database))

    def _lose(self, packet: Packet) -> None:
        if self._trace.is_on and packet.message.type not in (MessageType.HEARTBEAT, MessageType.HEARTBEAT_RESP):
            self._trace("net", f"loses {describe(packet.message)}")
        if packet.database is not None:
            self._lost(packet)
