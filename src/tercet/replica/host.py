"""What a replica needs from its surroundings: a transport to the other members, and a host that runs it.

The server implements both on the event loop, the simulator on virtual time.
"""

from __future__ import annotations

from typing import Protocol

from tercet.raft.types import Message
from tercet.replica.membership import Member
from tercet.storage.interfaces import ReadView


class Transport(Protocol):
    """Sends messages to the other members. Never blocks, and may lose any message: raft retries."""

    def send(self, messages: list[Message]) -> None:
        """Send messages other than MsgSnap."""
        ...

    def send_snapshot(self, message: Message, view: ReadView) -> None:
        """Send a MsgSnap with the database that `view` shows, then close `view` and call `Replica.report_snapshot`."""
        ...


class ReplicaHost(Protocol):
    """Runs one replica."""

    def schedule_flush(self) -> None:
        """Call `Replica.flush` at the end of this turn. Called once a turn."""
        ...

    def flush_now(self) -> None:
        """Call `Replica.flush` at once: a full batch has been gathered."""
        ...

    def flush_replies(self) -> None:
        """Write out the responses given so far, before anything else is done."""
        ...

    def schedule_apply(self) -> None:
        """Call `Replica.apply` in the next turn, after other events. Called once a turn."""
        ...

    def schedule_commit_broadcast(self) -> None:
        """Call `Replica.broadcast_commit` in a few milliseconds."""
        ...

    def schedule_compaction(self) -> None:
        """Call `Replica.compaction.step` repeatedly, with pauses, until it returns False."""
        ...

    def member_changed(self, member: Member) -> None:
        """A member was added, or its peer URLs changed."""
        ...

    def member_removed(self, member_id: int) -> None:
        """A member was removed; it may be this one."""
        ...
