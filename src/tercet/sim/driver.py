"""Runs one replica in virtual time, as server/replica_driver.py does on an event loop."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from tercet.mvcc import Budget
from tercet.replica.membership import Member
from tercet.replica.replica import Replica
from tercet.sim.clock import MICROSECONDS, MILLISECOND, TICK
from tercet.sim.environment import Environment
from tercet.sim.process import Process
from tercet.sim.quorum_watch import QuorumWatch
from tercet.sim.slowness import Slowness

FLUSH_DELAY: Final = 100  # microseconds from the first event of a turn to its end
REMOVAL_DELAY: Final = MICROSECONDS  # the others still need the acknowledgement of the removal; etcd waits as long
_COMMIT_BROADCAST_DELAY: Final = 3 * MILLISECOND
_COMPACTION_LIMIT: Final = 20
_SLOW_APPLY_MAX: Final = 100 * MILLISECOND
_WATCH_WORK: Final = (3, 50, 2000)
_COMPACTION_PAUSE: Final = 10 * MILLISECOND


class SimulatedDriver:
    """The `ReplicaHost` of one incarnation. `removed` is called when the member has been removed from the cluster."""

    def __init__(
        self,
        member_id: int,
        process: Process,
        random: Random,
        environment: Environment,
        *,
        quorum_watch: QuorumWatch,
        slowness: Slowness,
        removed: Callable[[], None],
    ) -> None:
        self._quorum_watch = quorum_watch
        self._id = member_id
        self._process = process
        self._random = random
        self._environment = environment
        self._removed = removed
        self._compaction_is_scheduled = False
        self._tick_interval = round(TICK * random.uniform(0.9, 1.1))
        self._slowness = slowness
        self.replica: Replica  # set by its owner: each of the two needs the other

    def start(self) -> None:
        """Begin to tick."""
        self.replica.leader_listeners.append(self._leader_changed)
        self.replica.watches.schedule = self._schedule_watches
        if self.replica.watches.is_scheduled:
            self._schedule_watches()
        self._process.schedule(self._random.randrange(TICK), self._tick)
        self.schedule_compaction()  # one may have been interrupted

    def _tick(self) -> None:
        self._process.schedule(self._tick_interval, self._tick)
        self.replica.tick()
        self._quorum_watch.ticked()

    def schedule_flush(self) -> None:
        self._process.schedule(FLUSH_DELAY, self.flush_now)

    def flush_now(self) -> None:
        self.replica.flush()

    def flush_replies(self) -> None:
        """Replies are delivered when they are given."""

    def schedule_apply(self) -> None:
        delay = self._random.choice((0, FLUSH_DELAY, MILLISECOND, 20 * MILLISECOND))
        faults = self._environment.faults()
        if self.replica.is_database_ahead and self._random.random() < faults.promote_ahead:
            delay = self._random.randint(0, MICROSECONDS)
        elif self._random.random() < faults.slow_apply:
            delay = self._random.randint(0, 2 * MICROSECONDS)
        elif self._environment.clock.now < self._slowness.applies_until:
            delay = self._random.randint(0, _SLOW_APPLY_MAX)
        self._process.schedule(delay, self._apply)

    def _apply(self) -> None:
        self.replica.apply()

    def _schedule_watches(self) -> None:
        self._process.schedule(self._random.choice((0, FLUSH_DELAY, 20 * MILLISECOND)), self._step_watches)

    def _step_watches(self) -> None:
        if self.replica.watches.step(Budget(self._random.choice(_WATCH_WORK))):
            self._schedule_watches()

    def schedule_commit_broadcast(self) -> None:
        self._process.schedule(_COMMIT_BROADCAST_DELAY, self._broadcast_commit)

    def _broadcast_commit(self) -> None:
        self.replica.broadcast_commit()

    def schedule_compaction(self) -> None:
        if not self._compaction_is_scheduled:
            self._compaction_is_scheduled = True
            self._process.schedule(MILLISECOND, self._compact_some)

    def _compact_some(self) -> None:
        if self.replica.compaction.step(_COMPACTION_LIMIT):
            self._process.schedule(_COMPACTION_PAUSE, self._compact_some)
        else:
            self._compaction_is_scheduled = False

    def member_changed(self, member: Member) -> None:
        self._environment.member_added(member.id)

    def member_removed(self, member_id: int) -> None:
        if member_id == self._id:
            self._process.schedule(REMOVAL_DELAY, self._removed)

    def _leader_changed(self, leader_id: int) -> None:
        self._environment.trace(self._id, f"follows {leader_id or 'no leader'}")
