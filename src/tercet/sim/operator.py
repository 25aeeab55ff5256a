"""What an operator asks of a member: compaction, changes of membership, an end of alarms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tercet.errors import StatusError, strip_traceback
from tercet.proto import rpc_pb2
from tercet.raft.types import ConfChange, ConfChangeType, ConfChangeV2, ConfState
from tercet.replica.membership import Member, change_context
from tercet.replica.proposals import Outcome
from tercet.replica.replica import Replica
from tercet.sim.process import Process

_ROOM_BYTES: Final = 4000


class Operator:
    """Requests to one member, each an event of its process; dropped while the member is down."""

    def __init__(self, replica: Callable[[], Replica | None], process: Process, trace: Callable[[str], None]) -> None:
        self._replica = replica
        self._process = process
        self._trace = trace

    def transfer_leadership(self, target: int) -> None:
        self._schedule(lambda replica: replica.transfer_leadership(target))

    def report_unreachable(self, member_id: int) -> None:
        """Report a connection as broken that is not."""
        self._schedule(lambda replica: replica.report_unreachable(member_id))

    def ask_snapshot(self) -> None:
        """Ask the leader for a snapshot, as a member with a damaged database does."""

        def ask(replica: Replica) -> None:
            replica.raft.request_snapshot()
            replica.flush()

        self._schedule(ask)

    def compact(self, keep: int) -> None:
        """Propose to compact all revisions but the newest `keep`."""
        self._schedule(lambda replica: _compact(replica, keep))

    def forget(self, then: Callable[[], None]) -> None:
        """Propose to delete a range of keys and to compact all revisions; call `then` once the member has removed them."""
        self._schedule(lambda replica: _forget(replica, then))

    def reclaim_space(self) -> None:
        """End the alarms: see `_reclaim_space`."""
        self._schedule(_reclaim_space)

    def propose_joint_change(self, draw: Callable[[ConfState, bool], ConfChangeV2 | None]) -> None:
        """Propose a change that no operator of etcd can make. draw: gets the member's configuration, and whether it leads."""

        def propose(replica: Replica) -> None:
            change = draw(replica.raft.conf_state, replica.is_leader)
            if change is not None:
                self._trace(f"proposes {change}")
                replica.raft.propose_conf_change(change)
                replica.flush()

        self._schedule(propose)

    def change_membership(self, kind: ConfChangeType, member: Member, *, is_promote: bool = False) -> None:
        """Propose to add, promote or remove `member`."""
        self._schedule(lambda replica: _change_membership(replica, kind, member, is_promote=is_promote, trace=self._trace))

    def _schedule(self, action: Callable[[Replica], None]) -> None:
        def run() -> None:
            replica = self._replica()
            assert replica is not None
            action(replica)

        if self._replica() is not None:
            self._process.schedule(0, run)


def _compact(replica: Replica, keep: int) -> None:
    """Propose to compact all revisions but the newest `keep`."""
    revision = replica.revision - keep
    if revision > 0:
        request = rpc_pb2.CompactionRequest(revision=revision)
        replica.propose("compaction", request.SerializeToString(), request, lambda outcome: None)


def _forget(replica: Replica, then: Callable[[], None]) -> None:
    """The newest revision may be of a tombstone, which the compaction removes."""

    def deleted(outcome: Outcome) -> None:
        if isinstance(outcome, bytes):
            compaction = rpc_pb2.CompactionRequest(revision=replica.revision)
            replica.propose("compaction", compaction.SerializeToString(), compaction, compacted)

    def compacted(outcome: Outcome) -> None:
        if isinstance(outcome, bytes):
            replica.compaction.when_finished(then)

    deletion = rpc_pb2.DeleteRangeRequest(key=b"set-", range_end=b"set.")
    replica.propose("delete_range", deletion.SerializeToString(), deletion, deleted)


def _reclaim_space(replica: Replica) -> None:
    """Compact everything, and disarm every NOSPACE alarm once there is room. A CORRUPT alarm is disarmed first: it refuses
    compactions. A member whose damaged record was restored while it was down does not withdraw its own.
    """
    alarms = replica.alarms.active()
    if not alarms:
        return
    _compact(replica, 0)
    has_room = replica.quota.allows(_ROOM_BYTES)
    for alarm in alarms:
        if has_room or alarm.alarm == rpc_pb2.CORRUPT:
            request = rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.DEACTIVATE, memberID=alarm.memberID, alarm=alarm.alarm)
            replica.propose("alarm", request.SerializeToString(), request, lambda outcome: None)


def _change_membership(
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
