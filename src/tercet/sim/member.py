"""One member of a simulated cluster: the production replica, raft, log and store, on a disk and a network that are not to
be trusted.

It does for the replica what server/replica_driver.py does on the event loop: it is its `ReplicaHost` and `Transport`.
A member lives many lives; whatever a dead one had planned is dropped, and only the disk goes from one to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Final, NamedTuple

from tercet import errors
from tercet.errors import StatusError, StorageFailure
from tercet.proto import rpc_pb2
from tercet.raft import Raft, RaftConfig
from tercet.raft.types import ConfChange, ConfChangeType, HardState, Message, MessageType, Snapshot
from tercet.replica.membership import Member, change_context
from tercet.replica.proposals import Outcome
from tercet.replica.recovery import is_blank, restore, write_bootstrap_entries
from tercet.replica.replica import Options, Replica
from tercet.replica.state_machine import StateMachine, prepare
from tercet.sim.clock import MICROSECONDS, MILLISECOND, TICK, Clock
from tercet.sim.disk import SEGMENT_BYTES, Disk, PowerCut, SimulatedLogStore
from tercet.sim.faults import NONE, Faults
from tercet.sim.history import Operation
from tercet.sim.network import Network, Parcel
from tercet.sim.requests import Done, submit
from tercet.sim.trace import Trace, describe
from tercet.storage.interfaces import Bucket
from tercet.storage.memory_backend import MemoryBackend
from tercet.storage.wal import WAL
from tercet.storage.wal_recovery import Recovered

TURN: Final = 100  # microseconds from the first event of a turn to its end
ELECTION_TICKS: Final = 10
_COMPACTION_LIMIT: Final = 20
_LOG_DIRECTORY: Final = "wal"

# Small numbers, so that a run of a minute sees checkpoints, compacted logs and snapshots.
OPTIONS: Final = Options(request_timeout_seconds=3.0, snapshot_entries=25, catch_up_entries=3)


class World(NamedTuple):
    """What all members of a cluster share."""

    clock: Clock
    network: Network
    trace: Trace
    faults: Callable[[], Faults]
    after_event: Callable[[SimulatedMember], None]
    founders: Sequence[int]
    added: Callable[[int], None]
    """A member learned that there is one of this id."""
    refused: Callable[[int], None]
    """A member that was removed tried to talk to one who knows."""


class SimulatedMember:
    """Call `start` to give it life. Everything it does begins as an event: a tick, a parcel, a request, the end of a write."""

    def __init__(self, member_id: int, random: Random, world: World) -> None:
        self.id = member_id
        self.life = 0
        self.replica: Replica | None = None
        self.is_paused = False
        self.is_removed = False
        self.backend = self.make_backend()
        self._random = random
        self._world = world
        self._disk = Disk()
        self._log_store: SimulatedLogStore | None = None
        self._held: list[Callable[[], None]] = []  # what waits for a frozen member to go on
        self._waiting: list[Done] = []  # clients of this life
        self._compaction_is_planned = False
        self._tick_interval = TICK

    @property
    def is_up(self) -> bool:
        return self.replica is not None

    # --- lives

    def start(self) -> None:
        """Come up from what the disk holds. The power may fail in the middle of that, too. One that was removed stays away."""
        if self.is_removed or self.is_up:
            return
        self.life += 1
        if self._world.faults().crash and self._random.random() < 0.1:
            self._disk.syncs_left = self._random.randrange(4)
        try:
            wal, raft, state_machine = self._recover()
        except PowerCut:
            self._world.trace(self.id, "loses power while it starts")
            self._disk.crash(self._random)
            self.backend.crash()
            return
        self._disk.syncs_left = None
        self._log_store = self.make_log_store(wal)
        self.replica = self.make_replica(raft, self._log_store, state_machine)
        self._world.trace(self.id, f"starts life {self.life}: {raft.log}, {raft.hard_state()}, applied {raft.applied_index}")
        self._tick_interval = round(TICK * self._random.uniform(0.9, 1.1))
        self._plan(self._random.randrange(TICK), self._tick)
        self.schedule_compaction()  # one may have been interrupted
        self._world.after_event(self)

    # The objects under test. Tests put ones with a planted bug in their place, to see it found.

    def make_backend(self) -> MemoryBackend:
        return MemoryBackend()

    def make_log_store(self, wal: WAL) -> SimulatedLogStore:
        return SimulatedLogStore(wal, self._disk, self._random, self._world.faults, self._plan, on_failure=self._storage_failed)

    def make_replica(self, raft: Raft, log_store: SimulatedLogStore, state_machine: StateMachine) -> Replica:
        now_ms = self._world.clock.now // MILLISECOND
        return Replica(
            raft, log_store, self, state_machine, self, clock=self._world.clock.seconds, now_ms=now_ms, options=OPTIONS
        )

    def crash(self) -> None:
        """Lose everything that is not on the disk."""
        if self.replica is None:
            return
        self._world.trace(self.id, "crashes")
        assert self._log_store is not None
        self._log_store.crash()
        self._disk.crash(self._random)
        self.backend.crash()
        self.replica = self._log_store = None
        self.life += 1
        self.is_paused = False
        self._held.clear()
        self._compaction_is_planned = False
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done(errors.STOPPED)
        if self._random.random() < self._world.faults().quick_restart:
            self._world.clock.after(self._random.randint(MILLISECOND, 500 * MILLISECOND), self.start)

    def crash_in_write(self) -> None:
        """Crash while the log's next write is on its way to the disk."""
        if self._log_store is not None:
            self._log_store.when_writing = self._crash_within

    def leave(self) -> None:
        """Removed from the cluster: stop for good."""
        self._world.trace(self.id, "leaves")
        self.is_removed = True
        self.crash()

    def pause(self) -> None:
        """Freeze: nothing is heard, said or written until `resume`, which finds all that came meanwhile."""
        if self.replica is not None and not self.is_paused:
            self.is_paused = True
            self._world.trace(self.id, "freezes")

    def resume(self) -> None:
        if not self.is_paused:
            return
        self.is_paused = False
        self._world.trace(self.id, "goes on")
        held, self._held = self._held, []
        for action in held:
            self._plan(0, action)

    # --- events

    def request(self, operation: Operation, done: Done) -> bool:
        """A client's request. Returns whether it was accepted; if not, nothing has happened and `done` is not called."""
        if self.replica is None:
            return False
        life = self.life

        def answered(error: StatusError | None) -> None:
            if life == self.life:
                self._waiting.remove(answered)
            done(error)

        def begin() -> None:
            assert self.replica is not None
            try:
                submit(self.replica, operation, answered)
            except StatusError as error:
                answered(error)

        self._waiting.append(answered)
        self._plan(0, begin)
        return True

    def receive(self, parcel: Parcel) -> None:
        """A parcel from the network."""
        if self.replica is not None:
            self._run(self.life, partial(self._receive, parcel))

    def database_sent(self, parcel: Parcel, ok: bool) -> None:
        """A database that this member sent has arrived, or will not."""
        self._plan(10 * MILLISECOND, partial(self._report_snapshot, parcel.message.to, ok))

    def transfer_leadership(self, target: int) -> None:
        if self.replica is not None:
            self._plan(0, lambda: self.replica.transfer_leadership(target) if self.replica else None)

    def leave_soon(self) -> None:
        """A second from now: the others may still need its acknowledgement of its own removal, and etcd waits as long."""
        self._plan(MICROSECONDS, self.leave)

    def propose_change(self, kind: ConfChangeType, member: Member, *, is_promote: bool = False) -> None:
        """Ask for a change of membership, as an operator would through this member."""
        if self.replica is not None:
            self._plan(0, partial(self._propose_change, kind, member, is_promote))

    def _propose_change(self, kind: ConfChangeType, member: Member, is_promote: bool) -> None:
        assert self.replica is not None
        self._world.trace(self.id, f"is asked to {kind.name} {member.id}")
        context = b"" if kind is ConfChangeType.REMOVE_NODE else change_context(member, is_promote=is_promote)
        change = ConfChange(kind, member.id, id=self.replica.proposals.ids.next(), context=context)
        self.replica.propose_change(change, self._change_answered)

    def _change_answered(self, outcome: Outcome) -> None:
        self._world.trace(self.id, "changed the membership" if isinstance(outcome, bytes) else f"refuses: {outcome}")

    def compact(self, back: int) -> None:
        """Propose to give up all revisions but the newest `back`."""
        if self.replica is not None:
            self._plan(0, partial(self._propose_compaction, back))

    def _plan(self, delay: int, action: Callable[[], None]) -> None:
        """Run `action` in `delay` microseconds, if this life lasts that long."""
        self._world.clock.after(delay, partial(self._run, self.life, action))

    def _run(self, life: int, action: Callable[[], None]) -> None:
        if life != self.life or self.replica is None:
            return
        if self.is_paused:
            self._held.append(action)
            return
        action()
        self._world.after_event(self)

    def _tick(self) -> None:
        assert self.replica is not None
        self._plan(self._tick_interval, self._tick)
        self.replica.tick()
        if self._random.random() < 0.2:
            self.backend.commit()

    def _receive(self, parcel: Parcel) -> None:
        assert self.replica is not None
        message = parcel.message
        if message.from_ in self.replica.state_machine.membership.removed:
            self._world.refused(message.from_)
            return
        trace = self._world.trace
        if trace.is_on and message.type not in (MessageType.HEARTBEAT, MessageType.HEARTBEAT_RESP):
            trace(self.id, f"hears {describe(message)}")
        if message.snapshot is not None and parcel.database is not None:
            prepared = prepare(self.backend, parcel.database, message.snapshot)
            self.replica.snapshots.received(message.snapshot.index, prepared)
        self.replica.step(message)

    def _storage_failed(self, failure: StorageFailure) -> None:
        self._world.trace(self.id, f"stops: {failure}")
        self.crash()

    def _report_snapshot(self, member_id: int, ok: bool) -> None:
        assert self.replica is not None
        self.replica.checkpoints.sent(member_id, ok=ok)
        self.replica.raft.report_snapshot(member_id, ok)
        self.replica.schedule()

    def _propose_compaction(self, back: int) -> None:
        assert self.replica is not None
        revision = self.replica.state_machine.store.revision - back
        if revision > 0:
            request = rpc_pb2.CompactionRequest(revision=revision)
            self.replica.propose("compaction", request.SerializeToString(), request, lambda outcome: None)

    # --- what the replica asks of its owner and transport

    def send(self, messages: list[Message]) -> None:
        for message in messages:
            if message.snapshot is not None:
                self._send_snapshot(message, message.snapshot)
                continue
            self._world.network.send(Parcel(message))
            if message.type == MessageType.VOTE_RESP and not message.reject:
                self._perhaps_forget_vote(message.to)

    def _perhaps_forget_vote(self, candidate: int) -> None:
        """Crash where it hurts: the vote is on its way and only the disk knows of it, and the candidate, once it leads, is not
        heard of any more. A voter that forgot would now vote again.
        """
        if self._random.random() < self._world.faults().crash_after_vote:
            self._crash_within(5 * MILLISECOND)
            self._world.clock.after(10 * MILLISECOND, partial(self._cut_off_unless_over, candidate))

    # The second act may begin between the plan and its moment.

    def _crash_within(self, microseconds: int) -> None:
        self._plan(self._random.randint(0, microseconds), self._crash_unless_over)

    def _crash_unless_over(self) -> None:
        if self._world.faults() is not NONE:
            self.crash()

    def _cut_off_unless_over(self, member_id: int) -> None:
        if self._world.faults() is not NONE:
            self._world.network.cut_off(member_id)

    def _send_snapshot(self, message: Message, snapshot: Snapshot) -> None:
        assert self.replica is not None
        view = self.replica.snapshots.take(snapshot.index)
        if view is None:
            self._plan(0, partial(self._report_snapshot, message.to, False))
            return
        database = [(bucket, key, value) for bucket in Bucket for key, value in view.scan(bucket)]
        view.close()
        self.replica.checkpoints.sending(message.to)
        if self._random.random() < self._world.faults().database_ahead:
            self._plan(self._random.randint(0, 800 * MILLISECOND), partial(self._send_newer_database, message))
        else:
            self._world.network.send(Parcel(message, database))

    def _send_newer_database(self, message: Message) -> None:
        self.backend.commit_now()
        database = [(bucket, key, value) for bucket in Bucket for key, value in self.backend.scan(bucket)]
        self._world.network.send(Parcel(message, database))

    def schedule_flush(self) -> None:
        self._plan(TURN, self._flush)

    def _flush(self) -> None:
        assert self.replica is not None
        self.replica.flush()

    def flush_now(self) -> None:
        if self.replica is not None:
            self.replica.flush()

    def flush_replies(self) -> None:
        """Clients of the simulation hear at once anyway."""

    def schedule_commit_broadcast(self) -> None:
        self._plan(3 * MILLISECOND, self._tell_commit)

    def _tell_commit(self) -> None:
        assert self.replica is not None
        self.replica.broadcast_commit()

    def schedule_compaction(self) -> None:
        if not self._compaction_is_planned:
            self._compaction_is_planned = True
            self._plan(MILLISECOND, self._compact_some)

    def _compact_some(self) -> None:
        assert self.replica is not None
        if self.replica.compact_some(_COMPACTION_LIMIT):
            self._plan(10 * MILLISECOND, self._compact_some)
        else:
            self._compaction_is_planned = False

    def member_changed(self, member: Member) -> None:
        self._world.added(member.id)

    def member_removed(self, member_id: int) -> None:
        if member_id == self.id:
            self.leave_soon()

    def leader_changed(self, leader_id: int) -> None:
        self._world.trace(self.id, f"follows {leader_id or 'nobody'}")

    # --- from the disk to a running raft

    def _recover(self) -> tuple[WAL, Raft, StateMachine]:
        if WAL.exists(self._disk, _LOG_DIRECTORY):
            wal, recovered = WAL.open(self._disk, _LOG_DIRECTORY, segment_bytes=SEGMENT_BYTES)
            if recovered.repaired:
                self._world.trace(self.id, f"repaired its log: {recovered.repaired}")
        else:
            salt = self._random.randbytes(8)
            wal = WAL.create(self._disk, _LOG_DIRECTORY, b"%d" % self.id, segment_bytes=SEGMENT_BYTES, salt=salt)
            recovered = Recovered(b"", HardState(), None, [], None)
        if is_blank(recovered) and self.id in self._world.founders:
            members = [Member(founder, (f"http://{founder}:2380",)) for founder in self._world.founders]
            recovered = write_bootstrap_entries(wal, members)
        state_machine = StateMachine(self.backend)
        config = RaftConfig(
            id=self.id, election_ticks=ELECTION_TICKS, defer_commit_broadcast=True, random=Random(self._random.getrandbits(64))
        )
        return wal, restore(config, wal, recovered, self.backend), state_machine
