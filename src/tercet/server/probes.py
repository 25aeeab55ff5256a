"""A member's state for /health, /livez, /readyz and /debug/vars."""

from __future__ import annotations

from collections.abc import Iterable

from tercet.http.debug_vars import RaftStatus
from tercet.proto import rpc_pb2
from tercet.proto.alarm_names import alarm_name
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
        self._replica.store.range(_ONE_KEY)

    def alarms(self) -> Iterable[str]:
        return [alarm_name(alarm.alarm) for alarm in self._replica.alarms.active()]

    def has_leader(self) -> bool:
        return bool(self._replica.leader_id)

    def is_learner(self) -> bool:
        return self._replica.is_learner


def raft_status(replica: Replica) -> RaftStatus:
    """The object raft.status at /debug/vars, in etcd's form."""
    status = replica.raft_status()
    return {
        "id": hex_id(replica.member_id),
        "term": status.term,
        "vote": hex_id(status.vote),
        "commit": status.commit_index,
        "lead": hex_id(status.leader_id),
        "raftState": f"State{status.role.title().replace('_', '')}",
        "applied": status.applied_index,
        "progress": {
            hex_id(member_id): {"match": one.match, "next": one.next, "state": f"State{one.state.name.title()}"}
            for member_id, one in sorted(status.progress.items())
        },
        "leadtransferee": hex_id(status.leader_transferee),
    }
