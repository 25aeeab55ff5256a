"""Raft as a state machine without I/O: elections, replication, commits, reads and configuration changes.

`Raft` takes the inputs (`step`, `tick`, `propose`), `RawNode` hands out one `Ready` a turn and takes in what is durable.
types.py has the data types, codec.py their encoding, invariants.py what must always hold.
"""

from tercet.raft.confchange import ConfChangeRefused
from tercet.raft.config import RaftConfig
from tercet.raft.log import RaftLog
from tercet.raft.progress import Progress, ProgressState
from tercet.raft.raft import Raft
from tercet.raft.raw_node import RawNode
from tercet.raft.ready import Ready
from tercet.raft.types import (
    ConfChange,
    ConfChangeTransition,
    ConfChangeType,
    ConfChangeV2,
    ConfState,
    Entry,
    EntryType,
    HardState,
    Message,
    MessageType,
    Role,
    Snapshot,
)

__all__ = [
    "ConfChange",
    "ConfChangeRefused",
    "ConfChangeTransition",
    "ConfChangeType",
    "ConfChangeV2",
    "ConfState",
    "Entry",
    "EntryType",
    "HardState",
    "Message",
    "MessageType",
    "Progress",
    "ProgressState",
    "Raft",
    "RaftConfig",
    "RaftLog",
    "RawNode",
    "Ready",
    "Role",
    "Snapshot",
]
