"""The data types of Raft: entries, messages, configurations, named as in etcd's raftpb.

Plain objects instead of protobuf's, since a member parses or builds up to 30,000 entries a second. `Entry.wire` is the entry's
raftpb encoding; it is made once, and reused in the write-ahead log and in every message that carries the entry.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final, NamedTuple

from tercet.proto.wire import encode_varint

NO_MEMBER: Final = 0


class EntryType(IntEnum):
    NORMAL = 0
    CONF_CHANGE = 1
    CONF_CHANGE_V2 = 2


class MessageType(IntEnum):
    """raftpb.MessageType. HUP, BEAT, UNREACHABLE, CHECK_QUORUM and STORAGE_* are never sent.

    SNAP_STATUS asks a leader for a snapshot. It is local to a member of etcd, which ignores one from a peer.
    """

    HUP = 0
    BEAT = 1
    PROP = 2
    APP = 3
    APP_RESP = 4
    VOTE = 5
    VOTE_RESP = 6
    SNAP = 7
    HEARTBEAT = 8
    HEARTBEAT_RESP = 9
    UNREACHABLE = 10
    SNAP_STATUS = 11
    CHECK_QUORUM = 12
    TRANSFER_LEADER = 13
    TIMEOUT_NOW = 14
    READ_INDEX = 15
    READ_INDEX_RESP = 16
    PRE_VOTE = 17
    PRE_VOTE_RESP = 18
    STORAGE_APPEND = 19
    STORAGE_APPEND_RESP = 20
    STORAGE_APPLY = 21
    STORAGE_APPLY_RESP = 22
    FORGET_LEADER = 23


class ConfChangeType(IntEnum):
    ADD_NODE = 0
    REMOVE_NODE = 1
    UPDATE_NODE = 2
    ADD_LEARNER_NODE = 3


class ConfChangeTransition(IntEnum):
    AUTO = 0
    JOINT_IMPLICIT = 1
    JOINT_EXPLICIT = 2


class Role(Enum):
    """The role of a member in its term (paper §5.1). A pre-candidate asks for pre-votes in its old term (thesis §9.6)."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


class Entry:
    """One entry of the log. Immutable by convention: log, disk and network share its wire form."""

    __slots__ = ("data", "index", "term", "type", "wire")

    def __init__(self, term: int, index: int, data: bytes = b"", type: int = 0, wire: bytes | None = None) -> None:
        self.term = term
        self.index = index
        self.data = data
        self.type = type
        self.wire: bytes = encode_entry(term, index, data, type) if wire is None else wire

    def __repr__(self) -> str:
        return f"Entry({self.term}/{self.index} {EntryType(self.type).name} {len(self.data)}B)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Entry) and (self.term, self.index, self.type, self.data) == (
            other.term,
            other.index,
            other.type,
            other.data,
        )

    __hash__ = None  # type: ignore[assignment]


def encode_entry(term: int, index: int, data: bytes, type: int = 0) -> bytes:
    """raftpb.Entry: Term=2, Index=3, and if set Type=1 and Data=4; fields in order."""
    head = b"\x10" + encode_varint(term) + b"\x18" + encode_varint(index)
    if type:
        head = b"\x08" + encode_varint(type) + head
    return head + b"\x22" + encode_varint(len(data)) + data if data else head


class HardState(NamedTuple):
    """What must survive a crash, or the member could vote twice. A change of `commit` alone needs no fsync."""

    term: int = 0
    vote: int = 0
    commit: int = 0


class ConfState(NamedTuple):
    """A configuration, by member id. `voters_outgoing` is non-empty only in a joint configuration."""

    voters: tuple[int, ...] = ()
    learners: tuple[int, ...] = ()
    voters_outgoing: tuple[int, ...] = ()
    learners_next: tuple[int, ...] = ()
    auto_leave: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A position of the log that replaces everything up to it. `data` is opaque here (etcd: the JSON of its v2 store)."""

    index: int
    term: int
    conf_state: ConfState
    data: bytes = b""


class Message:
    """raftpb.Message; unused fields are zero. `from_` and `to` are member ids.

    Written out because mypyc does not compile what `dataclass` generates, and each put creates several.
    """

    __slots__ = (
        "commit",
        "context",
        "entries",
        "from_",
        "index",
        "log_term",
        "reject",
        "reject_hint",
        "snapshot",
        "term",
        "to",
        "type",
    )

    def __init__(
        self,
        type: MessageType,
        to: int = 0,
        from_: int = 0,
        term: int = 0,
        log_term: int = 0,
        index: int = 0,
        entries: list[Entry] | None = None,
        commit: int = 0,
        snapshot: Snapshot | None = None,
        reject: bool = False,
        reject_hint: int = 0,
        context: bytes = b"",
    ) -> None:
        self.type = type
        self.to = to
        self.from_ = from_
        self.term = term
        self.log_term = log_term
        self.index = index
        self.entries: list[Entry] = [] if entries is None else entries
        self.commit = commit
        self.snapshot = snapshot
        self.reject = reject
        self.reject_hint = reject_hint
        self.context = context

    def _fields(self) -> tuple[object, ...]:
        """In the order of `__init__`."""
        return (
            self.type,
            self.to,
            self.from_,
            self.term,
            self.log_term,
            self.index,
            self.entries,
            self.commit,
            self.snapshot,
            self.reject,
            self.reject_hint,
            self.context,
        )

    def copy(self) -> Message:
        """The same message with its own list of entries."""
        return Message(
            self.type,
            self.to,
            self.from_,
            self.term,
            self.log_term,
            self.index,
            self.entries[:],
            self.commit,
            self.snapshot,
            self.reject,
            self.reject_hint,
            self.context,
        )

    def __repr__(self) -> str:
        fields = [repr(value) for value in self._fields()[1:] if value]
        return f"Message({', '.join([self.type.name, *fields])})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Message) and self._fields() == other._fields()

    __hash__ = None  # type: ignore[assignment]


class ConfChange(NamedTuple):
    """raftpb.ConfChange, the form that etcd proposes: one member at a time. `context` is etcd's membership JSON."""

    type: ConfChangeType
    node_id: int
    id: int = 0
    context: bytes = b""


class ConfChangeV2(NamedTuple):
    """Several changes at once, through a joint configuration if more than one voter changes (thesis §4.3)."""

    changes: tuple[tuple[ConfChangeType, int], ...] = ()
    transition: ConfChangeTransition = ConfChangeTransition.AUTO
    context: bytes = b""
