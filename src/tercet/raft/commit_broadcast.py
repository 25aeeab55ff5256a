"""When do followers hear that something is committed?

A commit can ride on the next entries for nothing; told at once it is a message to each follower and an answer from each, as
many as the entries themselves took. While puts come one behind the other, waiting a moment therefore saves half of all
messages:
    at once     entries -> <- stored    commit -> <- heard    entries -> <- stored    commit -> <- heard
    waiting     entries -> <- stored                          entries, commit -> <- stored
The owner ends the wait after a few milliseconds (`Raft.broadcast_commit`), each commit's own: one already carried by MsgApp
needs no message, and a younger one still has its time. Nobody who waits is kept waiting: a commit that a
follower's client is waiting for (a forwarded proposal, a read that the follower serves), or that changes the configuration,
is told at once.

What this must never do: delay the commit itself, or an answer of the leader. It is about news, not about truth.
"""

from __future__ import annotations


class CommitBroadcast:
    """One leadership's account of what followers have yet to hear."""

    __slots__ = ("awaited_index", "has_unsent_commit", "is_due", "waits")

    def __init__(self, *, waits: bool) -> None:
        self.waits = waits
        self.is_due = False  # tell with the next appends, also where there are no entries
        self.has_unsent_commit = False
        self.awaited_index = 0  # followers wait for the commit of everything up to here

    def committed(self, before: int, *, pending_conf_index: int) -> None:
        """The commit index has moved on from `before`."""
        if self.waits and max(self.awaited_index, pending_conf_index) <= before:
            self.has_unsent_commit = True
        else:
            self.is_due = True

    def take(self) -> bool:
        """Appends are about to be made: may they tell a commit alone?"""
        if self.waits and not self.is_due:
            return False
        self.is_due = self.has_unsent_commit = False
        return True
