"""Transport of one member: messages of its replica to the network, and snapshots with the database that belongs to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from random import Random

from tercet.errors import CorruptRecord, StorageFailure
from tercet.raft.types import Message, MessageType, Snapshot
from tercet.replica.replica import Replica
from tercet.replica.state_machine import prepare
from tercet.sim.clock import MICROSECONDS, MILLISECOND
from tercet.sim.environment import Environment
from tercet.sim.log_store import SimulatedLogStore
from tercet.sim.network import Packet
from tercet.sim.process import Process
from tercet.sim.quorum_watch import QuorumWatch
from tercet.sim.slowness import Slowness
from tercet.sim.trace import describe
from tercet.storage.interfaces import Backend, Bucket, ReadView


class SimulatedTransport:
    """See `replica.Transport`. `vote_granted` is called with the candidate's id when a granted vote leaves."""

    def __init__(
        self,
        member_id: int,
        process: Process,
        backend: Backend,
        log_store: SimulatedLogStore,
        random: Random,
        environment: Environment,
        *,
        quorum_watch: QuorumWatch,
        slowness: Slowness,
        vote_granted: Callable[[int], None],
        crash_in_install: Callable[[], None],
    ) -> None:
        self._quorum_watch = quorum_watch
        self._id = member_id
        self._process = process
        self._backend = backend
        self._log_store = log_store
        self._random = random
        self._environment = environment
        self._vote_granted = vote_granted
        self._crash_in_install = crash_in_install
        self._slowness = slowness
        self.replica: Replica  # set by its owner: each of the two needs the other

    def send(self, messages: list[Message]) -> None:
        for message in messages:
            self._environment.sent(self._id, message, self._log_store.durable)
            self._environment.network.send(Packet(message))
            if message.type == MessageType.VOTE_RESP and not message.reject:
                self._vote_granted(message.to)

    def receive(self, packet: Packet) -> None:
        message = packet.message
        if message.from_ in self.replica.membership.removed:
            self._environment.removed_sender(message.from_)
            return
        self._quorum_watch.received(message)
        self._environment.received(message)
        trace = self._environment.trace
        if trace.is_on and message.type not in (MessageType.HEARTBEAT, MessageType.HEARTBEAT_RESP):
            trace(self._id, f"receives {describe(message)}")
        if message.snapshot is not None:
            self._receive_snapshot(packet, message.snapshot)
        else:
            self.replica.step(message)

    def _receive_snapshot(self, packet: Packet, snapshot: Snapshot) -> None:
        """Stage the database, which may take a while, then step the message: raft decides then whether it is wanted."""
        if not self.replica.repair.wants(snapshot.index):
            return
        database = packet.database or []
        items = _torn(database) if packet.is_torn else database
        try:
            staged = prepare(self._backend, items, snapshot)
        except StorageFailure as failure:  # the leader sends another
            self._environment.trace(self._id, f"rejects a snapshot: {failure}")
            return

        def step() -> None:
            self.replica.receive_snapshot(packet.message, staged)
            if self._random.random() < self._environment.faults().crash_in_install or self._slowness.crashes_in_install:
                self._crash_in_install()  # once the backend has it, while the log records it

        is_slow = self._slowness.stages or self._random.random() < self._environment.faults().slow_staging
        if is_slow:
            self._slowness.staged_index = snapshot.index
        self._process.schedule(self._random.randint(0, MICROSECONDS) if is_slow else 0, step)

    def unreachable(self, member_id: int) -> None:
        """A connection to `member_id` broke."""
        self._process.schedule(0, lambda: self.replica.report_unreachable(member_id))

    def snapshot_sent(self, member_id: int, ok: bool) -> None:
        """A snapshot to `member_id` was delivered, or lost."""
        self._process.schedule(10 * MILLISECOND, partial(self._report_snapshot, member_id, ok))

    def _report_snapshot(self, member_id: int, ok: bool) -> None:
        self.replica.report_snapshot(member_id, ok)

    def send_snapshot(self, message: Message, view: ReadView) -> None:
        self._environment.sent(self._id, message, self._log_store.durable)
        if self._random.random() < self._environment.faults().database_ahead:
            view.close()
            delay = self._random.randint(0, 800 * MILLISECOND)
            self._process.schedule(delay, partial(self._send_newer_database, message))
        else:
            self._send_view(message, view)

    def _send_newer_database(self, message: Message) -> None:
        """As etcd does: the database is read when it is sent, and holds entries that the snapshot's index does not cover."""
        self._backend.view(partial(self._send_view, message))

    def _send_view(self, message: Message, view: ReadView) -> None:
        try:
            database = [(bucket, key, value) for bucket in Bucket for key, value in view.scan(bucket)]
        except CorruptRecord:
            self.snapshot_sent(message.to, ok=False)
            return
        finally:
            view.close()
        self._environment.network.send(Packet(message, database))


def _torn(database: list[tuple[Bucket, bytes, bytes]]) -> Iterator[tuple[Bucket, bytes, bytes]]:
    """A database whose second half is missing: its reader finds out."""
    yield from database[: len(database) // 2]
    raise StorageFailure("the database ends early")
