"""The simulated operator ends alarms that no member withdraws, so that a run converges once its faults are over."""

from __future__ import annotations

from tercet.proto import rpc_pb2
from tercet.replica.quota import FILE_OVERHEAD_BYTES
from tercet.sim.faults import NONE
from tercet.sim.settings import Settings
from tercet.sim.simulator import Simulator


def test_a_corrupt_alarm_is_disarmed_where_no_space_is_left() -> None:
    """It refuses the compaction that makes room, so it must not wait for room."""
    sim = Simulator(1, faults=NONE, settings=Settings(quota_bytes=1), clients=0)
    sim.run(ticks=55)
    (leader,) = (member.replica for member in sim.members if member.replica is not None and member.replica.is_leader)
    put = rpc_pb2.PutRequest(key=b"large", value=bytes(FILE_OVERHEAD_BYTES))
    leader.propose("put", put.SerializeToString(), put, lambda outcome: None)
    leader.alarm_proposals.raise_corrupt()  # and the record is restored
    sim.run(ticks=2)
    assert {alarm.alarm for alarm in leader.alarms.active()} == {rpc_pb2.NOSPACE, rpc_pb2.CORRUPT}
    sim.heal()
    sim.run_until(sim.converged, ticks_max=100)
    sim.check()
    assert leader.alarms.no_space
