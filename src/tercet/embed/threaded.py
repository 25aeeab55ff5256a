"""A member in a thread of its own, for programs without an event loop, and for tests that stop it in the middle.

with tercet.Server.start_in_thread() as server:
    print(server.endpoint)
"""

from __future__ import annotations

import os
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

from tercet.embed.loop_thread import SECONDS_MAX, LoopThread
from tercet.embed.member import EmbeddedMember
from tercet.embed.undo import Undo
from tercet.errors import ConfigError
from tercet.server.member_storage import MemoryStorage


class ThreadedServer(LoopThread):
    """A `Server` in its own thread, with an event loop of its own. Any other thread may call the methods; they wait.

    arguments: of Server. Raises what Server raises.
    """

    def __init__(self, **arguments: Any) -> None:
        self.server = EmbeddedMember(**arguments)
        super().__init__(self.server.name)

    # --- start and stop

    def start(self) -> Self:
        """Return when the member serves clients. Raises ConfigError or StorageFailure."""
        self.start_soon().result(SECONDS_MAX)
        return self

    def start_soon(self) -> Future[None]:
        """Start without waiting; the future ends when the member serves clients."""
        return self.submit(self.server.start())

    def stop(self) -> None:
        """Stop the member. What is stored stays, for the next start."""
        self.resume()
        self.run(self.server.stop)

    def kill(self) -> Undo:
        """See `Server.kill`. Taken back by a start."""
        self.resume()
        self.run(self.server.kill)
        return Undo(self._start_again)

    def _start_again(self) -> None:
        if not self.is_running:
            self.start()

    def restart(self) -> None:
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop, end the thread and release the ports."""
        if self.has_thread:
            self.stop()
            self.end_thread()
        self.server.close()

    def __enter__(self) -> Self:
        try:
            return self.start() if not self.server.is_running else self
        except BaseException:
            self.close()
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # --- faults

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

    def _memory(self) -> MemoryStorage:
        if self.server.storage is None:
            raise ConfigError("this fault needs storage='memory'")
        return self.server.storage

    # --- state and use

    @property
    def is_running(self) -> bool:
        return self.server.is_running

    @property
    def endpoint(self) -> str:
        return self.server.endpoint

    @property
    def endpoints(self) -> list[str]:
        return self.server.endpoints

    @property
    def env(self) -> dict[str, str]:
        return self.server.env

    @property
    def member_id(self) -> int:
        return self.server.member_id

    @property
    def failure(self) -> BaseException | None:
        """The error that has ended the member, if one has."""
        failed = self.server.failed
        return failed.result() if failed.done() else None

    @property
    def logs(self) -> list[str]:
        """The newest log lines of this member, oldest first, of the levels that logging lets through."""
        return list(self.log.lines)

    def metrics(self) -> str:
        return self.call(self.server.metrics)

    def snapshot(self, path: str | os.PathLike[str]) -> None:
        self.run(self.server.snapshot, path)

    def reset(self) -> None:
        """See `Server.reset`."""
        self.run(self.server.reset)
