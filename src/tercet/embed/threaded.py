"""A member in a thread of its own, for programs without an event loop, and for tests that stop it in the middle.

with tercet.Server.start_in_thread() as server:
    print(server.endpoint)
"""

from __future__ import annotations

from tercet.embed.threaded_member import ThreadedMember
from tercet.embed.undo import Undo
from tercet.errors import ConfigError
from tercet.server.memory_storage import MemoryStorage
from tercet.storage.wal_format import HEADER, TRAILER_BYTES, end_of_content, record_size


class ThreadedServer(ThreadedMember):
    """A `Server` in its own thread, with an event loop of its own. Any other thread may call the methods; they wait.

    arguments: of Server. Raises what Server raises.
    """

    def advance(self, seconds: float) -> None:
        """Move the member's time forward, and end the leases that have expired by then; see `Server.advance`.

        With clock="real" all its timers follow too: those that are due by then run once.
        """
        if self.server.clock.is_manual:
            self.run(self.server.advance, seconds)
        else:
            super().advance(seconds)

    def disconnect_clients(self) -> None:
        """Break all connections of clients; they may connect again."""

        def disconnect() -> None:
            member = self.server.member
            if member is not None and member.rpc_server is not None:
                member.rpc_server.disconnect()

        self.call(disconnect)

    def refuse_clients(self) -> Undo:
        """Break all connections of clients, and refuse new ones; those between members stay. Taken back also by a start."""

        def refuse() -> None:
            if (listeners := self.server.listeners) is not None:
                listeners.refuse()

        self.call(refuse)
        return Undo(self.accept_clients)

    def accept_clients(self) -> None:
        """The end of `refuse_clients`."""

        async def accept() -> None:
            if (listeners := self.server.listeners) is not None and listeners.is_refusing:
                await listeners.accept(self.server.addresses.bind_client())

        self.run(accept)

    def slow_fsync(self, seconds: float) -> Undo:
        """Let each sync of the log take so long. Only for storage in memory."""
        storage = self._memory()
        storage.sync_seconds = seconds

        def repair() -> None:
            storage.sync_seconds = 0.0

        return Undo(repair)

    def fill_disk(self) -> Undo:
        """Nothing can be written to the log any more: the member stops at its next write. Only for storage in memory.

        Taken back, there is space, and the member starts again.
        """
        storage = self._memory()
        storage.files.is_full = True

        def free() -> None:
            storage.files.is_full = False
            if self.failure is not None:
                self.restart()

        return Undo(free)

    def corrupt_wal(self) -> Undo:
        """Flip one bit in the newest record of the log: the next start raises StorageFailure. Only for storage in memory.

        Taken back, the bit is as it was, and the member starts again if it does not run.
        """
        files, directory = self._memory().files, str(self._memory().paths.wal)
        for name in reversed(files.list(directory)):
            path = f"{directory}/{name}"
            data = files.open(path).pread(self._memory().segment_bytes, 0)
            end = end_of_content(data, 0)
            if end > record_size(HEADER.unpack_from(data)[2]):  # more than its HEAD
                break
        else:
            raise ConfigError(f"{self.name} has no log yet: it has not been started")
        checksum = end - TRAILER_BYTES
        files.flip_bit(path, checksum)

        def repair() -> None:
            files.flip_bit(path, checksum)
            self.start_again()

        return Undo(repair)

    def _memory(self) -> MemoryStorage:
        if self.server.storage is None:
            raise ConfigError("this fault needs storage='memory'")
        return self.server.storage
