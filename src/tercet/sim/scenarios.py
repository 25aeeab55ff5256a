"""Sequences of faults that single ones would rarely form, each aimed at one kind of mistake.

usurp    a deposed leader with many entries that nobody else has returns as its successor crashes, or once the successor's log
         begins after the point where the two differ
starve   a follower whose log is ahead of its commit index gets a snapshot from before the end of its log, while appends are
         lost; perhaps its leader changes meanwhile, or its database is damaged before the snapshot is staged
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from tercet.raft.types import MessageType
from tercet.sim.clock import MILLISECOND, TICK, Clock
from tercet.sim.member import SimulatedMember
from tercet.sim.network import Network

_STREAMS: Final = (
    frozenset((MessageType.APP,)),
    frozenset((MessageType.APP, MessageType.HEARTBEAT)),
)
_ASKS: Final = 8  # the first opens a view, and a later one sends it


class Scenarios:
    """The sequences that one nemesis begins. burst: sends many requests to a member; set before the first begins."""

    def __init__(
        self,
        clock: Clock,
        random: Random,
        network: Network,
        members: Sequence[SimulatedMember],
        *,
        in_fault_phase: Callable[[], bool],
    ) -> None:
        self.burst: Callable[[SimulatedMember], None]
        self._clock = clock
        self._random = random
        self._network = network
        self._members = members
        self._in_fault_phase = in_fault_phase

    def usurp(self) -> None:
        """Cut off a leader whose clients go on; some time later it returns."""
        deposed, random = self._leader(), self._random
        if deposed is None:
            return
        self._network.cut_off(deposed.id)
        self.burst(deposed)
        if random.random() < 0.5:
            self._later(random.randint(12, 25) * TICK, self._return_as_the_successor_crashes)
        else:
            self.burst(deposed)
            self.burst(deposed)
            self._later(random.randint(20, 35) * TICK, lambda: self._return_after_compaction(deposed))

    def _return_as_the_successor_crashes(self) -> None:
        for member in self._members:
            if member.replica is not None and member.replica.is_leader:
                member.crash()
        self._network.mend()

    def _return_after_compaction(self, deposed: SimulatedMember) -> None:
        for member in self._members:
            if member is not deposed and member.replica is not None and member.replica.is_leader:
                self.burst(member)
        self._later(self._random.randint(2, 10) * TICK, self._network.mend)

    def starve(self) -> None:
        """Let a follower, in the middle of many requests, get nothing of its leader but a snapshot that it asks for."""
        leader, random = self._leader(), self._random
        followers = [member for member in self._members if member.is_up and member is not leader]
        if leader is None or not followers:
            return
        follower = random.choice(followers)
        kinds = random.choice(_STREAMS)
        if random.random() < 0.4:
            self._later(random.randint(0, 50) * MILLISECOND, lambda: self._hand_over(leader, follower))
            kinds = _STREAMS[0]  # the heartbeats of the new leader arrive
        self.burst(leader)
        self._later(random.randint(0, 50) * MILLISECOND, lambda: self._network.starve(follower.id, kinds))
        self._ask(follower, _ASKS)
        self._later(random.randint(100, 1500) * MILLISECOND, lambda: self._network.feed(follower.id))
        if random.random() < 0.3:
            self._later(random.randint(100, 1500) * MILLISECOND, lambda: self._rot(follower))

    def _hand_over(self, leader: SimulatedMember, starved: SimulatedMember) -> None:
        others = [member.id for member in self._members if member not in (leader, starved)]
        if others:
            leader.operator.transfer_leadership(self._random.choice(others))

    def _ask(self, member: SimulatedMember, times: int) -> None:
        member.operator.ask_snapshot()
        if times > 1:
            self._later(self._random.randint(5, 40) * MILLISECOND, lambda: self._ask(member, times - 1))

    def _rot(self, member: SimulatedMember) -> None:
        if all(one.backend.rot.key is None for one in self._members):
            member.rot_record()

    def _leader(self) -> SimulatedMember | None:
        return next((member for member in self._members if member.replica is not None and member.replica.is_leader), None)

    def _later(self, delay: int, act: Callable[[], None]) -> None:
        """The recovery phase may begin before."""

        def run() -> None:
            if self._in_fault_phase():
                act()

        self._clock.after(delay, run)
