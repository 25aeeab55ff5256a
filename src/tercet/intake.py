"""Divides a turn of the event loop among the connections to servers that have received something, and the tasks of their calls.

    turn 1   A A A B      the turn's work is used up: what C and D have sent waits, and nothing more is read from them
    turn 2   C D A B      one piece of each, round-robin; those that have had none come first
    turn 3   A B E B      once nothing waits, they are read from again

One readiness of a socket makes uvloop read it up to 32 times: 8 MiB, which can be 300,000 requests, twice as many WINDOW_UPDATE
frames, or a million chunks of an HTTP/1.1 body. Without a limit one connection that sends without pause makes turns of seconds.

Tasks take part as well. Twenty thousand calls whose proposals are applied together, or whose reads one round confirms, would
resume in the same turn, so whatever starts or resumes the task of a call does it through `run` or `resolve`:

    intake.resolve(future, result)      # now, or in a later turn, after those that wait already

Work is counted in events, such as frames, and in bytes. Memory is bounded: a connection that waits holds what one read gave it,
and is not read from.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Final, Protocol, TypeVar
from weakref import WeakKeyDictionary

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

TURN_WORK: Final = 1500
"""The units of all connections in a turn. An event is one unit; a put is three events, some 20 us on a compiled member."""

BYTES_SHIFT: Final = 9  # one unit for each 512 bytes
TASK_WORK: Final = 20
"""The units of a request that starts a task, and of each time that the task resumes."""

_SKIPPED_WORK: Final = 1
_FREE_WORK: Final = 4  # of a connection that has ended: up to 25 us
_FREED_PER_TURN: Final = 64
_LEFT_TO_CONNECTIONS: Final = TURN_WORK // 2  # of a turn, by the steps that have waited
_LEFT_TO_BEGUN: Final = TURN_WORK // 4  # and by the connections that have had no piece


class Waiting(Protocol):
    """A connection with bytes that it could not take in the turn in which they arrived."""

    def take_piece(self) -> bool:
        """Take some of what waits. Returns whether more does."""
        ...

    def abort(self) -> None: ...


class Intake:
    """Divides the turns of one event loop among all of its connections."""

    __slots__ = ("_begun", "_ended", "_is_scheduled", "_next_work", "_postponed", "_waiting", "left", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._waiting: deque[Waiting] = deque()
        self._begun: deque[Waiting] = deque()  # those of which a part is taken: hundreds of them delay no short request
        self._postponed: deque[tuple[Callable[[], object], int]] = deque()
        self._ended: deque[object] = deque()
        self._is_scheduled = False
        self._next_work: list[asyncio.Future[None]] = []
        self.left = TURN_WORK  # in this turn

    async def next_work(self) -> None:
        """Return after the next turn that does work: for what an idle member need not do."""
        turn: asyncio.Future[None] = self.loop.create_future()
        self._next_work.append(turn)
        await turn

    def admits(self) -> bool:
        """May what has just arrived be taken at once?"""
        return self.left > 0 and not self._waiting

    def spend(self, work: int) -> None:
        """Account for work that is done in this turn; it may overdraw what is left by one piece."""
        self.left -= work
        if not self._is_scheduled:
            self._is_scheduled = True
            self.loop.call_soon(self._next_turn)

    def wait(self, connection: Waiting, *, has_begun: bool = False) -> None:
        """Call `take_piece` in later turns, until nothing is left. has_begun: a part of what waits is taken already."""
        (self._begun if has_begun else self._waiting).append(connection)
        self.spend(0)

    def run(self, step: Callable[[], object], work: int = TASK_WORK) -> None:
        """Call `step`, which starts or resumes a task: now if this turn allows it, else in a later one. Steps keep their order.

        work: the units that it costs; a step may spend more while it runs. One that returns False had nothing left to do, and
        costs one unit: calls that a client begins and cancels must leave the queue as fast as they come.
        """
        if self.left > 0 and not self._postponed:
            self.spend(work)
            step()
        else:
            self._postponed.append((step, work))
            self.spend(0)

    def free(self, connection: object) -> None:
        """Keep a connection that is lost until a turn allows to free it: thousands may be lost together.

        To be called last in its `connection_lost`, after which its transport forgets it.
        """
        if self.left > 0 and not self._ended:
            self.spend(_FREE_WORK)
        else:
            self._ended.append(connection)
            self.spend(0)

    async def admitted(self, work: int) -> None:
        """Return in a turn that allows this much more work: now, or after the steps that wait already."""
        if self.left > 0 and not self._postponed:
            self.spend(work)
            return
        turn: asyncio.Future[None] = self.loop.create_future()
        self.run(partial(_set_result, turn, None), work)
        await turn

    def resolve(self, future: asyncio.Future[Result], result: Result) -> None:
        """`future.set_result(result)` as `run` does it; without effect on one that is done by then."""
        self.run(partial(_set_result, future, result))

    def reject(self, future: asyncio.Future[Result], error: BaseException) -> None:
        """`future.set_exception(error)`, likewise."""
        self.run(partial(_set_exception, future, error))

    def _next_turn(self) -> None:
        # Not told by the loop's clock: it goes on within a turn.
        self._is_scheduled = False
        self.left = TURN_WORK
        if self._next_work:
            for turn in self._next_work:
                _set_result(turn, None)
            self._next_work.clear()
        self._run_postponed()
        self._take_pieces(self._waiting, _LEFT_TO_BEGUN if self._begun else 0)
        self._take_pieces(self._begun, 0)
        ended = self._ended
        for _ in range(min(_FREED_PER_TURN, len(ended))):
            ended.popleft()
        if self._waiting or self._begun or self._postponed or ended:
            self.spend(0)

    def _take_pieces(self, waiting: deque[Waiting], reserve: int) -> None:
        while waiting and self.left > reserve:
            connection = waiting.popleft()
            try:
                more = connection.take_piece()
            except Exception:  # a bug that one connection triggers must not affect the others
                logger.exception("failed to handle what a connection has received")
                connection.abort()
                continue
            if more:
                self._begun.append(connection)

    def _run_postponed(self) -> None:
        postponed = self._postponed
        while postponed and self.left > _LEFT_TO_CONNECTIONS:
            step, work = postponed.popleft()
            self.left -= work
            try:
                if step() is False:
                    self.left += work - _SKIPPED_WORK
            except Exception:  # a bug that one call triggers must not affect the others
                logger.exception("failed to start or resume a call")


def _set_result(future: asyncio.Future[Result], result: Result) -> None:
    if not future.done():
        future.set_result(result)


def _set_exception(future: asyncio.Future[Result], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


_thread = threading.local()
OWNER: Final[ContextVar[object | None]] = ContextVar("tercet_intake_owner", default=None)
"""Of several hosts that are simulated on one loop, the one that runs. Its turns stop with it."""
_of_owners: WeakKeyDictionary[object, Intake] = WeakKeyDictionary()


def intake_of_running_loop() -> Intake:
    """That of the loop's thread, or of the simulated host."""
    loop = asyncio.get_running_loop()
    owner = OWNER.get()
    intake: Intake | None = getattr(_thread, "intake", None) if owner is None else _of_owners.get(owner)
    if intake is None or intake.loop is not loop:
        intake = Intake(loop)
        if owner is None:
            _thread.intake = intake
        else:
            _of_owners[owner] = intake
    return intake
