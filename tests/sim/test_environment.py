"""Clock, network and disk of the simulator."""

from __future__ import annotations

from functools import partial
from random import Random

import pytest

from tercet.errors import StorageFailure
from tercet.raft.types import Entry, HardState, Message, MessageType
from tercet.sim.acknowledgements import Durable
from tercet.sim.clock import MICROSECONDS, Clock
from tercet.sim.disk import Disk, PowerCut
from tercet.sim.faults import NONE, Faults
from tercet.sim.log_store import SimulatedLogStore
from tercet.sim.network import Network, Packet
from tercet.sim.trace import Trace
from tercet.storage.interfaces import Bucket
from tercet.storage.wal import WAL


def test_events_run_in_order_of_time_then_of_scheduling() -> None:
    clock = Clock()
    ran: list[str] = []
    clock.after(5, lambda: ran.append("late"))
    clock.after(1, lambda: (ran.append("first"), clock.after(0, lambda: ran.append("third")))[0])
    clock.after(1, lambda: ran.append("second"))
    clock.run_until(4)
    assert (ran, clock.now) == (["first", "second", "third"], 4)
    clock.run_until(5)
    assert ran[-1] == "late"


class Link:
    """A network and the packets it delivered."""

    def __init__(self, faults: Faults, seed: int = 1) -> None:
        self.clock = Clock()
        self.arrived: list[Packet] = []
        self.lost: list[Packet] = []
        trace = Trace(self.clock)
        self.network = Network(self.clock, Random(seed), trace, deliver=self.arrived.append, lost=self.lost.append)
        self.network.faults = faults

    def send(self, count: int, kind: MessageType = MessageType.APP, *, from_: int = 1, to: int = 2) -> None:
        for index in range(count):
            self.network.send(Packet(Message(kind, from_=from_, to=to, index=index)))
        self.clock.run_until(self.clock.now + 10 * MICROSECONDS)


def test_without_faults_every_message_arrives_once_and_out_of_order() -> None:
    link = Link(NONE)
    link.send(200)
    indexes = [packet.message.index for packet in link.arrived]
    assert sorted(indexes) == list(range(200))
    assert indexes != sorted(indexes)


def test_messages_are_dropped_and_duplicated() -> None:
    link = Link(Faults(drop=0.3, duplicate=0.3))
    link.send(500)
    indexes = [packet.message.index for packet in link.arrived]
    assert 280 < len(set(indexes)) < 420
    assert len(indexes) > len(set(indexes)) + 50


def test_a_forwarded_proposal_is_never_duplicated() -> None:
    link = Link(Faults(drop=0.0, duplicate=1.0))
    link.send(50, MessageType.PROP)
    assert len(link.arrived) == 50


def test_messages_do_not_share_memory() -> None:
    link = Link(NONE)
    sent = Message(MessageType.APP, from_=1, to=2, entries=[Entry(1, 1)])
    link.network.send(Packet(sent))
    link.clock.run_until(MICROSECONDS)
    arrived = link.arrived[0].message
    assert arrived == sent
    assert arrived is not sent
    assert arrived.entries is not sent.entries


def test_a_cut_link_loses_messages_until_mended_and_reports_lost_snapshots() -> None:
    link = Link(NONE)
    link.network.cut_off(2)
    link.send(5)
    link.send(5, from_=2, to=3)
    link.send(5, from_=1, to=3)
    assert [packet.message.to for packet in link.arrived] == [3] * 5
    database = Packet(Message(MessageType.SNAP, from_=1, to=2), [(Bucket.KEY, b"k", b"v")])
    link.network.send(database)
    assert link.lost == [database]
    link.network.mend()
    link.send(5)
    assert len(link.arrived) == 10


def test_a_cut_loses_messages_in_flight() -> None:
    link = Link(NONE)
    link.network.send(Packet(Message(MessageType.APP, from_=1, to=2)))
    link.network.cut_off(2)
    link.clock.run_until(MICROSECONDS)
    assert link.arrived == []


def test_cuts_take_every_shape() -> None:
    shapes = set()
    for seed in range(60):
        link = Link(NONE, seed)
        link.network.cut([1, 2, 3])
        for a in (1, 2, 3):
            for b in (1, 2, 3):
                if a != b:
                    link.network.send(Packet(Message(MessageType.APP, from_=a, to=b)))
        link.clock.run_until(MICROSECONDS)
        shapes.add(6 - len(link.arrived))
    assert shapes == {1, 2, 4}


class LogDisk:
    """A log store on a disk, and its clock."""

    def __init__(self, faults: Faults = NONE) -> None:
        self.clock = Clock()
        self.random = Random(3)
        self.faults = NONE
        self.disk = Disk(self.random, lambda: self.faults)
        self.failures: list[StorageFailure] = []
        self.acknowledged: list[int] = []
        wal = WAL.create(self.disk, "wal", b"", segment_bytes=4096, salt=bytes(8))
        self.store = SimulatedLogStore(
            wal, Durable(0, 0, 0, 0), self.disk, self.random, self.clock.after, on_failure=self.failures.append
        )
        self.faults = faults

    def append(self, *indexes: int) -> None:
        for index in indexes:
            if self.store.append(
                HardState(1, 0, 0), [Entry(1, index, b"x" * 100)], then=partial(self.acknowledged.append, index)
            ):
                self.acknowledged.append(index)

    def recovered(self) -> list[int]:
        _, recovered = WAL.open(self.disk, "wal", segment_bytes=4096)
        return [entry.index for entry in recovered.entries]


def test_acknowledged_entries_survive_a_crash() -> None:
    for seed in range(40):
        log = LogDisk()
        for index in range(1, 60):
            log.append(index)
            log.clock.run_until(log.clock.now + 3000)
        log.store.crash()
        log.random.seed(seed)
        log.disk.crash()
        assert log.acknowledged == list(range(1, len(log.acknowledged) + 1))
        recovered = log.recovered()
        assert recovered == list(range(1, len(recovered) + 1))
        assert len(log.acknowledged) <= len(recovered) <= 59


def test_a_crash_during_a_write_keeps_none_some_or_all() -> None:
    """A crash with ten entries in flight; the log is readable in every case."""
    endings = set()
    for seed in range(60):
        log = LogDisk()
        log.random.seed(seed)
        log.append(1)
        log.clock.run_until(MICROSECONDS)
        for index in range(2, 12):
            log.append(index)
        log.store.crash()
        log.random.seed(seed)
        log.disk.crash()
        endings.add(len(log.recovered()))
    assert 1 in endings
    assert len(endings) > 1


def test_a_failed_sync_is_reported_once_and_ends_the_log() -> None:
    log = LogDisk(Faults(failed_sync=1.0))
    log.append(1)
    log.append(2)
    log.clock.run_until(MICROSECONDS)
    log.append(3)
    log.clock.run_until(2 * MICROSECONDS)
    assert (log.acknowledged, len(log.failures)) == ([], 1)


def test_the_power_fails_at_a_chosen_sync() -> None:
    disk = Disk(Random(1), lambda: NONE)
    disk.syncs_left = 1
    with pytest.raises(PowerCut):
        WAL.create(disk, "wal", b"", segment_bytes=4096, salt=bytes(8))
    disk.crash()
    WAL.create(disk, "wal", b"", segment_bytes=4096, salt=bytes(8)).close()
