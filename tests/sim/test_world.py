"""Clock, network and disk of the simulator: each does what its docstring says, and no more."""

from __future__ import annotations

from functools import partial
from random import Random

import pytest

from tercet.errors import StorageFailure
from tercet.raft.types import Entry, HardState, Message, MessageType
from tercet.sim.clock import MICROSECONDS, Clock
from tercet.sim.disk import Disk, PowerCut, SimulatedLogStore
from tercet.sim.faults import NONE, Faults
from tercet.sim.network import Network, Parcel
from tercet.sim.trace import Trace
from tercet.storage.interfaces import Bucket
from tercet.storage.wal import WAL


def test_events_run_in_order_of_time_then_of_planning() -> None:
    clock = Clock()
    ran: list[str] = []
    clock.after(5, lambda: ran.append("late"))
    clock.after(1, lambda: (ran.append("first"), clock.after(0, lambda: ran.append("third")))[0])
    clock.after(1, lambda: ran.append("second"))
    clock.run_until(4)
    assert (ran, clock.now) == (["first", "second", "third"], 4)
    clock.run_until(5)
    assert ran[-1] == "late"


class Post:
    """A network with its two ends."""

    def __init__(self, faults: Faults, seed: int = 1) -> None:
        self.clock = Clock()
        self.arrived: list[Parcel] = []
        self.lost: list[Parcel] = []
        trace = Trace(self.clock)
        self.network = Network(self.clock, Random(seed), trace, deliver=self.arrived.append, lost=self.lost.append)
        self.network.faults = faults

    def send(self, count: int, kind: MessageType = MessageType.APP, *, from_: int = 1, to: int = 2) -> None:
        for index in range(count):
            self.network.send(Parcel(Message(kind, from_=from_, to=to, index=index)))
        self.clock.run_until(self.clock.now + 10 * MICROSECONDS)


def test_a_good_network_delivers_all_once_and_out_of_order() -> None:
    post = Post(NONE)
    post.send(200)
    indexes = [parcel.message.index for parcel in post.arrived]
    assert sorted(indexes) == list(range(200))
    assert indexes != sorted(indexes)


def test_a_bad_network_loses_and_doubles() -> None:
    post = Post(Faults(drop=0.3, duplicate=0.3))
    post.send(500)
    indexes = [parcel.message.index for parcel in post.arrived]
    assert 280 < len(set(indexes)) < 420
    assert len(indexes) > len(set(indexes)) + 50


def test_a_forwarded_proposal_is_never_doubled() -> None:
    post = Post(Faults(drop=0.0, duplicate=1.0))
    post.send(50, MessageType.PROP)
    assert len(post.arrived) == 50


def test_messages_do_not_share_memory() -> None:
    post = Post(NONE)
    sent = Message(MessageType.APP, from_=1, to=2, entries=[Entry(1, 1)])
    post.network.send(Parcel(sent))
    post.clock.run_until(MICROSECONDS)
    arrived = post.arrived[0].message
    assert arrived == sent
    assert arrived is not sent
    assert arrived.entries is not sent.entries


def test_a_cut_link_loses_both_ways_until_mended_and_tells_of_databases() -> None:
    post = Post(NONE)
    post.network.cut_off(2)
    post.send(5)
    post.send(5, from_=2, to=3)
    post.send(5, from_=1, to=3)
    assert [parcel.message.to for parcel in post.arrived] == [3] * 5
    database = Parcel(Message(MessageType.SNAP, from_=1, to=2), [(Bucket.KEY, b"k", b"v")])
    post.network.send(database)
    assert post.lost == [database]
    post.network.mend()
    post.send(5)
    assert len(post.arrived) == 10


def test_a_cut_also_loses_what_is_under_way() -> None:
    post = Post(NONE)
    post.network.send(Parcel(Message(MessageType.APP, from_=1, to=2)))
    post.network.cut_off(2)
    post.clock.run_until(MICROSECONDS)
    assert post.arrived == []


def test_cuts_come_in_all_shapes() -> None:
    shapes = set()
    for seed in range(60):
        post = Post(NONE, seed)
        post.network.cut([1, 2, 3])
        for a in (1, 2, 3):
            for b in (1, 2, 3):
                if a != b:
                    post.network.send(Parcel(Message(MessageType.APP, from_=a, to=b)))
        post.clock.run_until(MICROSECONDS)
        shapes.add(6 - len(post.arrived))
    assert shapes == {1, 2, 4}


class Machine:
    """A log store on a disk, with a clock to drive it."""

    def __init__(self, faults: Faults = NONE) -> None:
        self.clock = Clock()
        self.disk = Disk()
        self.failures: list[StorageFailure] = []
        self.told: list[int] = []
        wal = WAL.create(self.disk, "wal", b"", segment_bytes=4096, salt=bytes(8))
        self.store = SimulatedLogStore(
            wal, self.disk, Random(3), lambda: faults, self.clock.after, on_failure=self.failures.append
        )

    def append(self, *indexes: int) -> None:
        for index in indexes:
            if self.store.append(HardState(1, 0, 0), [Entry(1, index, b"x" * 100)], then=partial(self.told.append, index)):
                self.told.append(index)

    def recovered(self) -> list[int]:
        _, recovered = WAL.open(self.disk, "wal", segment_bytes=4096)
        return [entry.index for entry in recovered.entries]


def test_what_is_told_survives_a_crash_and_is_told_in_order() -> None:
    for seed in range(40):
        state_machine = Machine()
        for index in range(1, 60):
            state_machine.append(index)
            state_machine.clock.run_until(state_machine.clock.now + 3000)
        state_machine.store.crash()
        state_machine.disk.crash(Random(seed))
        assert state_machine.told == list(range(1, len(state_machine.told) + 1))
        recovered = state_machine.recovered()
        assert recovered == list(range(1, len(recovered) + 1))
        assert len(state_machine.told) <= len(recovered) <= 59


def test_a_crash_in_the_middle_of_a_write_ends_in_every_way() -> None:
    """Of ten entries in flight none, some or all are there again; the log is always readable."""
    endings = set()
    for seed in range(60):
        state_machine = Machine()
        state_machine.store._random = Random(seed)
        state_machine.append(1)
        state_machine.clock.run_until(MICROSECONDS)
        for index in range(2, 12):
            state_machine.append(index)
        state_machine.store.crash()
        state_machine.disk.crash(Random(seed))
        endings.add(len(state_machine.recovered()))
    assert 1 in endings
    assert len(endings) > 1


def test_a_failed_sync_is_told_once_and_nothing_else_after_it() -> None:
    state_machine = Machine(Faults(failed_sync=1.0))
    state_machine.append(1)
    state_machine.append(2)
    state_machine.clock.run_until(MICROSECONDS)
    state_machine.append(3)
    state_machine.clock.run_until(2 * MICROSECONDS)
    assert (state_machine.told, len(state_machine.failures)) == ([], 1)


def test_the_power_can_fail_at_a_chosen_sync() -> None:
    disk = Disk()
    disk.syncs_left = 1
    with pytest.raises(PowerCut):
        WAL.create(disk, "wal", b"", segment_bytes=4096, salt=bytes(8))
    disk.crash(Random(1))
    WAL.create(disk, "wal", b"", segment_bytes=4096, salt=bytes(8)).close()
