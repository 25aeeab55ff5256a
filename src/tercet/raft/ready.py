"""What a turn has decided, for the owner to carry out."""

from __future__ import annotations

from tercet.raft.types import Entry, HardState, Message, Snapshot


class Ready:
    """Things to do, in this order where it matters: install `snapshot`, write `entries` and `hard_state`, then
    `persisted(number)`.

    messages: may leave at once. Those that promise something about what is being written come in a later Ready.
    hard_state: None where it has not changed.
    entries: replace what the disk holds at their indexes and behind.
    snapshot: the state machine and the log start anew behind it; durable and installed before `persisted`.
    must_sync: False where only the commit index moved: it needs no fsync, and no call of `persisted`.
    committed: to apply, in order; each is durable here and on a quorum.
    read_states: (context, index) of reads that may be answered once `index` is applied.
    """

    __slots__ = ("committed", "entries", "hard_state", "messages", "must_sync", "number", "read_states", "snapshot")

    def __init__(
        self,
        number: int,
        messages: list[Message],
        hard_state: HardState | None,
        entries: list[Entry],
        snapshot: Snapshot | None,
        must_sync: bool,
        committed: list[Entry],
        read_states: list[tuple[bytes, int]],
    ) -> None:
        self.number = number
        self.messages = messages
        self.hard_state = hard_state
        self.entries = entries
        self.snapshot = snapshot
        self.must_sync = must_sync
        self.committed = committed
        self.read_states = read_states
