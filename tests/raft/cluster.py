"""A cluster of `Raft` objects in memory, each with a disk, and a network that delivers messages on request.

A disk completes writes in order: at once, or, while it is stalled, on request. A crash loses incomplete writes. The state
machine is the list of applied data; a snapshot contains that list. A `Witness` observes every event.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Self

from tercet.errors import require
from tercet.raft import (
    ConfChange,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    Raft,
    RaftConfig,
    RaftLog,
    RawNode,
    Ready,
    Role,
    Snapshot,
)
from tercet.raft.codec import conf_change_in, encode_conf_change
from tercet.raft.invariants import Witness


class Disk:
    """What survives a crash."""

    def __init__(self, conf_state: ConfState) -> None:
        self.hard_state = HardState()
        self.snapshot = Snapshot(0, 0, conf_state)
        self.entries: list[Entry] = []

    def write(self, ready: Ready) -> None:
        if ready.snapshot is not None:
            self.snapshot = ready.snapshot
            self.entries = []
        if ready.entries:
            keep = ready.entries[0].index - self.snapshot.index - 1
            self.entries[keep:] = ready.entries
        if ready.hard_state is not None:
            self.hard_state = ready.hard_state

    def compact(self, snapshot: Snapshot) -> None:
        self.entries = self.entries[snapshot.index - self.snapshot.index :]
        self.snapshot = snapshot


class Member:
    """One member with its disk and its state machine."""

    def __init__(self, cluster: Cluster, id: int, conf_state: ConfState) -> None:
        self.cluster = cluster
        self.id = id
        self.disk = Disk(conf_state)
        self.is_stalled = False
        self.is_up = False
        self.raft: Raft
        self.start()

    def start(self) -> None:
        disk = self.disk
        self.is_up = True
        self.writes: deque[Ready] = deque()
        self.applied = disk.snapshot.data.split() if disk.snapshot.data else []
        self.raft = Raft(
            self.cluster.config(self.id),
            RaftLog(disk.snapshot.index, disk.snapshot.term, disk.entries),
            hard_state=disk.hard_state,
            conf_state=disk.snapshot.conf_state,
            applied=disk.snapshot.index,
        )
        self.node = RawNode(self.raft)
        self.raft.snapshot_source = self.make_snapshot
        self.cluster.witness.restarted(self.id)

    def crash(self, *, writes_kept: int = 0) -> None:
        """Lose the memory and all writes in flight but the first `writes_kept`, which completed without being reported."""
        self.is_up = False
        for ready in list(self.writes)[:writes_kept]:
            self.disk.write(ready)

    def make_snapshot(self) -> Snapshot | None:
        index = self.raft.applied_index
        term = self.raft.log.term(index)
        if term is None:  # a received snapshot is being installed
            return None
        return Snapshot(index, term, self.raft.conf_state, b" ".join(self.applied))

    def compact(self, *, keep: int = 0) -> None:
        """Take a snapshot of what is applied, and drop the log up to it but for `keep` entries."""
        snapshot = self.make_snapshot()
        if snapshot is not None and snapshot.index > self.disk.snapshot.index and not self.writes:
            self.disk.compact(snapshot)
            self.raft.compact(max(snapshot.index - keep, self.raft.log.snapshot_index))

    def settle(self) -> None:
        """Carry out Readys until there are none; a stalled disk completes nothing."""
        while self.node.has_ready():
            self.carry_out(self.node.take_ready())
            self.cluster.watch(self)
            if not self.is_stalled:
                while self.writes:
                    self.finish_write()

    def carry_out(self, ready: Ready) -> None:
        self.cluster.notice(self, ready)
        self.cluster.network.extend(ready.messages)
        if ready.must_sync:
            self.writes.append(ready)
        elif ready.hard_state is not None:
            if self.writes:
                self.writes.append(ready)
            else:
                self.disk.write(ready)
        for entry in ready.committed:
            self.apply(entry)
        for context, index in ready.read_states:
            self.cluster.answer_read(self, context, index)

    def apply(self, entry: Entry) -> None:
        if entry.type != EntryType.NORMAL:
            self.raft.apply_conf_change(self.cluster.validate(self.raft.conf_state, conf_change_in(entry)))
        elif entry.data:
            self.applied.append(entry.data)
        self.raft.applied_to(entry.index)

    def finish_write(self) -> None:
        ready = self.writes.popleft()
        self.disk.write(ready)
        if ready.snapshot is not None:
            self.applied = ready.snapshot.data.split()
        if ready.must_sync:
            self.node.persisted(ready.number)
        self.cluster.watch(self)


class Cluster:
    """Members by id, and the messages in flight in the order they were sent."""

    def __init__(self, *, seed: int = 0, **options: object) -> None:
        self.random = Random(seed)
        self.options = options
        self.witness = Witness()
        self.network: deque[Message] = deque()
        self.members: dict[int, Member] = {}
        self.cut: set[int] = set()
        self.reads: dict[bytes, int] = {}  # context -> the highest index committed anywhere at the request
        self.trace: Callable[[str], None] = lambda line: None

    @classmethod
    def of(cls, count: int, *, seed: int = 0, learners: tuple[int, ...] = (), **options: object) -> Self:
        """Members 1..count with this configuration and empty logs."""
        cluster = cls(seed=seed, **options)
        conf = ConfState(voters=tuple(i for i in range(1, count + 1) if i not in learners), learners=learners)
        for member in range(1, count + 1):
            cluster.add(member, conf)
        return cluster

    @classmethod
    def bootstrapped(cls, count: int, *, seed: int = 0, **options: object) -> Self:
        """A new cluster as a server bootstraps it: the log holds one committed entry of term 1 per member."""
        cluster = cls(seed=seed, **options)
        for member in range(1, count + 1):
            it = cluster.add(member)
            it.disk.entries = bootstrap_entries(count)
            it.disk.hard_state = HardState(1, 0, count)
            it.start()
            it.settle()
        return cluster

    def config(self, member: int) -> RaftConfig:
        return RaftConfig(member, random=Random(self.random.random()), **self.options)  # type: ignore[arg-type]

    def add(self, member: int, conf_state: ConfState | None = None) -> Member:
        """Add a member with an empty disk; without a configuration it joins a cluster."""
        self.members[member] = Member(self, member, conf_state or ConfState())
        return self.members[member]

    def __getitem__(self, member: int) -> Raft:
        return self.members[member].raft

    def up(self) -> list[Member]:
        return [member for member in self.members.values() if member.is_up]

    def leader(self) -> Member | None:
        """The leader of the newest term, if there is one."""
        leaders = [member for member in self.up() if member.raft.is_leader]
        return max(leaders, key=lambda member: member.raft.term, default=None)

    # Events.

    def tick(self, member: int, count: int = 1) -> None:
        for _ in range(count):
            self.members[member].raft.tick()
            self.touch(member)

    def campaign(self, member: int) -> None:
        self[member].campaign()
        self.touch(member)

    def propose(self, member: int, *data: bytes) -> bool:
        accepted = self[member].propose(list(data))
        self.touch(member)
        return accepted

    def propose_conf_change(self, member: int, change: ConfChange | ConfChangeV2) -> bool:
        accepted = self[member].propose_conf_change(change)
        self.touch(member)
        return accepted

    def read(self, member: int, context: bytes) -> bool:
        self.reads[context] = self.witness.committed_last
        accepted = self[member].read_index(context)
        self.touch(member)
        return accepted

    def touch(self, member: int) -> None:
        self.watch(self.members[member])
        self.members[member].settle()

    def deliver(self, message: Message) -> None:
        receiver = self.members.get(message.to)
        if receiver is None or not receiver.is_up or message.from_ in self.cut or message.to in self.cut:
            return
        receiver.raft.step(message)
        self.touch(message.to)

    def run(self, count_max: int = 10_000) -> None:
        """Deliver in order until no message is in flight."""
        for _ in range(count_max):
            if not self.network:
                return
            self.deliver(self.network.popleft())
        raise AssertionError(f"still {len(self.network)} messages after {count_max}")

    def elect(self, member: int) -> None:
        """Let `member` win an election, and deliver everything."""
        for other in self.up():
            other.raft.election_elapsed = other.raft.config.election_ticks  # so that all members grant votes
        self.campaign(member)
        self.run()
        assert self[member].role is Role.LEADER, self[member].role

    def heartbeat(self, rounds: int = 1) -> None:
        """Send a round of heartbeats and deliver everything."""
        for _ in range(rounds):
            leader = self.leader()
            assert leader is not None
            self.tick(leader.id)
            self.run()

    # Observation.

    def watch(self, member: Member) -> None:
        self.witness.observe(member.raft)

    def validate(self, conf_state: ConfState, change: ConfChange | ConfChangeV2) -> ConfChange | ConfChangeV2:
        """Replace a change as it is applied; deterministic, as a server's membership rules are."""
        return change

    def notice(self, member: Member, ready: Ready) -> None:
        """Called with each Ready, for a transcript."""

    def answer_read(self, member: Member, context: bytes, index: int) -> None:
        require(index >= self.reads[context], "a stale read", index, self.reads[context])


def bootstrap_entries(count: int) -> list[Entry]:
    changes = [ConfChange(ConfChangeType.ADD_NODE, member) for member in range(1, count + 1)]
    return [Entry(1, index, encode_conf_change(change), 1) for index, change in enumerate(changes, 1)]
