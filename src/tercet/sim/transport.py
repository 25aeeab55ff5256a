"""Transport of one member: messages of its replica to the network, and snapshots with the database that belongs to them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random

from tercet.raft.types import Message, MessageType
from tercet.replica.replica import Replica
from tercet.replica.state_machine import prepare
from tercet.sim.clock import MILLISECOND
from tercet.sim.environment import Environment
from tercet.sim.network import Packet
from tercet.sim.process import Process
from tercet.sim.trace import describe
from tercet.storage.interfaces import Backend, Bucket, ReadView


class SimulatedTransport:
    """See `replica.Transport`. `vote_granted` is called with the candidate's id when a granted vote leaves."""

    def __init__(
        self,
        member_id: int,
        process: Process,
        backend: Backend,
        random: Random,
        environment: Environment,
        *,
        vote_granted: Callable[[int], None],
    ) -> None:
        self._id = member_id
        self._process = process
        self._backend = backend
        self._random = random
        self._environment = environment
        self._vote_granted = vote_granted
        self.replica: Replica  # set by its owner: each of the two needs the other

    def send(self, messages: list[Message]) -> None:
        for message in messages:
            self._environment.network.send(Packet(message))
            if message.type == MessageType.VOTE_RESP and not message.reject:
                self._vote_granted(message.to)

    def receive(self, packet: Packet) -> None:
        message = packet.message
        if message.from_ in self.replica.membership.removed:
            self._environment.removed_sender(message.from_)
            return
        trace = self._environment.trace
        if trace.is_on and message.type not in (MessageType.HEARTBEAT, MessageType.HEARTBEAT_RESP):
            trace(self._id, f"receives {describe(message)}")
        if message.snapshot is not None and packet.database is not None:
            staged = prepare(self._backend, packet.database, message.snapshot)
            self.replica.receive_snapshot(message, staged)
        else:
            self.replica.step(message)

    def snapshot_sent(self, member_id: int, ok: bool) -> None:
        """A snapshot to `member_id` was delivered, or lost."""
        self._process.schedule(10 * MILLISECOND, partial(self._report_snapshot, member_id, ok))

    def _report_snapshot(self, member_id: int, ok: bool) -> None:
        self.replica.report_snapshot(member_id, ok)

    def send_snapshot(self, message: Message, view: ReadView) -> None:
        database = [(bucket, key, value) for bucket in Bucket for key, value in view.scan(bucket)]
        view.close()
        if self._random.random() < self._environment.faults().database_ahead:
            delay = self._random.randint(0, 800 * MILLISECOND)
            self._process.schedule(delay, partial(self._send_newer_database, message))
        else:
            self._environment.network.send(Packet(message, database))

    def _send_newer_database(self, message: Message) -> None:
        """As etcd does: the database is read when it is sent, and holds entries that the snapshot's index does not cover."""
        self._backend.commit_now()
        database = [(bucket, key, value) for bucket in Bucket for key, value in self._backend.scan(bucket)]
        self._environment.network.send(Packet(message, database))
