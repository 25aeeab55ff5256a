"""Drives a replica on the event loop: ticks, flushes, messages from peers, paced compaction.

The driver is the replica's host (`ReplicaHost`) and the transport's handler (`peer.Handler`). All input of one turn of the
loop is collected; one `flush` at the end of the turn processes it.

Invariant: after a storage failure or a violated invariant the member acknowledges nothing; `fail` stops the replica at once
and the process exits.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from tercet.log_fields import fields
from tercet.peer import PeerStatus, Receptions
from tercet.raft import Raft
from tercet.raft.types import Message, MessageType
from tercet.replica.apply import ApplyTimer
from tercet.replica.membership import Member, hex_id
from tercet.replica.replica import Options, Replica
from tercet.replica.state_machine import StateMachine
from tercet.rpc import Server
from tercet.server.auto_compactor import AutoCompactor
from tercet.server.late_heartbeats import LateHeartbeats
from tercet.server.scheduled_compactions import ScheduledCompactions
from tercet.server.snapshot_file import database_chunks
from tercet.server.snapshot_installer import SnapshotInstaller
from tercet.storage.interfaces import LogStore, ReadView

logger = logging.getLogger(__name__)

# Longer than a put takes: of sequential puts, each carries the commit index of the one before in its MsgApp.
_COMMIT_BROADCAST_SECONDS: Final = 0.003


class Peers(Protocol):
    """What a driver and its metrics need of `peer.Transport`."""

    @property
    def peers(self) -> list[int]: ...
    def peer(self, id: int) -> object | None: ...
    def status(self, id: int) -> PeerStatus | None: ...
    def active_since(self, id: int) -> float | None: ...
    def receptions(self) -> Mapping[int, Receptions]: ...
    def add_peer(self, id: int, urls: Sequence[str]) -> None: ...
    def update_peer(self, id: int, urls: Sequence[str]) -> None: ...
    def remove_peer(self, id: int) -> None: ...
    def send(self, messages: Sequence[Message]) -> None: ...
    def send_snapshot(self, message: Message, database: AsyncIterator[bytes]) -> None: ...


class ReplicaDriver:
    """Host of a replica and handler of a transport.

    on_failure: called once, when the member must stop. on_removed: called when it has been removed from the cluster.
    """

    def __init__(
        self,
        raft: Raft,
        log_store: LogStore,
        state_machine: StateMachine,
        *,
        options: Options,
        apply_timer: ApplyTimer | None = None,
        snapshot_directory: Path,
        tick_seconds: float,
        compaction_limit: int,
        compaction_pause_seconds: float,
        on_failure: Callable[[BaseException], None],
        on_removed: Callable[[], None],
        lease_clock: Callable[[], float] | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._tick_seconds = tick_seconds
        self._compaction_pause_seconds = compaction_pause_seconds
        self._on_failure = on_failure
        self._on_removed = on_removed
        self._has_failed = False
        self._compaction_is_scheduled = False
        self._tick_handle: asyncio.TimerHandle | None = None
        self._tick_due = 0.0
        self.auto_compactor: AutoCompactor | None = None
        self.transport: Peers | None = None
        self.rpc_server: Server | None = None
        self.replica = Replica(
            raft,
            log_store,
            self,
            state_machine,
            self,
            clock=self._loop.time,
            now_ms=int(time.time() * 1000),
            options=options,
            apply_timer=apply_timer,
            lease_clock=lease_clock,
        )
        self.late_heartbeats = LateHeartbeats(self.replica, tick_seconds)
        self.compactions = ScheduledCompactions(self.replica, compaction_limit)
        receive_snapshot = partial(self.guard, self.replica.receive_snapshot)
        self.installer = SnapshotInstaller(self.replica, snapshot_directory, receive_snapshot)
        self.replica.leader_listeners.append(_LeaderLog(self.replica).changed)

    def start(self, transport: Peers) -> None:
        """Connect to the members and start ticking."""
        self.transport = transport
        for member in self.replica.membership.sorted():
            self.member_changed(member)
        self.schedule_compaction()  # a restart may have interrupted one
        self._tick_due = self._loop.time() + self._tick_seconds
        self._tick_handle = self._loop.call_at(self._tick_due, self._tick)
        self.guard(self.replica.flush)

    def stop(self) -> None:
        """Stop ticking and acknowledging; pending requests are answered with an error."""
        if self._tick_handle is not None:
            self._tick_handle.cancel()
        self.replica.stop()

    @property
    def has_failed(self) -> bool:
        return self._has_failed

    def now(self) -> float:
        """The clock of the loop, which `Peers.active_since` refers to."""
        return self._loop.time()

    async def close(self) -> None:
        """Cancel the preparation of snapshots and wait for its threads."""
        await self.compactions.close()
        await self.installer.close()

    def fail(self, error: BaseException) -> None:
        """Stop after a failure of storage or of an invariant. Only the first failure is reported."""
        if self._has_failed:
            return
        self._has_failed = True
        try:
            self.stop()
        finally:  # callbacks of pending requests may raise
            self._on_failure(error)

    # --- time

    def _tick(self) -> None:
        now = self._loop.time()
        self.late_heartbeats.ticked(now - self._tick_due)
        # Ticks missed during a long turn are dropped: the leader may have sent heartbeats that are still unread.
        self._tick_due = max(self._tick_due + self._tick_seconds, now + self._tick_seconds / 2)
        self._tick_handle = self._loop.call_at(self._tick_due, self._tick)
        self.guard(self.replica.tick)
        if self.auto_compactor is not None:
            self.guard(self.auto_compactor.run_if_due)

    # --- ReplicaHost

    def schedule_flush(self) -> None:
        self._loop.call_soon(self.flush_now)

    def flush_now(self) -> None:
        server = self.rpc_server
        if server is None:
            self.guard(self.replica.flush)
            return
        server.hold()  # its replies need no turn of their own
        self.guard(self.replica.flush)
        server.release()

    def flush_replies(self) -> None:
        if self.rpc_server is not None:
            self.rpc_server.flush()

    def schedule_apply(self) -> None:
        self._loop.call_soon(self.guard, self.replica.apply)

    def schedule_commit_broadcast(self) -> None:
        self._loop.call_later(_COMMIT_BROADCAST_SECONDS, self.guard, self.replica.broadcast_commit)

    def schedule_compaction(self) -> None:
        if not self._compaction_is_scheduled:
            self._compaction_is_scheduled = True
            self._loop.call_soon(self.guard, self._compact_some)

    def _compact_some(self) -> None:
        if self.compactions.step():
            self._loop.call_later(self._compaction_pause_seconds, self.guard, self._compact_some)
        else:
            self._compaction_is_scheduled = False

    def send(self, messages: list[Message]) -> None:
        if self.transport is not None:
            self.transport.send(messages)

    def send_snapshot(self, message: Message, view: ReadView) -> None:
        if self.transport is not None:
            self.transport.send_snapshot(message, database_chunks(view))
        else:
            view.close()

    def member_changed(self, member: Member) -> None:
        if self.transport is None or member.id == self.replica.member_id:
            return
        try:
            is_new = self.transport.peer(member.id) is None
            if is_new:
                self.transport.add_peer(member.id, member.peer_urls)
            else:
                self.transport.update_peer(member.id, member.peer_urls)
        except ValueError as error:
            # The change is committed and other members may be able to dial the URL: log it and go on.
            logger.error("failed to dial member %s: %s", hex_id(member.id), error)
        else:
            urls = {"remote-peer-id": hex_id(member.id), "remote-peer-urls": list(member.peer_urls)}
            logger.info("added remote peer" if is_new else "updated remote peer", extra=fields(urls))

    def member_removed(self, member_id: int) -> None:
        if member_id == self.replica.member_id:
            # The other members still need the acknowledgement of this entry: stop a second later, as etcd does.
            self._loop.call_later(1.0, self._on_removed)
        elif self.transport is not None:
            self.transport.remove_peer(member_id)
            logger.info("removed remote peer", extra=fields(removed_remote_peer_id=hex_id(member_id)))

    # --- peer.Handler

    def receive(self, message: Message) -> None:
        if message.type == MessageType.SNAP:
            self.installer.install(message)
        else:
            self.guard(self.replica.step, message)

    def report_unreachable(self, id: int) -> None:
        self.replica.report_unreachable(id)

    def report_snapshot(self, id: int, ok: bool) -> None:
        self.replica.report_snapshot(id, ok)

    def removed(self) -> None:
        self._on_removed()

    def is_removed(self, id: int) -> bool:
        return id in self.replica.membership.removed

    def guard(self, work: Callable[..., object], *arguments: object) -> None:
        try:
            work(*arguments)
        except Exception as error:
            self.fail(error)


class _LeaderLog:
    """Logs each change of the leader in the words of raft's node and core."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._leader_id = replica.leader_id

    def changed(self, leader_id: int) -> None:
        replica, before = self._replica, self._leader_id
        self._leader_id = leader_id
        own, term = hex_id(replica.member_id), replica.term
        if leader_id == replica.member_id:
            logger.info("%s became leader at term %d", own, term)
        elif before == replica.member_id:
            logger.info("%s became follower at term %d", own, term)
        if not leader_id:
            logger.info("raft.node: %s lost leader %s at term %d", own, hex_id(before), term)
        elif before:
            logger.info("raft.node: %s changed leader from %s to %s at term %d", own, hex_id(before), hex_id(leader_id), term)
        else:
            logger.info("raft.node: %s elected leader %s at term %d", own, hex_id(leader_id), term)
