"""Source of all faults of a run: each tick it cuts and mends links, crashes, restarts, pauses and resumes members, and proposes
transfers of leadership, compactions and changes of membership.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Final

from tercet.raft import confchange
from tercet.raft.types import ConfChange, ConfChangeType, ConfChangeV2, ConfState
from tercet.replica.membership import Member
from tercet.sim.clock import TICK, Clock
from tercet.sim.database_file import can_lead_without
from tercet.sim.faults import NONE, Faults
from tercet.sim.joint import draw_joint_change
from tercet.sim.member import SimulatedMember
from tercet.sim.network import Network
from tercet.sim.scenarios import Scenarios, has_sound_databases, others_can_lead

MEMBERS_MAX: Final = 5
_RECLAIM_CHANCE: Final = 0.05
_ASK_LEADER_CHANCE: Final = 0.7
_RECLAIM_TICKS: Final = 10
_EXPOSED_FACTOR: Final = 10


class Nemesis:
    """`faults` are the probabilities in force; `stop` sets them all to zero and repairs what is broken."""

    def __init__(
        self,
        clock: Clock,
        random: Random,
        faults: Faults,
        network: Network,
        members: Sequence[SimulatedMember],
        *,
        joint_changes: bool,
    ) -> None:
        self.faults = faults
        self._clock = clock
        self._random = random
        self._network = network
        self._members = members
        self._newest_id = len(members)
        self._joint_changes = joint_changes
        self._scenarios = Scenarios(clock, random, network, members, in_fault_phase=lambda: self.faults is not NONE)
        network.faults = faults

    def start(self, burst: Callable[[SimulatedMember], None], decide: Callable[[SimulatedMember, bytes], None]) -> None:
        """burst, decide: see `Scenarios`."""
        self._scenarios.burst, self._scenarios.decide = burst, decide
        self._clock.after(TICK, self._tick)

    def stop(self) -> None:
        """End all faults: links work, all members run."""
        self.faults = self._network.faults = NONE
        self._network.mend()
        for member in self._members:
            member.resume()
            _repair(member)
            # No other member may have a good copy: those that run may have been added just now.
            member.database.backend.rot.key = None
            if not member.is_up:
                member.start()

    def _tick(self) -> None:
        if self.faults is NONE:
            # Some alarms are left to the operator: of members that were removed, or whose database was restored.
            self._clock.after(_RECLAIM_TICKS * TICK, self._tick)
            running = [member for member in self._members if member.serves_clients]
            if running:
                self._random.choice(running).operator.reclaim_space()
            return
        self._clock.after(TICK, self._tick)
        if self._network.is_cut:
            if self._happens(self.faults.mend) and not self._scenarios.is_holding_a_cut:
                self._network.mend()
        elif self._happens(self.faults.cut) and len(self._members) > 1:
            self._cut()
        for member in self._members:
            self._disturb(member)
        if self._happens(self.faults.usurp):
            self._scenarios.usurp()
        if self._happens(self.faults.starve):
            self._scenarios.starve()
        if self._happens(self.faults.rot_operand):
            self._scenarios.rot_operand()
        if self._happens(self.faults.promote_ahead):
            self._scenarios.promote_ahead()
        if self._joint_changes and self._happens(self.faults.split_joint):
            self._scenarios.split_joint()
        if self._happens(self.faults.reconfigure * (3 if self._joint_changes else 1)):
            self._reconfigure(self._asked_to_reconfigure())

    def _leaders(self) -> list[SimulatedMember]:
        return [member for member in self._members if member.replica is not None and member.replica.raft.is_leader]

    def _asked_to_reconfigure(self) -> SimulatedMember:
        """Any member; mostly a leader for a joint change, as others know too little to propose one that is accepted, and if a
        member is without its database (see `_can_lead_after`).
        """
        leaders = self._leaders() if self._joint_changes or not has_sound_databases(self._members) else []
        if leaders and self._happens(_ASK_LEADER_CHANCE):
            return self._random.choice(leaders)
        return self._random.choice(self._members)

    def _cut(self) -> None:
        leaders = [member.id for member in self._leaders()]
        if leaders and self._happens(self.faults.cut_leader):
            self._network.cut_off(self._random.choice(leaders))
        else:
            self._network.cut([member.id for member in self._members])

    def _disturb(self, member: SimulatedMember) -> None:
        faults = self.faults
        if not member.is_up:
            if self._happens(faults.restart):
                if self._happens(0.5):
                    _repair(member)
                member.start()
            elif self._happens(
                faults.lose_database * (_EXPOSED_FACTOR if member.database.is_exposed else 1)
            ) and self._may_lose_database(member):
                member.database.lose()
        elif member.process.is_paused:
            if self._happens(faults.resume):
                member.resume()
        elif self._happens(faults.crash):
            self._random.choice((member.crash, member.crash_in_write))()
        elif self._happens(faults.kill):
            member.kill()
        elif self._happens(faults.pause):
            member.pause()
        elif self._happens(faults.unreachable):
            other = self._random.choice(self._members).id
            member.operator.report_unreachable(other)
        elif self._happens(faults.ask_snapshot):
            member.operator.ask_snapshot()
        elif self._happens(faults.transfer):
            member.operator.transfer_leadership(self._random.choice(self._members).id)
        elif self._happens(faults.compact):
            member.operator.compact(self._random.randrange(10))
        elif self._happens(faults.power_cut):
            member.disk.cut_power_soon()
        elif self._happens(faults.disk_full):
            member.disk.fill_up()
        elif self._happens(faults.rotten_record):
            self._scenarios.rot(member)
        elif self._happens(faults.forget):
            member.operator.forget(partial(self._kill, member))
        elif self._happens(_RECLAIM_CHANCE):
            member.operator.reclaim_space()

    def _kill(self, member: SimulatedMember) -> None:
        """The recovery phase may begin before."""
        if self.faults is not NONE:
            member.kill()

    def _may_lose_database(self, member: SimulatedMember) -> bool:
        """Whether the others can do without: their databases are sound, and one of them can be elected, now and soon."""
        return not member.is_removed and has_sound_databases(self._members) and others_can_lead(member, self._members)

    def _reconfigure(self, asked: SimulatedMember) -> None:
        """Propose a change that makes sense by what this member knows, which may be out of date."""
        if asked.replica is None:
            return
        random = self._random
        if self._joint_changes:
            asked.operator.propose_joint_change(partial(self._draw_joint_change, asked, self._new_ids()))
            return
        members = asked.replica.membership.sorted()
        learners = [member for member in members if member.is_learner]
        if learners and random.random() < 0.3:
            self._change_membership(asked, ConfChangeType.ADD_NODE, learners[0], is_promote=True)
        elif len(members) < 3 or (len(members) < MEMBERS_MAX and random.random() < 0.5):
            self._newest_id += 1
            kind = random.choice((ConfChangeType.ADD_NODE, ConfChangeType.ADD_LEARNER_NODE))
            added = Member(self._newest_id, (f"http://{self._newest_id}:2380",), is_learner=kind != ConfChangeType.ADD_NODE)
            self._change_membership(asked, kind, added)
        else:
            self._change_membership(asked, ConfChangeType.REMOVE_NODE, random.choice(members))

    def _change_membership(
        self, asked: SimulatedMember, kind: ConfChangeType, member: Member, *, is_promote: bool = False
    ) -> None:
        if self._can_lead_after(asked, ConfChange(kind, member.id)):
            asked.operator.change_membership(kind, member, is_promote=is_promote)

    def _draw_joint_change(
        self, asked: SimulatedMember, new_ids: list[int], conf_state: ConfState, is_leader: bool
    ) -> ConfChangeV2 | None:
        change = draw_joint_change(self._random, new_ids, conf_state, is_leader)
        return change if change is not None and self._can_lead_after(asked, change) else None

    def _can_lead_after(self, asked: SimulatedMember, change: ConfChange | ConfChangeV2) -> bool:
        """Whether a leader can be elected whatever becomes of `change`, if a member is without its database.

        Then only a leader is asked: a proposal that is forwarded could be appended when other members are left.
        """
        damaged = [member for member in self._members if not member.is_removed and not member.database.is_sound]
        if not damaged:
            return True
        if asked.replica is None or not asked.replica.is_leader or asked.process.is_paused:
            return False
        before = asked.replica.raft.conf_state
        try:
            after = confchange.changed(before, change)
        except confchange.ConfChangeRefused:
            return False
        return all(others_can_lead(one, self._members) and can_lead_without(one.id, before, after) for one in damaged)

    def _new_ids(self) -> list[int]:
        """Ids for members to add, unless there are many members already."""
        count = sum(not member.is_removed for member in self._members)
        ids = list(range(self._newest_id + 1, self._newest_id + 1 + max(0, MEMBERS_MAX - count)))
        self._newest_id += len(ids)
        return ids

    def _happens(self, chance: float) -> bool:
        return self._random.random() < chance


def _repair(member: SimulatedMember) -> None:
    """An operator repairs the disk, and mounts what was missing."""
    member.disk.repair()
    member.database.remount()
