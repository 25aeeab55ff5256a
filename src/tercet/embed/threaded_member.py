"""A member in a thread of its own: start, stop and state. `ThreadedServer` adds the faults."""

from __future__ import annotations

import os
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

from tercet.embed.loop_thread import SECONDS_MAX, LoopThread
from tercet.embed.member import EmbeddedMember
from tercet.embed.undo import Undo


class ThreadedMember(LoopThread):
    """See `ThreadedServer`."""

    def __init__(self, **arguments: Any) -> None:
        self.server = EmbeddedMember(**arguments)
        super().__init__(self.server.name)

    def __repr__(self) -> str:
        state = "paused" if self.is_paused else "running" if self.is_running else "not running"
        return f"<{type(self).__name__} {self.name} at {', '.join(self.endpoints)}, {state}>"

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
        return Undo(self.start_again)

    def start_again(self) -> None:
        """Start, unless it runs."""
        if not self.is_running:
            self.start()

    def restart(self) -> None:
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop, end the thread and release the ports. In a child process after a fork: nothing, it is the parent's."""
        if self.is_of_parent:
            return
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
