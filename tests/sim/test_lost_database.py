"""A leader is removed while another member waits for its database: the data stay with a member that leads."""

from __future__ import annotations

import pytest

from tercet.raft.types import ConfChangeType, MessageType
from tercet.replica.membership import Member
from tercet.sim.database_file import Damage
from tercet.sim.faults import NONE
from tercet.sim.member import SimulatedMember
from tercet.sim.simulator import Simulator

_SNAPSHOTS = frozenset({MessageType.SNAP})


def leader_of(sim: Simulator) -> SimulatedMember:
    (leader,) = (member for member in sim.members if member.replica is not None and member.replica.is_leader)
    return leader


def lose_database(sim: Simulator, member: SimulatedMember) -> None:
    """Restart it without a database; the snapshots that it asks for do not arrive."""
    sim.network.starve(member.id, _SNAPSHOTS)
    member.kill()
    member.database.damage = Damage.TRUNCATED
    member.start()
    sim.run_until(lambda: member.is_up, ticks_max=50)
    assert not member.serves_clients


@pytest.mark.parametrize("members", [2, 3])
def test_a_leader_is_not_removed_before_another_member_holds_its_data(members: int) -> None:
    sim = Simulator(1, members=members, faults=NONE)
    sim.run(ticks=100)
    leader = leader_of(sim)
    lost, *others = (member for member in sim.members if member is not leader)
    for behind in others:  # its log is shorter than that of the one without a database
        sim.network.cut_off(behind.id)
    lose_database(sim, lost)
    sim.run(ticks=30)
    leader.operator.change_membership(ConfChangeType.REMOVE_NODE, Member(leader.id, ()))
    sim.run(ticks=50)
    assert leader.is_up, "only a member without a database, and one with a shorter log, would remain"
    sim.network.mend()
    sim.run_until(lambda: leader.is_removed, ticks_max=100)
    sim.heal()
    sim.run_until(sim.converged, ticks_max=200)
    sim.check()
