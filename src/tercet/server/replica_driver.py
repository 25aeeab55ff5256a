"""One member at work: the replica on the event loop, between the disk, the peers and the clock.

It is the replica's host (`ReplicaHost`) and the transport's handler (`peer.Handler`), and turns both into plain
calls. Everything that a turn of the loop brings is gathered; one `flush` at its end carries it out.

Must never go on after a failure of storage or an invariant: `fail` stops all promises at once and ends the process.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from tercet import errors
from tercet.errors import StatusError, StorageFailure, strip_traceback
from tercet.peer import PeerStatus, snapshot_path
from tercet.peer.tasks import Tasks
from tercet.proto import rpc_pb2
from tercet.raft import Raft
from tercet.raft.types import Message, MessageType
from tercet.replica.auto_compaction import AutoCompaction
from tercet.replica.membership import Member, hex_id
from tercet.replica.proposals import Outcome
from tercet.replica.replica import Options, Replica
from tercet.replica.state_machine import StateMachine, prepare
from tercet.rpc import Server
from tercet.server.snapshot_file import SnapshotFile, database_chunks
from tercet.storage.interfaces import LogStore

logger = logging.getLogger(__name__)

_TELL_SECONDS: Final = 0.003  # longer than a put takes, so that puts one behind the other carry the news of each other


class Peers(Protocol):
    """The line to the other members: `peer.Transport`, as far as a member and those who report on it need it."""

    @property
    def peers(self) -> list[int]: ...
    def peer(self, id: int) -> object | None: ...
    def status(self, id: int) -> PeerStatus | None: ...
    def active_since(self, id: int) -> float | None: ...
    def add_peer(self, id: int, urls: Sequence[str]) -> None: ...
    def update_peer(self, id: int, urls: Sequence[str]) -> None: ...
    def remove_peer(self, id: int) -> None: ...
    def send(self, messages: Sequence[Message]) -> None: ...
    def send_snapshot(self, message: Message, database: AsyncIterator[bytes]) -> None: ...


class ReplicaDriver:
    """Host of a replica and handler of a transport. `on_failure` is called once, when the member can no longer go on."""

    def __init__(
        self,
        raft: Raft,
        log_store: LogStore,
        state_machine: StateMachine,
        *,
        options: Options,
        snapshot_directory: Path,
        tick_seconds: float,
        compaction_limit: int,
        compaction_pause_seconds: float,
        on_failure: Callable[[BaseException], None],
        on_removed: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._snapshot_directory = snapshot_directory
        self._tick_seconds = tick_seconds
        self._compaction_limit = compaction_limit
        self._compaction_pause_seconds = compaction_pause_seconds
        self._on_failure = on_failure
        self._on_removed = on_removed
        self._has_failed = False
        self._compaction_is_scheduled = False
        self._tick_handle: asyncio.TimerHandle | None = None
        self._tick_due = 0.0
        self.auto_compaction: AutoCompaction | None = None
        self.transport: Peers | None = None
        self.rpc_server: Server | None = None
        self._preparing = Tasks()
        self._one_at_a_time = asyncio.Lock()
        self.replica = Replica(
            raft,
            log_store,
            self,
            state_machine,
            self,
            clock=self._loop.time,
            now_ms=int(time.time() * 1000),
            options=options,
        )

    def start(self, transport: Peers) -> None:
        """Begin to tick."""
        self.transport = transport
        for member in self.replica.state_machine.membership.sorted():
            self.member_changed(member)
        self.schedule_compaction()  # one may have been interrupted
        self._tick_due = self._loop.time() + self._tick_seconds
        self._tick_handle = self._loop.call_at(self._tick_due, self._tick)
        self._guard(self.replica.flush)

    def stop(self) -> None:
        """No more ticks and promises; everybody who waits is answered."""
        if self._tick_handle is not None:
            self._tick_handle.cancel()
        self.replica.stop()
        self.replica.snapshots.close()

    @property
    def has_failed(self) -> bool:
        return self._has_failed

    def now(self) -> float:
        """The clock of the loop, by which connections are dated."""
        return self._loop.time()

    async def close(self) -> None:
        """Wait for what runs beside the loop."""
        await self._preparing.close()

    def fail(self, error: BaseException) -> None:
        """Storage or an invariant is broken: stop at once, and say why, once."""
        if self._has_failed:
            return
        self._has_failed = True
        try:
            self.stop()
        finally:  # whatever those who are told on the way do
            self._on_failure(error)

    # --- time

    def _tick(self) -> None:
        now = self._loop.time()
        # Ticks that a long turn swallowed are dropped: raft would otherwise see a leader silent that only we did not hear.
        self._tick_due = max(self._tick_due + self._tick_seconds, now + self._tick_seconds / 2)
        self._tick_handle = self._loop.call_at(self._tick_due, self._tick)
        self._guard(self.replica.tick)
        self._guard(self._compact_automatically)

    def _compact_automatically(self) -> None:
        policy, store = self.auto_compaction, self.replica.state_machine.store
        now = self._loop.time()
        if policy is None or now < policy.next_seconds:
            return
        revision = policy.due(now, store.revision)
        if revision is None or not self.replica.raft.is_leader:
            return
        request = rpc_pb2.CompactionRequest(revision=revision)
        then = partial(self._compacted, policy, revision)
        try:
            self.replica.propose("compaction", request.SerializeToString(), request, then)
        except StatusError as error:  # this member is busy, not broken
            then(strip_traceback(error))

    def _compacted(self, policy: AutoCompaction, revision: int, outcome: Outcome) -> None:
        if isinstance(outcome, bytes) or outcome is errors.COMPACTED:
            policy.compacted(self._loop.time(), revision)
            logger.info("finished auto compaction at revision %d", revision)
        else:
            logger.warning("failed auto compaction at revision %d: %s", revision, outcome)

    # --- what the replica asks for

    def schedule_flush(self) -> None:
        self._loop.call_soon(self._guard, self.replica.flush)

    def flush_now(self) -> None:
        self._guard(self.replica.flush)

    def flush_replies(self) -> None:
        if self.rpc_server is not None:
            self.rpc_server.flush()

    def schedule_commit_broadcast(self) -> None:
        self._loop.call_later(_TELL_SECONDS, self._guard, self.replica.broadcast_commit)

    def schedule_compaction(self) -> None:
        if not self._compaction_is_scheduled:
            self._compaction_is_scheduled = True
            self._loop.call_soon(self._guard, self._compact_some)

    def _compact_some(self) -> None:
        if self.replica.compact_some(self._compaction_limit):
            self._loop.call_later(self._compaction_pause_seconds, self._guard, self._compact_some)
        else:
            self._compaction_is_scheduled = False

    def send(self, messages: list[Message]) -> None:
        if self.transport is not None:
            self.transport.send(messages)

    def member_changed(self, member: Member) -> None:
        if self.transport is None or member.id == self.replica.raft.id:
            return
        try:
            if self.transport.peer(member.id) is None:
                self.transport.add_peer(member.id, member.peer_urls)
            else:
                self.transport.update_peer(member.id, member.peer_urls)
        except ValueError as error:
            # It is in the log, and was taken in by whoever proposed it: this member cannot dial it, but can go on.
            logger.error("member %s cannot be reached: %s", hex_id(member.id), error)

    def member_removed(self, member_id: int) -> None:
        if member_id == self.replica.raft.id:
            # The others still need our acknowledgement of this very entry: stop a moment later, as etcd does.
            self._loop.call_later(1.0, self._on_removed)
        elif self.transport is not None:
            self.transport.remove_peer(member_id)

    def leader_changed(self, leader_id: int) -> None:
        own, term = hex_id(self.replica.raft.id), self.replica.raft.term
        if leader_id == self.replica.raft.id:
            logger.info("%s became leader at term %d", own, term)
        elif leader_id:
            logger.info("raft.node: %s elected leader %s at term %d", own, hex_id(leader_id), term)
        else:
            logger.info("raft.node: %s lost its leader at term %d", own, term)

    # --- what the transport tells

    def receive(self, message: Message) -> None:
        if message.type == MessageType.SNAP:
            self._preparing.spawn(self._receive_snapshot(message), "taking in a snapshot")
        else:
            self._guard(self.replica.step, message)

    async def _receive_snapshot(self, message: Message) -> None:
        """Its database is in place as a file. What takes long is done beside the loop; then raft decides if it is wanted."""
        snapshot = message.snapshot
        assert snapshot is not None
        file = SnapshotFile(snapshot_path(self._snapshot_directory, snapshot.index))
        async with self._one_at_a_time:
            try:
                if snapshot.index <= self.replica.applied_index:
                    return
                state_machine = self.replica.state_machine
                prepared = await self._loop.run_in_executor(None, prepare, state_machine.backend, file, snapshot)
            except StorageFailure as failure:
                # Damage on the way, or no room for it: the leader will try again, and nothing of ours has changed.
                logger.warning("a received database is of no use: %s", failure)
                return
            finally:
                file.discard()
            if self.replica.is_stopped:
                prepared.staged.discard()
                return
            self.replica.snapshots.received(snapshot.index, prepared)
            self._guard(self.replica.step, message)

    def report_unreachable(self, id: int) -> None:
        self.replica.raft.report_unreachable(id)

    def report_snapshot(self, id: int, ok: bool) -> None:
        self.replica.checkpoints.sent(id, ok=ok)
        self.replica.raft.report_snapshot(id, ok)
        self.replica.schedule()

    def removed(self) -> None:
        self._on_removed()

    def is_removed(self, id: int) -> bool:
        return id in self.replica.state_machine.membership.removed

    def snapshot_wanted(self, message: Message) -> None:
        """Raft sends a snapshot: its database goes with it, from the view that raft's description was made of."""
        assert self.transport is not None
        assert message.snapshot is not None
        view = self.replica.snapshots.take(message.snapshot.index)
        if view is None:
            self.report_snapshot(message.to, False)
            return
        self.replica.checkpoints.sending(message.to)
        logger.info("sending the database at index %d to %s", message.snapshot.index, hex_id(message.to))
        self.transport.send_snapshot(message, database_chunks(view))

    def _guard(self, work: Callable[..., object], *arguments: object) -> None:
        try:
            work(*arguments)
        except Exception as error:
            self.fail(error)
