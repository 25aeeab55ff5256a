"""The event loop of all synchronous clients of a process: one thread, started at first use.

Connections, keepalives and watches run there, also while the caller computes. Callers of any thread wait until their coroutine
has ended; Ctrl-C cancels it. After a fork the child has its own loop thread; what belonged to the parent's raises ForkedError.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Generic, ParamSpec, TypeVar

from tercet.client.errors import ClientClosed, ForkedError
from tercet.errors import Code

ResultT = TypeVar("ResultT")
P = ParamSpec("P")

_STOP_SECONDS = 2.0


class LoopThread:
    """Runs coroutines for other threads."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tercet-client", daemon=True)
        self._is_forked = False
        self._is_stopped = False
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, ResultT], *, blocks_loops: bool = False) -> ResultT:
        """Run a coroutine on the loop and wait for its result. Raises what it raises; RuntimeError inside an event loop.

        blocks_loops: block the running loop of the caller, as clients do that know no event loops.
        """
        try:
            self.check(blocks_loops=blocks_loops)
        except BaseException:
            coroutine.close()
            raise
        return _Call(self._loop, coroutine).wait()

    def call(self, function: Callable[P, ResultT], *arguments: P.args, **options: P.kwargs) -> ResultT:
        """Call a function in the loop's thread."""

        async def run() -> ResultT:
            return function(*arguments, **options)

        return self.run(run())

    def check(self, *, blocks_loops: bool = False) -> None:
        """Raises ForkedError in a child process, ClientClosed once the process exits, RuntimeError inside an event loop."""
        if self._is_forked:
            raise ForkedError("this object belongs to the parent process: make a new one in the child", Code.CANCELLED)
        if self._is_stopped:  # by an earlier handler of atexit; this one, or a __del__, would wait for ever
            raise ClientClosed("the process exits, and has closed its clients", Code.CANCELLED)
        running = asyncio._get_running_loop()
        if running is self._loop or (running is not None and not blocks_loops):
            raise RuntimeError("tercet.Client would block the running event loop: use tercet.AsyncClient here")

    def stop(self) -> None:
        """At the exit of the process: calls of other threads do not return."""
        self._is_stopped = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_STOP_SECONDS)

    def abandon(self) -> None:
        """After a fork, in the child: the thread is not there, and the selector is shared with the parent."""
        self._is_forked = True


class _Call(Generic[ResultT]):
    """One coroutine that a thread waits for. A lock costs a third of what concurrent.futures.Future costs."""

    __slots__ = ("_coroutine", "_done", "_is_interrupted", "_loop", "_task")

    def __init__(self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, ResultT]) -> None:
        self._loop = loop
        self._coroutine = coroutine
        self._task: asyncio.Task[ResultT] | None = None
        self._is_interrupted = False
        self._done = threading.Lock()
        self._done.acquire()

    def wait(self) -> ResultT:
        try:
            self._loop.call_soon_threadsafe(self._start, contextvars.copy_context())
            self._done.acquire()
        except BaseException:  # Ctrl-C, which may come before the call has been started
            self._is_interrupted = True
            self._loop.call_soon_threadsafe(self._cancel)
            raise
        assert self._task is not None
        return self._task.result()

    def _start(self, context: contextvars.Context) -> None:
        if self._is_interrupted:
            self._coroutine.close()
            return
        self._task = self._loop.create_task(self._coroutine, context=context)
        self._task.add_done_callback(self._finish)

    def _finish(self, task: asyncio.Task[ResultT]) -> None:
        self._done.release()

    def _cancel(self) -> None:
        if self._task is None:
            self._coroutine.close()
        else:
            self._task.remove_done_callback(self._finish)
            self._task.add_done_callback(_forget)
            self._task.cancel()


def _forget(task: asyncio.Task[Any]) -> None:
    """Nobody waits for the outcome any more."""
    if not task.cancelled():
        task.exception()


_current: LoopThread | None = None
_abandoned: list[LoopThread] = []  # kept: closing a parent's loop would change the selector that both share
_starting = threading.Lock()


def loop_thread() -> LoopThread:
    """The process's loop thread, started if need be."""
    global _current
    current = _current
    if current is not None:
        return current
    with _starting:
        if _current is None:
            _current = LoopThread()
        return _current


def _stop_at_exit() -> None:
    if _current is not None:
        _current.stop()


def _after_fork() -> None:
    global _current, _starting
    _starting = threading.Lock()  # another thread of the parent may have held it
    if _current is not None:
        _current.abandon()
        _abandoned.append(_current)
        _current = None


atexit.register(_stop_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
