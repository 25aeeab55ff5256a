"""The parameters of one member's Raft."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from tercet.errors import require
from tercet.raft.types import NO_MEMBER


@dataclass(frozen=True, slots=True)
class RaftConfig:
    """Constant for the lifetime of a `Raft`. Times are in ticks, sizes in bytes of entries in wire form."""

    id: int
    election_ticks: int = 10
    heartbeat_ticks: int = 1
    pre_vote: bool = True
    check_quorum: bool = True
    max_message_bytes: int = 1 << 20
    max_inflight_messages: int = 512
    max_committed_bytes: int = 1 << 20
    defer_commit_broadcast: bool = False  # until the next entries or `Raft.broadcast_commit`: see commit_broadcast.py
    random: Random = field(kw_only=True)

    def __post_init__(self) -> None:
        require(self.id != NO_MEMBER, "a member needs an id", self)
        require(0 < self.heartbeat_ticks < self.election_ticks, "heartbeats must be more frequent than elections", self)
        require(self.max_inflight_messages > 0, "at least one message must be allowed in flight", self)
