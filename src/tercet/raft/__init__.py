"""Consensus alone: elections, replication, commits, reads and membership, as a state machine without I/O.

`Raft` is told things (`step`, `tick`, `propose`, `persisted`) and answers with a `Ready` a turn; core.py says what its owner
owes. Beside it stand the nouns (types.py), their bytes (codec.py) and what must never be false (invariants.py).
"""

from tercet.raft.confchange import ConfChangeRefused
from tercet.raft.log import RaftLog
from tercet.raft.progress import Progress, ProgressState
from tercet.raft.raft import Raft, RaftConfig
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
    "Ready",
    "Role",
    "Snapshot",
]
