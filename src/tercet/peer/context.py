"""What the parts of a transport share: this member's identity, its handler, the HTTP client and the limits.

The transport calls `Handler` on the loop, and never from inside one of its own public methods: a report that arises while the
owner sends is delivered in the next turn, so that raft is not re-entered.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import NamedTuple, Protocol

from tercet.http1.client import HttpClient
from tercet.peer.frames import MESSAGE_BYTES_MAX
from tercet.peer.headers import Identity
from tercet.raft.types import Message, MessageType

logger = logging.getLogger(__name__)

_LOCAL_ONLY = frozenset((MessageType.HUP, MessageType.BEAT, MessageType.UNREACHABLE, MessageType.CHECK_QUORUM))


class Handler(Protocol):
    """The owner of a transport: one member. The methods are called on the loop, and must neither wait nor raise."""

    def receive(self, message: Message) -> None:
        """A message to this member, from one that is not removed. A MsgSnap is delivered after its database is on disk."""

    def report_unreachable(self, id: int) -> None:
        """Messages to this member were lost; raft should probe it."""

    def report_snapshot(self, id: int, ok: bool) -> None:
        """A snapshot was received by this member, or sending it failed."""

    def removed(self) -> None:
        """The cluster has removed this member permanently: stop. Called once."""

    def is_removed(self, id: int) -> bool:
        """Whether this member was removed from the cluster."""


class Limits(NamedTuple):
    """Limits of memory (bytes) and time (seconds). The counts are etcd's."""

    message_bytes_max: int = MESSAGE_BYTES_MAX  # one message or frame received on a stream
    post_bytes_max: int = 64 << 20  # one message received by POST
    posts_bytes_max: int = 256 << 20  # all messages being received by POST at the same time
    stream_messages_max: int = 4096  # written to a stream and not yet read by the peer
    stream_bytes_max: int = 64 << 20
    pipeline_messages_max: int = 64
    pipeline_bytes_max: int = 64 << 20
    pipeline_workers: int = 4
    remotes_max: int = 64
    snapshots_max: int = 16  # being sent at the same time
    envelope_bytes_max: int = 64 << 20  # the message before a database
    read_timeout: float = 5.0  # longest time without a byte from the peer
    write_timeout: float = 5.0  # longest time without the peer reading any
    redial_pause: float = 0.1
    post_timeout: float = 10.0
    snapshot_timeout: float = 600.0  # the receiver fsyncs the whole database before it answers
    probe_interval: float = 4.0


class Context:
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
        self.unverified: set[int] = set()  # remotes known only from their own requests: answered, not trusted
        self._closed = False

    def accept(self, message: Message) -> str | None:
        """Deliver a received message to the owner. Returns the reason, in etcd's words, if it is refused instead."""
        reason = self.refusal(message)
        if message.type is MessageType.SNAP and message.snapshot is None:
            reason = "wrong raft message type"
        if reason is None and not self._closed and message.type not in _LOCAL_ONLY:
            self._handler.receive(message)
        return reason

    def refusal(self, message: Message) -> str | None:
        """Why a message must not reach the owner, in etcd's words; None if it may."""
        if self._handler.is_removed(message.from_):
            return "cannot process message from removed member"
        if message.to != self.identity.id:
            return "cannot process message to mismatch member"
        return None

    def is_removed(self, id: int) -> bool:
        return self._handler.is_removed(id)

    def unreachable(self, id: int) -> None:
        """Report lost messages to `id`, at most once per turn."""
        if not self._unreachable:
            self.loop.call_soon(self._report_unreachable)
        self._unreachable.add(id)

    def snapshot_sent(self, id: int, ok: bool) -> None:
        self.loop.call_soon(self._report_snapshot_sent, id, ok)

    def removed_by(self, id: int) -> None:
        """`id` answered that this member is no longer in the cluster. Ignored from an unverified remote."""
        if not self._removed and not self._closed and id not in self.unverified:
            self._removed = True
            logger.critical("the member has been permanently removed from the cluster (reported by peer %x)", id)
            self._handler.removed()

    def close(self) -> None:
        """Call the handler no more."""
        self._closed = True

    def _report_unreachable(self) -> None:
        ids = sorted(self._unreachable)
        self._unreachable.clear()
        for lost in ids:
            if not self._closed:
                self._handler.report_unreachable(lost)

    def _report_snapshot_sent(self, id: int, ok: bool) -> None:
        if not self._closed:
            self._handler.report_snapshot(id, ok)
