"""Repair of a member whose database is damaged: it gets another one from the leader, by itself.

    ask        MsgSnapStatus to the leader, again and again until a snapshot comes; from the first one on nothing is applied, so
               that the leader's database is not behind
    install    the database replaces the damaged one; raft and its log stay, and entries that the database holds are skipped
    withdraw   the CORRUPT alarm that this member has raised
A leader with a damaged database hands its leadership over first. etcd's leaders ignore the message; then the member goes on
with what is readable, and the alarm stays.

A member whose database does not load at a restart has lost it (`is_lost`), and starts with an empty one. Its log, its term and
its vote are intact: it votes and acknowledges entries as before, and keeps all that it has acknowledged. What was applied is
lost: until a database comes it applies nothing, answers no client, does not campaign, and does not take the entry that removes
the leader (raft/follower.py). If none comes, `tick` raises StorageFailure.

Must never install a database that is behind what this member has applied.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from tercet.errors import StorageFailure
from tercet.raft import Raft, confchange
from tercet.raft.types import Snapshot
from tercet.replica.alarm_proposals import AlarmProposals
from tercet.replica.apply import Applier
from tercet.replica.host import ReplicaHost
from tercet.replica.log_compaction import LogCompaction
from tercet.replica.membership import hex_id
from tercet.replica.snapshots import Snapshots
from tercet.replica.state_machine import StateMachine

logger = logging.getLogger(__name__)

ASK_SECONDS: Final = 1.0
HAND_OVER_SECONDS: Final = 5.0
HELD_SECONDS_MAX: Final = 60.0  # for a snapshot to come
PAUSE_SECONDS: Final = 60.0  # between two attempts
NO_LEADER_SECONDS: Final = 5.0  # the same, where the first one ended because the leader was lost
# Of a member that has lost its database, until it stops:
LEADER_SECONDS_MAX: Final = 30.0  # without a leader
DATABASE_SECONDS_MAX: Final = 600.0  # with one that sends no database


class Repair:
    """The repair of one replica.

    is_holding: nothing is applied until another database has come.
    """

    __slots__ = (
        "_alarms",
        "_applier",
        "_asked_at",
        "_began_at",
        "_clock",
        "_hand_over_at",
        "_heard_at",
        "_host",
        "_is_wanted",
        "_log_compaction",
        "_next_at",
        "_raft",
        "_snapshots",
        "_state_machine",
        "is_holding",
    )

    def __init__(
        self,
        raft: Raft,
        state_machine: StateMachine,
        applier: Applier,
        snapshots: Snapshots,
        log_compaction: LogCompaction,
        alarms: AlarmProposals,
        host: ReplicaHost,
        *,
        clock: Callable[[], float],
    ) -> None:
        self.is_holding = self._is_wanted = applier.is_database_lost
        raft.may_campaign = not applier.is_database_lost
        self._raft = raft
        self._state_machine = state_machine
        self._applier = applier
        self._snapshots = snapshots
        self._log_compaction = log_compaction
        self._alarms = alarms
        self._host = host
        self._clock = clock
        self._began_at = self._heard_at = clock()
        self._asked_at = self._next_at = self._hand_over_at = float("-inf")
        raft.snapshot_requested = self._send_to

    @property
    def is_lost(self) -> bool:
        """Has this member started without its database, and none has come yet?"""
        return self._applier.is_database_lost

    # --- the damaged member

    def begin(self) -> None:
        """A damaged record has been found: raise the alarm. `tick` does the rest."""
        self._alarms.raise_corrupt()
        if not self._is_wanted:
            self._is_wanted = True
            self._next_at = float("-inf")

    def tick(self) -> None:
        """Take the next step, if one is due."""
        if not self._is_wanted:
            return
        raft, now = self._raft, self._clock()
        if self.is_lost:
            self._await_database(now)
        elif raft.is_leader:
            self._release()
            self._hand_over(now)
        elif not raft.hears_leader():
            if self.is_holding:  # an unapplied change of membership would keep this member from standing for election
                self._release()
                self._next_at = now + NO_LEADER_SECONDS
        elif self.is_holding and now - self._began_at > HELD_SECONDS_MAX:
            self._release()
            self._next_at = now + PAUSE_SECONDS
            logger.warning("no snapshot came from the leader to replace the damaged database; trying again later")
        elif now >= self._next_at:
            if not self.is_holding:
                self.is_holding = True
                self._began_at = now
                logger.info("requesting a snapshot from the leader, to replace the damaged database")
            self._ask(now)

    def _ask(self, now: float) -> None:
        if now - self._asked_at >= ASK_SECONDS:
            self._asked_at = now
            self._raft.request_snapshot()

    def _await_database(self, now: float) -> None:
        """Raises StorageFailure if nobody sends one."""
        if self._raft.hears_leader():
            self._heard_at = now
            self._ask(now)
        if now - self._heard_at > LEADER_SECONDS_MAX:
            problem = f"no leader was heard for {LEADER_SECONDS_MAX:.0f} s"
        elif now - self._began_at > DATABASE_SECONDS_MAX:
            problem = f"the leader sent none in {DATABASE_SECONDS_MAX:.0f} s"
        else:
            return
        raise StorageFailure(
            f"the database is damaged, and only the leader's can replace it: {problem}. Start the other members; or remove "
            f"this member from the cluster (etcdctl member remove {hex_id(self._raft.id)}), empty its data directory, and "
            "add it again (etcdctl member add)"
        )

    def wants(self, index: int) -> bool:
        """Is a snapshot at `index` worth preparing, also where raft does not need it?"""
        return index > self._applier.index or (self._is_wanted and index == self._applier.index)

    def received(self, snapshot: Snapshot) -> None:
        """A snapshot is prepared, and raft knows it. If raft does not install it, replace the database alone."""
        if not self._is_wanted or self._raft.pending_snapshot is not None:
            return
        point = self._snapshots.point_of(snapshot.index)
        if point[0] < self._applier.index or self._raft.id not in confchange.members(snapshot.conf_state):
            return
        state_machine, host = self._state_machine, self._host
        before = set(state_machine.membership.members)
        self._applier.replace_database(snapshot, self._snapshots)
        for member_id in sorted(before - set(state_machine.membership.members)):
            host.member_removed(member_id)
        for member in state_machine.membership.sorted():
            host.member_changed(member)
        host.schedule_compaction()  # the sender may have been in the middle of one
        logger.info("replaced the damaged database by one of index %d", point[0])
        self.replaced()

    def replaced(self) -> None:
        """Another database has been installed: go on, and withdraw the alarm."""
        if self._is_wanted:
            self._is_wanted = False
            self._raft.may_campaign = True
            self._alarms.withdraw_corrupt()
            self._release()

    def _release(self) -> None:
        if self.is_holding:
            self.is_holding = False
            self._host.schedule_apply()

    def _hand_over(self, now: float) -> None:
        """To the voter whose log is the longest. Without another voter there is nobody to ask."""
        if now < self._hand_over_at:
            return
        self._hand_over_at = now + HAND_OVER_SECONDS
        raft = self._raft
        voters = [member for member in sorted(raft.conf_state.voters) if member != raft.id]
        if voters:
            raft.transfer_leadership(max(voters, key=self._match))

    def _match(self, member: int) -> int:
        progress = self._raft.progress(member)
        return progress.match if progress is not None and progress.recent_active else -1

    # --- the leader

    def _send_to(self, member: int) -> None:
        """A follower asks for a snapshot, although the log may have all entries that it needs."""
        if self._log_compaction.is_sending(member):
            return
        snapshot = self._raft.snapshot_source()
        if snapshot is not None:  # else the view is being opened, and the follower asks again
            self._raft.send_snapshot(member, snapshot)
