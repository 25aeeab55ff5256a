"""Deferred commit broadcast: when followers learn a new commit index.

A commit index rides on the next entries for free; broadcast at once it costs a message to each follower and a response from
each, as many as the entries themselves. With sequential puts, deferring it halves the number of messages:
    at once     entries -> <- ack    commit -> <- ack    entries -> <- ack    commit -> <- ack
    deferred    entries -> <- ack                        entries + commit -> <- ack
The owner ends the deferral of each commit after a few milliseconds (`Raft.broadcast_commit`). A commit index that a MsgApp has
carried since needs no message; a newer one keeps its own delay. A commit that a follower waits for (a forwarded proposal, a
read it serves) or that changes the configuration is broadcast at once.

Deferral concerns the notification only: it never delays the commit or an answer of the leader.
"""

from __future__ import annotations


class CommitBroadcast:
    """What followers have yet to learn of one leader's commits."""

    __slots__ = ("awaited_index", "deferred", "has_unsent_commit", "is_due")

    def __init__(self, *, deferred: bool) -> None:
        self.deferred = deferred
        self.is_due = False  # the next appends carry the commit index, with or without entries
        self.has_unsent_commit = False
        self.awaited_index = 0  # followers wait for the commit of everything up to here

    def committed(self, before: int, *, pending_conf_index: int) -> None:
        """The commit index has advanced from `before`."""
        if self.deferred and max(self.awaited_index, pending_conf_index) <= before:
            self.has_unsent_commit = True
        else:
            self.is_due = True

    def take(self) -> bool:
        """Appends are about to be sent: may an empty one carry the commit index?"""
        if self.deferred and not self.is_due:
            return False
        self.is_due = self.has_unsent_commit = False
        return True
