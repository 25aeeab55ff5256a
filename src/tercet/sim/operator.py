"""What an operator asks of a member: compaction, changes of membership, an end of alarms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tercet.errors import StatusError, strip_traceback
from tercet.proto import rpc_pb2
from tercet.raft.types import ConfChange, ConfChangeType, ConfChangeV2
from tercet.replica.membership import Member, change_context
from tercet.replica.proposals import Outcome
from tercet.replica.replica import Replica

_ROOM_BYTES: Final = 4000


def compact(replica: Replica, keep: int) -> None:
    """Propose to compact all revisions but the newest `keep`."""
    revision = replica.revision - keep
    if revision > 0:
        request = rpc_pb2.CompactionRequest(revision=revision)
        replica.propose("compaction", request.SerializeToString(), request, lambda outcome: None)


def reclaim_space(replica: Replica) -> None:
    """Compact everything, and disarm every NOSPACE alarm once there is room."""
    alarms = replica.alarms.active()
    if alarms:
        compact(replica, 0)
        if replica.quota.allows(_ROOM_BYTES):
            for alarm in alarms:
                request = rpc_pb2.AlarmRequest(
                    action=rpc_pb2.AlarmRequest.DEACTIVATE, memberID=alarm.memberID, alarm=alarm.alarm
                )
                replica.propose("alarm", request.SerializeToString(), request, lambda outcome: None)


def propose_joint_change(replica: Replica, change: ConfChangeV2) -> None:
    """Propose a change that no operator of etcd can make."""
    replica.raft.propose_conf_change(change)
    replica.flush()


def change_membership(
    replica: Replica, kind: ConfChangeType, member: Member, *, is_promote: bool, trace: Callable[[str], None]
) -> None:
    """Propose to add, promote or remove `member`."""
    trace(f"proposes {kind.name} {member.id}")
    context = b"" if kind is ConfChangeType.REMOVE_NODE else change_context(member, is_promote=is_promote)
    change = ConfChange(kind, member.id, id=replica.next_request_id(), context=context)

    def report(outcome: Outcome) -> None:
        trace("changed the membership" if isinstance(outcome, bytes) else f"change of membership failed: {outcome}")

    try:
        replica.propose_conf_change(change, report)
    except StatusError as error:
        report(strip_traceback(error))
