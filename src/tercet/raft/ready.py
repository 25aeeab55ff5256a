"""Ready: what one turn has decided, for the owner to carry out."""

from __future__ import annotations

from tercet.raft.types import Entry, HardState, Message, Snapshot


class Ready:
    """Carry out in this order where it matters: install `snapshot`, write `entries` and `hard_state`, `persisted(number)`.

    messages: may be sent at once. Those that acknowledge what is being written come after `persisted`.
    hard_state: None if unchanged.
    entries: replace what the disk holds from their first index on.
    snapshot: replaces state machine and log; installed and durable before `persisted`.
    must_sync: False if only the commit index changed: needs no fsync and no `persisted`.
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
