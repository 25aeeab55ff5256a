"""One replica without a cluster: the test plays its peers, its disk and its clock.

member = LoneMember()                         a follower among 1, 2 and 3, with its bootstrap entries applied
member.receive(...); member.turn()            messages from peers, then the end of the turn
member.disk.finish()                          complete the writes handed to the log
member.sent                                   the messages to its peers
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from random import Random

from tercet.auth import SimpleTokens
from tercet.proto.wire import paste_field
from tercet.raft import Raft, RaftConfig
from tercet.raft.types import ConfState, Entry, HardState, Message, MessageType, Snapshot
from tercet.replica.membership import Member
from tercet.replica.recovery import is_blank, restore, write_bootstrap_entries
from tercet.replica.replica import Options, Replica
from tercet.replica.requests import RequestIds, encode_request
from tercet.replica.state_machine import StateMachine, prepare
from tercet.sim.filesystem import SimulatedFileSystem
from tercet.storage.interfaces import Bucket, ReadView
from tercet.storage.memory_backend import MemoryBackend
from tercet.storage.wal import WAL
from tercet.storage.wal_recovery import Recovered

SELF, LEADER, OTHER = 1, 2, 3
TOKEN_SECONDS = 300.0
INITIAL_MEMBERS = [Member(one, (f"http://{one}:2380",)) for one in (SELF, LEADER, OTHER)]
Then = Callable[[], None]
Content = list[tuple[Bucket, bytes, bytes]]


class Disk:
    """A LogStore over a real write-ahead log; completes its writes when the test calls `finish`."""

    def __init__(self, wal: WAL) -> None:
        self.wal = wal
        self.entries: list[Entry] = []
        self.waiting: list[tuple[Then, Then]] = []

    def append(self, hard_state: HardState | None, entries: Sequence[Entry], *, then: Then, sync: bool = True) -> bool:
        self.entries += entries
        self.waiting.append((lambda: self.wal.append(hard_state, entries), then))
        return False

    def save_snapshot(self, snapshot: Snapshot, *, then: Then) -> None:
        self.waiting.append((lambda: self.wal.save_snapshot(snapshot), then))

    def release(self, index: int) -> None:
        self.wal.release(index)

    def finish(self) -> None:
        while self.waiting:
            waiting, self.waiting = self.waiting, []
            for write, _ in waiting:
                write()
            self.wal.sync()
            for _, then in waiting:
                then()


class LoneMember:
    """Transport, host and clock of the replica it holds."""

    def __init__(
        self,
        backend: MemoryBackend | None = None,
        files: SimulatedFileSystem | None = None,
        *,
        options: Options | None = None,
        initial_members: Sequence[Member] = INITIAL_MEMBERS,
        defer_commit_broadcast: bool = False,
    ) -> None:
        self.now = 100.0
        self.sent: list[Message] = []
        self.calls: list[str] = []
        self.backend = backend or MemoryBackend()
        self.files = files or SimulatedFileSystem()
        wal, recovered = self._open_log()
        if is_blank(recovered):
            recovered = write_bootstrap_entries(wal, initial_members)
        self.disk = Disk(wal)
        self.raft = restore(
            RaftConfig(id=SELF, random=Random(1), defer_commit_broadcast=defer_commit_broadcast), wal, recovered, self.backend
        )
        self.replica = Replica(
            self.raft,
            self.disk,
            self,
            StateMachine(self.backend, tokens=SimpleTokens(clock=lambda: self.now, ttl_seconds=TOKEN_SECONDS)),
            self,
            clock=lambda: self.now,
            now_ms=1000,
            options=options or Options(),
        )
        self.turn()

    def _open_log(self) -> tuple[WAL, Recovered]:
        if WAL.exists(self.files, "wal"):
            return WAL.open(self.files, "wal")
        return WAL.create(self.files, "wal", b"", salt=bytes(8)), Recovered(b"", HardState(), None, [], None)

    def after_power_cut(self) -> LoneMember:
        """The member after a restart: everything that was not durable is lost."""
        self.backend.crash()
        self.files.crash(Random(1))
        return LoneMember(self.backend, self.files)

    # --- what a test does

    def receive(self, *messages: Message) -> None:
        for message in messages:
            self.replica.step(message)

    def turn(self) -> None:
        """End the turn, and the turns that it schedules."""
        self.replica.flush()
        while {"schedule_flush", "schedule_apply"}.intersection(self.calls):
            for name, act in (("schedule_flush", self.replica.flush), ("schedule_apply", self.replica.apply)):
                if name in self.calls:
                    self.calls.remove(name)
                    act()

    def settle(self) -> None:
        """Run turns and writes until there is nothing to do."""
        self.turn()
        while self.disk.waiting:
            self.disk.finish()
            self.turn()

    def follow(self, entries: list[Entry], *, commit: int, term: int = 2) -> None:
        """Receive entries from the leader and write them."""
        before = entries[0].index - 1
        self.receive(append(before, self.raft.log.term(before) or 0, entries, commit=commit, term=term))
        self.settle()

    def lead(self) -> None:
        """Win an election with the vote of LEADER, or alone."""
        self.raft.campaign()
        self.settle()
        for kind in (MessageType.PRE_VOTE_RESP, MessageType.VOTE_RESP):
            term = self.raft.term + (kind is MessageType.PRE_VOTE_RESP)
            self.receive(Message(kind, to=SELF, from_=LEADER, term=term))
            self.settle()

    def take_sent(self, kind: MessageType) -> list[Message]:
        """The messages of one type sent since the last call."""
        found = [message for message in self.sent if message.type == kind]
        self.sent = [message for message in self.sent if message.type != kind]
        return found

    # --- the replica's transport and host

    def send(self, messages: list[Message]) -> None:
        self.sent += messages

    def send_snapshot(self, message: Message, view: ReadView) -> None:
        view.close()
        self.sent.append(message)

    def schedule_flush(self) -> None:
        self.calls.append("schedule_flush")

    def flush_now(self) -> None: ...

    def flush_replies(self) -> None: ...

    def schedule_apply(self) -> None:
        self.calls.append("schedule_apply")

    def schedule_commit_broadcast(self) -> None:
        self.calls.append("schedule_commit_broadcast")

    def receive_database(self, message: Message, content: Content) -> None:
        """Receive a MsgSnap with its database, which is prepared as a worker thread would."""
        assert message.snapshot is not None
        self.replica.receive_snapshot(message, prepare(self.backend, content, message.snapshot))

    def schedule_compaction(self) -> None:
        self.calls.append("schedule_compaction")

    def member_changed(self, member: Member) -> None: ...

    def member_removed(self, member_id: int) -> None: ...


def append(index: int, log_term: int, entries: Iterable[Entry] = (), *, commit: int = 0, term: int = 2) -> Message:
    return Message(
        MessageType.APP,
        to=SELF,
        from_=LEADER,
        term=term,
        log_term=log_term,
        index=index,
        entries=list(entries),
        commit=commit,
    )


def put_entry(term: int, index: int, key: bytes, value: bytes = b"") -> Entry:
    """An entry that puts a key, as another member would propose it."""
    body = paste_field(1, key) + paste_field(2, value)
    return Entry(term, index, encode_request("put", body, RequestIds(LEADER, 1000 + index)))


def snapshot_of(leader: LoneMember, *, term: int) -> tuple[Message, Content]:
    """The snapshot of another member with its database."""
    content = [(bucket, key, value) for bucket in Bucket for key, value in leader.backend.scan(bucket)]
    replica = leader.replica
    index = replica.applied_index
    snapshot = Snapshot(index, leader.raft.log.term(index) or 0, leader.raft.conf_state, replica.membership.to_v2_json())
    message = Message(MessageType.SNAP, to=SELF, from_=LEADER, term=term, snapshot=snapshot)
    return message, content


__all__ = [
    "INITIAL_MEMBERS",
    "LEADER",
    "OTHER",
    "SELF",
    "ConfState",
    "LoneMember",
    "Raft",
    "append",
    "put_entry",
    "snapshot_of",
]
