"""What every part of the transport shares: who we are, whom to tell, how to reach others, and the bounds.

The owner is told things through `Handler`, always on the loop and never from inside one of the transport's own public
methods: a report that arises while the owner sends is handed over on the next turn, so that raft is not entered from within
itself.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tercet.http1.client import HttpClient
from tercet.peer.frames import MESSAGE_BYTES_MAX
from tercet.peer.headers import Identity
from tercet.raft.types import Message, MessageType

logger = logging.getLogger("tercet.peer")

_LOCAL_ONLY = frozenset(
    (MessageType.HUP, MessageType.BEAT, MessageType.UNREACHABLE, MessageType.SNAP_STATUS, MessageType.CHECK_QUORUM)
)


class Handler(Protocol):
    """The owner of a transport: one member. Plain calls on the loop; none may wait, and none may raise."""

    def receive(self, message: Message) -> None:
        """A message to this member from one that is not removed. A MsgSnap only comes once its database is in place."""

    def snapshot_wanted(self, message: Message) -> None:
        """raft wants to send this MsgSnap. Answer by `Transport.send_snapshot`, when a view of the database is at hand."""

    def report_unreachable(self, id: int) -> None:
        """Messages to this member were lost; raft should probe it."""

    def report_snapshot(self, id: int, ok: bool) -> None:
        """A snapshot to this member has been taken, or has failed."""

    def removed(self) -> None:
        """The cluster says that this member has been removed for good: stop. Called once."""

    def is_removed(self, id: int) -> bool:
        """Was this member removed from the cluster?"""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of memory and of patience. Seconds and bytes; the counts are etcd's."""

    message_bytes_max: int = MESSAGE_BYTES_MAX  # one message or frame received on a stream
    post_bytes_max: int = 64 << 20  # one message received by POST
    posts_bytes_max: int = 256 << 20  # all messages being received by POST at one moment
    stream_messages_max: int = 4096  # written to a stream that its reader has not taken
    stream_bytes_max: int = 64 << 20
    pipeline_messages_max: int = 64
    pipeline_bytes_max: int = 64 << 20
    pipeline_workers: int = 4
    remotes_max: int = 64
    snapshots_max: int = 16  # being sent at one moment
    envelope_bytes_max: int = 64 << 20  # the message in front of a database
    read_timeout: float = 5.0  # longest silence on a connection
    write_timeout: float = 5.0  # longest time that a connection takes no bytes
    redial_pause: float = 0.1
    post_timeout: float = 10.0
    snapshot_timeout: float = 600.0  # the receiver's fsync of a whole database stands between the last byte and the answer
    probe_interval: float = 4.0


class Context:
    """See the module."""

    def __init__(
        self, identity: Identity, handler: Handler, client: HttpClient, snapshot_directory: Path, limits: Limits
    ) -> None:
        self.identity = identity
        self.client = client
        self.snapshot_directory = snapshot_directory
        self.limits = limits
        self.loop = asyncio.get_running_loop()
        self._handler = handler
        self._unreachable: set[int] = set()
        self._removed = False
        self.strangers: set[int] = set()  # remotes that introduced themselves: answered, but not believed
        self._closed = False

    def accept(self, message: Message) -> str | None:
        """Give a received message to the owner. Returns why not, in etcd's words, if it is not for it to see."""
        reason = self.why_refused(message)
        if reason is None and not self._closed and message.type not in _LOCAL_ONLY:
            self._handler.receive(message)
        return reason

    def why_refused(self, message: Message) -> str | None:
        if self._handler.is_removed(message.from_):
            return "cannot process message from removed member"
        if message.to != self.identity.id:
            return "cannot process message to mismatch member"
        return None

    def is_removed(self, id: int) -> bool:
        return self._handler.is_removed(id)

    def snapshot_wanted(self, message: Message) -> None:
        self.loop.call_soon(self._tell_snapshot_wanted, message)

    def unreachable(self, id: int) -> None:
        """Once a turn and member at most: a burst of lost messages is one piece of news."""
        if not self._unreachable:
            self.loop.call_soon(self._tell_unreachable)
        self._unreachable.add(id)

    def snapshot_sent(self, id: int, ok: bool) -> None:
        self.loop.call_soon(self._tell_snapshot_sent, id, ok)

    def removed_by(self, id: int) -> None:
        """`id` answered that this member is out of the cluster. A stranger may say so for ever."""
        if not self._removed and not self._closed and id not in self.strangers:
            self._removed = True
            logger.critical("the member has been permanently removed from the cluster (%x says so)", id)
            self._handler.removed()

    def close(self) -> None:
        """Tell the owner nothing from now on."""
        self._closed = True

    def _tell_snapshot_wanted(self, message: Message) -> None:
        if not self._closed:
            self._handler.snapshot_wanted(message)

    def _tell_unreachable(self) -> None:
        ids = sorted(self._unreachable)
        self._unreachable.clear()
        for lost in ids:
            if not self._closed:
                self._handler.report_unreachable(lost)

    def _tell_snapshot_sent(self, id: int, ok: bool) -> None:
        if not self._closed:
            self._handler.report_snapshot(id, ok)
