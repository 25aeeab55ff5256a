"""A member's state for /health, /livez, /readyz and /debug/vars."""

from __future__ import annotations

from collections.abc import Iterable

from tercet.http.debug_vars import RaftStatus
from tercet.proto import rpc_pb2
from tercet.replica.membership import hex_id
from tercet.replica.replica import Replica
from tercet.services.awaitables import read_index

_ONE_KEY = rpc_pb2.RangeRequest(key=b"\0", range_end=b"\0", limit=1, keys_only=True)


class MemberProbes:
    """Implements `http.health.Probes`."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    async def linearizable_read(self) -> None:
        await read_index(self._replica)
        await self.serializable_read()

    async def serializable_read(self) -> None:
        self._replica.state_machine.store.range(_ONE_KEY)

    def alarms(self) -> Iterable[str]:
        return [rpc_pb2.AlarmType.Name(alarm.alarm) for alarm in self._replica.state_machine.alarms.standing()]

    def has_leader(self) -> bool:
        return bool(self._replica.raft.leader_id)

    def is_learner(self) -> bool:
        return self._replica.raft.id in self._replica.raft.conf_state.learners


def raft_status(replica: Replica) -> RaftStatus:
    """The object raft.status at /debug/vars, in etcd's form."""
    raft = replica.raft
    progress = {}
    if raft.is_leader:
        for member_id in sorted(replica.state_machine.membership.members):
            known = raft.progress(member_id)
            if known is not None:
                state = f"State{known.state.name.title()}"
                progress[hex_id(member_id)] = {"match": known.match, "next": known.next, "state": state}
    return {
        "id": hex_id(raft.id),
        "term": raft.term,
        "vote": hex_id(raft.voted_for),
        "commit": raft.commit_index,
        "lead": hex_id(raft.leader_id),
        "raftState": f"State{raft.role.name.title().replace('_', '')}",
        "applied": replica.applied_index,
        "progress": progress,
        "leadtransferee": hex_id(raft.leader_transferee),
    }
