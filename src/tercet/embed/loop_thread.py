"""A thread with an event loop of its own, which can be made to stand still and whose time can be advanced."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, Final, TypeVar

from tercet.embed.loop import AdvancingLoop
from tercet.embed.undo import Undo
from tercet.errors import STOPPED

Result = TypeVar("Result")

_LOG_LINES: Final = 2000
SECONDS_MAX: Final = 60.0
"""That a method waits for what it has started."""


class LoopThread:
    """The thread begins with the first work that is submitted, and ends with `end_thread`. Other threads call the methods."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.log = MemberLog()
        self._loop: AdvancingLoop | None = None
        self._running: threading.Thread | None = None
        self._paused: SimpleQueue[Callable[[], object] | None] | None = None  # work to do in a pause; None ends it
        self._process_id = os.getpid()

    @property
    def has_thread(self) -> bool:
        return self._loop is not None

    @property
    def is_of_parent(self) -> bool:
        """Whether this is a child process of the one with the thread, after a fork."""
        return self._process_id != os.getpid()

    def pause(self) -> Undo:
        """Stop everything that the member does, as SIGSTOP does; its connections stay open. Returns when it has stopped."""
        if self._paused is not None:
            return Undo(self.resume)
        began, work = threading.Event(), SimpleQueue[Callable[[], object] | None]()

        def stand_still() -> None:
            began.set()
            while (do := work.get()) is not None:
                do()

        self.require_loop().call_soon_threadsafe(stand_still)
        began.wait(SECONDS_MAX)
        self._paused = work
        return Undo(self.resume)

    def resume(self) -> None:
        """End a pause."""
        if self._paused is not None:
            self._paused.put(None)
            self._paused = None

    def call_paused(self, work: Callable[[], Result]) -> Result:
        """The result of a function that runs in the member's thread during a pause."""
        done: Future[Result] = Future()

        def run() -> None:
            try:
                done.set_result(work())
            except BaseException as error:
                done.set_exception(error)

        if self._paused is None:
            raise RuntimeError(f"{self.name} is not paused")
        self._paused.put(run)
        return done.result(SECONDS_MAX)

    @property
    def is_paused(self) -> bool:
        return self._paused is not None

    def advance(self, seconds: float) -> None:
        """Move the member's time forward. Timers that are due by then run once; a lease whose end is due ends."""
        loop = self.require_loop()
        self.call(lambda: loop.advance(seconds))
        self.run(asyncio.sleep, 0)

    def submit(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Run a coroutine in the member's event loop; starts the thread if it does not run.

        Raises RuntimeError in a child process after a fork.
        """
        if self.is_of_parent:
            work.close()
            raise RuntimeError(f"{self.name} runs in the parent process only")
        if self._loop is None:
            self._begin_thread()
        return asyncio.run_coroutine_threadsafe(work, self.require_loop())

    def run(self, work: Callable[..., Coroutine[Any, Any, Result]], *arguments: object) -> Result:
        """The result of a coroutine function in the member's event loop."""
        return self.submit(work(*arguments)).result(SECONDS_MAX)

    def call(self, work: Callable[[], Result]) -> Result:
        """The result of a plain function in the member's event loop."""

        async def run() -> Result:
            return work()

        return self.run(run)

    def require_loop(self) -> AdvancingLoop:
        if self._loop is None:
            raise STOPPED
        return self._loop

    def _begin_thread(self) -> None:
        loop = self._loop = AdvancingLoop()
        began = threading.Event()

        def serve() -> None:
            asyncio.set_event_loop(loop)
            self.log.attach()
            loop.call_soon(began.set)
            try:
                loop.run_forever()
            finally:
                self.log.detach()
                loop.run_until_complete(loop.shutdown_asyncgens())
                loop.run_until_complete(loop.shutdown_default_executor())
                loop.close()

        self._running = threading.Thread(target=serve, name=f"tercet-{self.name}", daemon=True)
        self._running.start()
        began.wait()

    def end_thread(self) -> None:
        loop, thread = self._loop, self._running
        self._loop = self._running = None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()


class MemberLog(logging.Handler):
    """Keeps the newest log lines of one thread."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: deque[str] = deque(maxlen=_LOG_LINES)
        self._thread_id = 0
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))

    def attach(self) -> None:
        """Keep the lines of the current thread from now on."""
        self._thread_id = threading.get_ident()
        logging.getLogger("tercet").addHandler(self)

    def detach(self) -> None:
        logging.getLogger("tercet").removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread_id:
            more = getattr(record, "fields", None)
            self.lines.append(self.format(record) + (f" {more}" if more else ""))
