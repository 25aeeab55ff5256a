"""Prepares received snapshots for installation: reads and checks the database in a thread, then steps the message.

One snapshot is prepared at a time. A damaged file changes nothing of this member's state; the leader sends another.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tercet.errors import StorageFailure
from tercet.peer import snapshot_path
from tercet.peer.tasks import Tasks
from tercet.raft.types import Message
from tercet.replica.replica import Replica
from tercet.replica.state_machine import StagedSnapshot, prepare
from tercet.server.snapshot_file import SnapshotFile

logger = logging.getLogger(__name__)


class SnapshotInstaller:
    """directory: where the transport puts received databases. step: takes the message once its database is prepared."""

    def __init__(
        self,
        replica: Replica,
        directory: Path,
        step: Callable[[Message, StagedSnapshot], None],
    ) -> None:
        self._replica = replica
        self._directory = directory
        self._step = step
        self._tasks = Tasks()
        self._one_at_a_time = asyncio.Lock()
        self.active = 0

    def install(self, message: Message) -> None:
        """message: a MsgSnap whose database is complete in the directory."""
        self._tasks.spawn(self._counted(message), "installing a snapshot")

    async def close(self) -> None:
        await self._tasks.close()

    async def _counted(self, message: Message) -> None:
        self.active += 1
        try:
            await self._install(message)
        finally:
            self.active -= 1

    async def _install(self, message: Message) -> None:
        snapshot = message.snapshot
        assert snapshot is not None
        file = SnapshotFile(snapshot_path(self._directory, snapshot.index))
        async with self._one_at_a_time:
            try:
                if not self._replica.repair.wants(snapshot.index):
                    return
                state_machine = self._replica.state_machine
                read = partial(prepare, lease_seconds_min=state_machine.lease_seconds_min)
                work = asyncio.get_running_loop().run_in_executor(None, read, state_machine.backend, file, snapshot)
                prepared = await work
            except StorageFailure as failure:  # damaged on the way, or the disk is full
                logger.warning("rejected snapshot: %s", failure)
                return
            finally:
                file.discard()
            if self._replica.is_stopped:
                prepared.staged.discard()
                return
            self._step(message, prepared)
