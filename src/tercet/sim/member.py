"""One member of a simulated cluster: production's replica, raft, log and store on a faulty disk and a faulty network.

process.py     its events, and what a crash or a pause does to them
driver.py      the replica's host: ticks, flushes, compaction
transport.py   its messages and snapshots
disk.py        its file system
log_store.py   its write-ahead log
database_file.py  its database
recovery.py    from the disk to a running raft
operator.py    what an operator asks of it
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Final

from tercet import errors
from tercet.errors import CorruptRecord, DamagedDatabase, StatusError, StorageFailure, require
from tercet.raft import Raft
from tercet.raft.types import ConfState
from tercet.replica.replica import Replica
from tercet.replica.state_machine import StateMachine
from tercet.sim.acknowledgements import Durable
from tercet.sim.backend import SimulatedBackend
from tercet.sim.clock import MICROSECONDS, MILLISECOND
from tercet.sim.database_file import SimulatedDatabaseFile, has_pending_change
from tercet.sim.disk import Disk, PowerCut
from tercet.sim.driver import SimulatedDriver
from tercet.sim.environment import Environment
from tercet.sim.faults import NONE
from tercet.sim.history import Operation
from tercet.sim.joint import JointChanges
from tercet.sim.log_store import SimulatedLogStore
from tercet.sim.network import Packet
from tercet.sim.operator import Operator
from tercet.sim.process import Process
from tercet.sim.quorum_watch import QuorumWatch
from tercet.sim.recovery import LOG_DIRECTORY, Started, recover
from tercet.sim.requests import Done, submit
from tercet.sim.slices import Slices
from tercet.sim.slowness import Slowness
from tercet.sim.transport import SimulatedTransport
from tercet.storage.wal import WAL

_EPOCH_MS: Final = 1_700_000_000_000
_CLOCK_JUMP_MS: Final = 86_400_000


class SimulatedMember:
    """Everything it does begins as an event: a tick, a packet, a request, the end of a write. Call `start` first."""

    def __init__(self, member_id: int, random: Random, environment: Environment) -> None:
        self.id = member_id
        self.process = Process(environment.clock, partial(environment.after_event, member_id), self._fail)
        self.replica: Replica | None = None
        self.is_removed = False
        self.conf_state = ConfState()  # when it last went down
        self.had_pending_change = False  # of the membership, when it last went down
        self._random = random
        self._environment = environment
        self._slices = Slices(self.process, random)
        self.disk = Disk(random, environment.faults)
        self.database = SimulatedDatabaseFile(
            lambda: self.make_backend(self.disk), random, partial(environment.trace, member_id)
        )
        self.log_store: SimulatedLogStore | None = None
        self._transport: SimulatedTransport | None = None
        self.slowness = Slowness()
        self._waiters: list[Done] = []  # clients of this incarnation
        self.operator = Operator(lambda: self.replica, self.process, partial(environment.trace, member_id))

    @property
    def is_up(self) -> bool:
        return self.replica is not None

    @property
    def serves_clients(self) -> bool:
        """The server opens its client listeners once it has a database."""
        return self.replica is not None and not self.replica.repair.is_lost

    # --- starts and crashes

    def start(self) -> None:
        """Start from the disk; the power may fail on the way. A removed member stays down."""
        if self.is_removed or self.is_up:
            return
        if self._environment.faults().crash and self._random.random() < 0.1:
            self.disk.syncs_left = self._random.randrange(4)
        try:
            started = recover(self.id, self.disk, self.database, self._random, self._environment)
            require(self.disk.rotten is None, "a flipped bit of the log is not detected", self.disk.rotten)
        except (PowerCut, StorageFailure) as failure:
            self._start_failed(failure)
            return
        self.disk.syncs_left = None
        self.process.start()
        self._run(started)
        self._environment.after_event(self.id)

    def _start_failed(self, failure: PowerCut | StorageFailure) -> None:
        if isinstance(failure, StorageFailure) and not (self.disk.has_failed or self.database.explains(failure)):
            raise failure
        self._environment.trace(self.id, f"fails to start: {str(failure) or 'power cut'}")
        self.disk.crash()
        self.database.backend.crash()
        if isinstance(failure, CorruptRecord | DamagedDatabase):
            self._environment.clock.after(MICROSECONDS, self.start)  # another member may answer by then

    def _run(self, started: Started) -> None:
        wal, raft, state_machine = started
        random, environment = self._random, self._environment
        self.database.backend.start(
            self.process.schedule,
            self._fail,
            self._found_corruption,
            check_applied=partial(_check_applied, self, state_machine),
        )
        log_store = self.log_store = self.make_log_store(
            wal, Durable(raft.term, raft.voted_for, raft.log.last_index, raft.log.last_term)
        )
        quorum_watch, slowness = QuorumWatch(raft), Slowness()
        self.slowness = slowness
        driver = SimulatedDriver(
            self.id, self.process, random, environment, quorum_watch=quorum_watch, slowness=slowness, removed=self.leave
        )
        transport = self._transport = SimulatedTransport(
            self.id,
            self.process,
            self.database.backend,
            log_store,
            random,
            environment,
            quorum_watch=quorum_watch,
            slowness=slowness,
            vote_granted=self._perhaps_lose_vote,
            crash_in_install=partial(_crash_in_install, self),
        )
        self.replica = driver.replica = transport.replica = self.make_replica(raft, log_store, transport, state_machine, driver)
        if environment.settings.joint_changes:
            state_machine.apply_joint_change = JointChanges(raft, state_machine, driver).apply
        incarnation = self.process.incarnation
        environment.trace(self.id, f"starts as {incarnation}: {raft.log}, {raft.hard_state()}, applied {raft.applied_index}")
        driver.start()

    # The objects under test: a test may override them to plant a bug.

    def make_backend(self, disk: Disk) -> SimulatedBackend:
        return SimulatedBackend(disk, self._random)

    def make_log_store(self, wal: WAL, durable: Durable) -> SimulatedLogStore:
        return SimulatedLogStore(wal, durable, self.disk, self._random, self.process.schedule, on_failure=self._fail)

    def make_replica(
        self,
        raft: Raft,
        log_store: SimulatedLogStore,
        transport: SimulatedTransport,
        state_machine: StateMachine,
        host: SimulatedDriver,
    ) -> Replica:
        clock, options = self._environment.clock, self._environment.settings.replica()
        now_ms = _EPOCH_MS + clock.now // MILLISECOND
        if self._random.random() < self._environment.faults().clock_jump:
            now_ms += self._random.randint(-_CLOCK_JUMP_MS, _CLOCK_JUMP_MS)
        return Replica(raft, log_store, transport, state_machine, host, clock=clock.seconds, now_ms=now_ms, options=options)

    def crash(self) -> None:
        """Lose everything that is not on the disk."""
        if self.replica is None:
            return
        self._environment.trace(self.id, "crashes")
        self._end_process()
        self.disk.crash()
        if self._random.random() < self._environment.faults().bit_rot and self.disk.rotten is None:
            self.disk.rot(LOG_DIRECTORY)

    def kill(self) -> None:
        """End the process: memory is lost, the page cache is not."""
        if self.replica is not None:
            self._environment.trace(self.id, "is killed")
            self._end_process()

    def _end_process(self) -> None:
        assert self.log_store is not None
        assert self.replica is not None
        self.log_store.crash()
        self.database.backend.crash()
        self.conf_state = self.replica.raft.conf_state
        self.had_pending_change = has_pending_change(self.replica.raft)
        if not self._environment.may_lose_database(self.id):
            self.database.backend.rot.key = None  # an operator restores it
        self._environment.network.disconnect(self.id)
        self.replica = self.log_store = self._transport = None
        self.process.kill()
        waiters, self._waiters = self._waiters, []
        for done in waiters:
            done(errors.STOPPED)
        if self._random.random() < self._environment.faults().quick_restart:
            self._environment.clock.after(self._random.randint(MILLISECOND, 500 * MILLISECOND), self.start)

    def crash_in_write(self) -> None:
        """Crash during the log's next write to the disk."""
        if self.log_store is not None:
            self.log_store.when_writing = self._crash_within

    def leave(self) -> None:
        """Stop for good: the member was removed from the cluster."""
        self._environment.trace(self.id, "leaves")
        self.is_removed = True
        self.crash()

    def pause(self) -> None:
        """Freeze: what arrives and what is due waits for `resume`."""
        if self.is_up and not self.process.is_paused:
            self._environment.trace(self.id, "is paused")
            self.process.pause()

    def resume(self) -> None:
        if self.process.is_paused:
            self._environment.trace(self.id, "is resumed")
            self.process.resume()

    def _found_corruption(self) -> None:
        if self.replica is not None:
            self._environment.trace(self.id, "finds a damaged record")
            self.replica.repair.begin()
            if self._random.random() < self._environment.faults().crash_when_corrupt:
                self._crash_within(300 * MILLISECOND)

    def _fail(self, failure: PowerCut | StorageFailure) -> None:
        """The disk failed. Without an injected fault it is a bug."""
        is_rot = isinstance(failure, CorruptRecord) and self.database.backend.rot.key is not None
        if isinstance(failure, StorageFailure) and not self.disk.has_failed and not is_rot:
            raise failure
        self._environment.trace(self.id, f"stops: {str(failure) or 'power cut'}")
        if isinstance(failure, PowerCut):
            self.crash()
        else:
            self.kill()

    def _perhaps_lose_vote(self, candidate: int) -> None:
        """Crash a voter whose vote is on its way, and cut off the candidate: a voter that lost its vote could vote again."""
        if self._random.random() < self._environment.faults().crash_after_vote:
            self._crash_within(5 * MILLISECOND)
            cut_off = partial(self._environment.network.cut_off, candidate)
            self._environment.clock.after(10 * MILLISECOND, partial(self._in_fault_phase, cut_off))

    # The recovery phase may begin before these run.

    def _crash_within(self, microseconds: int) -> None:
        self.process.schedule(self._random.randint(0, microseconds), partial(self._in_fault_phase, self.crash))

    def _in_fault_phase(self, act: Callable[[], None]) -> None:
        if self._environment.faults() is not NONE:
            act()

    # --- requests of clients

    def request(self, operation: Operation, done: Done) -> bool:
        """A client's request. False: refused before anything was done, and `done` is not called."""
        if not self.serves_clients:
            return False
        incarnation = self.process.incarnation

        def reply(error: StatusError | None) -> None:
            if incarnation == self.process.incarnation:
                self._waiters.remove(reply)
            done(error)

        def begin() -> None:
            assert self.replica is not None
            try:
                submit(self.replica, operation, reply, committed=self._environment.committed, slices=self._slices)
            except StatusError as error:
                reply(error)

        self._waiters.append(reply)
        self.process.schedule(0, begin)
        return True

    # --- network

    def receive(self, packet: Packet) -> None:
        if self._transport is not None:
            self.process.run(partial(self._transport.receive, packet))

    def unreachable(self, member_id: int) -> None:
        """A connection to `member_id` broke."""
        if self._transport is not None:
            self._transport.unreachable(member_id)

    def snapshot_sent(self, packet: Packet, *, ok: bool) -> None:
        """A snapshot that this member sent was delivered, or lost."""
        if self._transport is not None:
            self._transport.snapshot_sent(packet.message.to, ok)


def _crash_in_install(member: SimulatedMember) -> None:
    """Crash once the backend has a received database, while the log records it. Perhaps the database is lost then."""
    member.database.is_exposed = True
    member.crash_in_write()


def _check_applied(member: SimulatedMember, state_machine: StateMachine, index: int) -> None:
    """A commit that begins after this holds `index`, so it must hold the effects of all entries up to there."""
    if member.replica is not None and not member.replica.is_database_ahead:
        applied = state_machine.entry_index() - 1
        require(index <= applied, "the backend learns of entries that are not applied", member.id, index, applied)
