"""Sequences of faults that single ones would rarely form, each aimed at one kind of mistake.

usurp    a deposed leader gets reads while its successor serves writes; with many entries that nobody else has it returns as the
         successor crashes, or once it needs a snapshot of the successor, whose log begins after the point where the two differ,
         or asks for one; it may crash installing it
starve   a follower whose log is ahead of its commit index gets a snapshot from before the end of its log, while appends are
         lost; perhaps its leader changes meanwhile, or its database is damaged before the snapshot is staged
rot      a record is damaged as many entries are applied that may read it
operand  the current value of a key is damaged as entries are applied whose effects it decides: they wait for another database
promote  a member leads whose database is ahead of its log, while others ask for a snapshot of it
split    during a joint change a quorum of the incoming voters is alone, which may elect nobody

They look into the members, to begin when the state is there that they need.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from tercet.mvcc.encoding import REVISION_BYTES
from tercet.raft import confchange
from tercet.raft.types import MessageType
from tercet.sim.clock import MILLISECOND, TICK, Clock
from tercet.sim.database_file import can_lead_without, has_pending_change
from tercet.sim.member import SimulatedMember
from tercet.sim.network import Network
from tercet.sim.workload import SET_KEYS

_STREAMS: Final = (
    frozenset((MessageType.APP,)),
    frozenset((MessageType.APP, MessageType.HEARTBEAT)),
)
_COMPACTION_TICKS: Final = 45
_TWO_LEADERS: Final = 50  # looks, two a tick
_SLOW_APPLY: Final = 10 * TICK
_LEADER_TICKS: Final = 30
_POLLS: Final = 300  # one a millisecond
_ASKS: Final = 8  # the first opens a view, and a later one sends it


def rot_record(
    member: SimulatedMember,
    members: Sequence[SimulatedMember],
    *,
    is_found_at_once: bool = False,
    record: bytes | None = None,
) -> bool:
    """Damage a record of a database, if another member has a good copy. Returns whether that is so."""
    may_rot = member.replica is not None and len(member.replica.raft.conf_state.voters) > 1 and has_sound_databases(members)
    if may_rot:
        member.database.rot(is_found_at_once=is_found_at_once, record=record)
    return may_rot


def has_sound_databases(members: Sequence[SimulatedMember]) -> bool:
    """Whether no member of the cluster is without its database."""
    return all(member.database.is_sound for member in members if not member.is_removed)


def others_can_lead(member: SimulatedMember, members: Sequence[SimulatedMember]) -> bool:
    """Whether one of the others can be elected while `member` is without its database, now and soon.

    By the configurations of all: one may not have applied yet what another one has, and may be needed to elect a leader.
    """
    others = [one for one in members if not one.is_removed]
    if any(one.had_pending_change if one.replica is None else has_pending_change(one.replica.raft) for one in others):
        return False
    confs = [one.conf_state if one.replica is None else one.replica.raft.conf_state for one in others]
    return all(
        # The only voter could be joined by this member, by a proposal that is on its way.
        len(conf.voters) > 1 and can_lead_without(member.id, conf, conf) and member.id in confchange.members(conf)
        for conf in confs
    )


class Scenarios:
    """The sequences that one nemesis begins. burst: sends many requests to a member, and decide a few whose effects the
    value of a key decides; set before the first begins.
    """

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
        self.decide: Callable[[SimulatedMember, bytes], None]
        self.is_holding_a_cut = False  # nobody else mends it
        self._clock = clock
        self._random = random
        self._network = network
        self._members = members
        self._in_fault_phase = in_fault_phase

    def usurp(self) -> None:
        """Cut off a leader whose clients go on; some time later it returns."""
        deposed, random = self._leader(), self._random
        if deposed is None or deposed.replica is None or self.is_holding_a_cut:
            return
        self._serve_twice(deposed, _TWO_LEADERS)
        if random.random() < 0.5 or len(deposed.replica.raft.conf_state.voters) < 3:
            self._network.cut_off(deposed.id)
            self.burst(deposed)
            self._later(random.randint(12, 25) * TICK, self._return_as_the_successor_crashes)
        else:
            self.is_holding_a_cut = True
            for _ in range(8):
                self.burst(deposed)
            self._return_for_snapshot(deposed, _COMPACTION_TICKS, asks=random.random() < 0.5)

    def _serve_twice(self, deposed: SimulatedMember, looks: int) -> None:
        """Let a deposed leader that does not know it yet get requests, as its successor serves others."""
        successor = self._leader(but=deposed)
        if successor is not None and deposed.replica is not None and deposed.replica.is_leader:
            self.burst(successor)
            self.burst(deposed)
        if looks:
            self._later(TICK // 2, lambda: self._serve_twice(deposed, looks - 1))

    def _return_as_the_successor_crashes(self) -> None:
        for member in self._members:
            if member.replica is not None and member.replica.is_leader:
                member.crash()
        self._network.mend()

    def _return_for_snapshot(self, deposed: SimulatedMember, ticks: int, *, asks: bool) -> None:
        """Let the successor serve many requests until the other one needs a snapshot of it: its log begins after the last entry
        that both have. asks: or until it has applied an entry where the other one has another; that one then asks.
        """
        successor, returning = self._leader(but=deposed), deposed.replica
        is_done = False
        if successor is not None and successor.replica is not None and returning is not None:
            log, other, applied = successor.replica.raft.log, returning.raft.log, successor.replica.applied_index
            is_done = log.first_index > returning.raft.commit_index + 1
            if asks and applied <= other.last_index:
                is_done = is_done or log.term(applied) != other.term(applied)
            if ticks % 2:
                self.burst(successor)
        if not is_done and ticks:
            self._network.cut_off_alone(deposed.id)  # other faults have cut links meanwhile
            self._wake()
            self._later(TICK, lambda: self._return_for_snapshot(deposed, ticks - 1, asks=asks))
            return
        self.is_holding_a_cut = False
        self._calm()
        deposed.slowness.crashes_in_install = is_done and self._random.random() < 0.7
        if is_done and asks:
            self._network.starve(deposed.id, _STREAMS[0])
            self._ask(deposed, 4 * _ASKS)
            self._later(self._random.randint(500, 1500) * MILLISECOND, lambda: self._network.feed(deposed.id))

    def starve(self) -> None:
        """Let a follower, in the middle of many requests, get nothing of its leader but a snapshot that it asks for."""
        if not self.is_holding_a_cut:
            self._calm()
            self._starve_when_led(_LEADER_TICKS)

    def _starve_when_led(self, ticks: int) -> None:
        leader = self._leader()
        followers = [member for member in self._members if member.is_up and member is not leader]
        if leader is not None and followers:
            self._apply_slowly()
            self.burst(leader)
            self._starve_when_ahead(leader, self._random.choice(followers), _POLLS)
        elif ticks:
            self._later(TICK, lambda: self._starve_when_led(ticks - 1))

    def _starve_when_ahead(self, leader: SimulatedMember, follower: SimulatedMember, polls: int) -> None:
        """Begin once the follower has entries that it does not know to be committed."""
        random, replica = self._random, follower.replica
        if polls == 0 or replica is None:
            return
        if replica.raft.log.last_index < replica.raft.commit_index + 2:
            self._later(MILLISECOND, lambda: self._starve_when_ahead(leader, follower, polls - 1))
            return
        kinds = random.choice(_STREAMS)
        if random.random() < 0.5:
            kinds = _STREAMS[0]  # the heartbeats of the new leader arrive
            self._hand_over(leader, follower)
        self._network.starve(follower.id, kinds)
        self._ask_when_ahead(follower, replica.raft.commit_index, _POLLS)
        if random.random() < 0.5:
            self._later(random.randint(100, 1500) * MILLISECOND, lambda: self._network.feed(follower.id))
        else:
            follower.slowness.stages = True
            self._later(random.randint(80, 250) * MILLISECOND, lambda: self._feed_and_rot(follower))

    def _ask_when_ahead(self, follower: SimulatedMember, commit: int, polls: int) -> None:
        """Ask once the leader has applied some of these entries."""
        leader = self._leader(but=follower)
        if polls == 0:
            return
        if leader is None or leader.replica is None or leader.replica.applied_index <= commit:
            self._later(MILLISECOND, lambda: self._ask_when_ahead(follower, commit, polls - 1))
        else:
            self._ask(follower, _ASKS)

    def _hand_over(self, leader: SimulatedMember, starved: SimulatedMember) -> None:
        others = [member.id for member in self._members if member not in (leader, starved)]
        if others:
            leader.operator.transfer_leadership(self._random.choice(others))

    def _ask(self, member: SimulatedMember, times: int) -> None:
        member.operator.ask_snapshot()
        if times > 1:
            self._later(self._random.randint(5, 40) * MILLISECOND, lambda: self._ask(member, times - 1))

    def _feed_and_rot(self, member: SimulatedMember) -> None:
        """Damage a record once the member has applied more than the snapshot that it is staging."""
        self._network.feed(member.id)
        self._rot_when_overtaken(member, _POLLS)

    def _rot_when_overtaken(self, member: SimulatedMember, polls: int) -> None:
        if member.replica is not None and 0 < member.slowness.staged_index < member.replica.applied_index:
            self._rot(member)
        elif polls:
            self._later(MILLISECOND, lambda: self._rot_when_overtaken(member, polls - 1))

    def rot(self, member: SimulatedMember) -> None:
        """Damage a record as many requests come, of which some read it before it is found."""
        if rot_record(member, self._members):
            self.burst(self._leader() or member)

    def rot_operand(self) -> None:
        """Damage the current value of a key as writes come whose effects it decides."""
        if not self.is_holding_a_cut:
            self._calm()
            self._rot_operand_when_led(_LEADER_TICKS)

    def _rot_operand_when_led(self, ticks: int) -> None:
        leader, key = self._leader(), self._random.choice(SET_KEYS)
        stores = [(member, member.replica.store) for member in self._members if member.replica is not None]
        records = [(member, entry) for member, store in stores if (entry := store.index.entry(key)) is not None]
        if leader is not None and records:
            member, entry = self._random.choice(records)
            if rot_record(member, self._members, record=entry[:REVISION_BYTES]):
                self.decide(leader, key)
        elif ticks:
            self._later(TICK, lambda: self._rot_operand_when_led(ticks - 1))

    def _rot(self, member: SimulatedMember) -> None:
        rot_record(member, self._members, is_found_at_once=True)

    def promote_ahead(self) -> None:
        """Make a member lead whose database holds entries that it does not know to be committed, as others ask for it."""
        leader = self._leader()
        ahead = [member for member in self._members if member.replica is not None and member.replica.is_database_ahead]
        if leader is not None and ahead and leader not in ahead:
            self._apply_slowly()
            leader.operator.transfer_leadership(ahead[0].id)
            for member in self._members:
                if member is not ahead[0]:
                    self._ask(member, 4 * _ASKS)

    def split_joint(self) -> None:
        """Part a quorum of the incoming voters, the leader not among them, from all others, for longer than elections."""
        leader = self._leader()
        if leader is None or leader.replica is None or self.is_holding_a_cut:
            return
        conf = leader.replica.raft.conf_state
        incoming = sorted((one for one in conf.voters if one != leader.id), key=lambda one: one in conf.voters_outgoing)
        side = incoming[: len(conf.voters) // 2 + 1]
        if conf.voters_outgoing and len(side) > len(conf.voters) // 2:
            self.is_holding_a_cut = True
            self._network.split(side, [member.id for member in self._members if member.id not in side])
            self._wake()
            self._later(_LEADER_TICKS * TICK, self._end_split)

    def _end_split(self) -> None:
        self.is_holding_a_cut = False
        self._network.mend()

    def _calm(self) -> None:
        """Let links and members work, so that a leader is elected and requests are committed."""
        self._network.mend()
        self._wake()

    def _wake(self) -> None:
        for member in self._members:
            member.resume()
            member.start()

    def _apply_slowly(self) -> None:
        for member in self._members:
            member.slowness.applies_until = self._clock.now + _SLOW_APPLY

    def _leader(self, *, but: SimulatedMember | None = None) -> SimulatedMember | None:
        leaders = (member for member in self._members if member.replica is not None and member.replica.is_leader)
        return next((member for member in leaders if member is not but), None)

    def _later(self, delay: int, act: Callable[[], None]) -> None:
        """The recovery phase may begin before."""

        def run() -> None:
            if self._in_fault_phase():
                act()

        self._clock.after(delay, run)
