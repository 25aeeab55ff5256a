"""Runs reads in slices between the other work of the event loop, in turn.

A read that the budget of this turn allows is answered at once. Any other one becomes a job; each turn of the loop gives the
jobs TURN_WORK together, SLICE_WORK each, round-robin. So a client that asks for a million keys, or a hundred clients that
do, cost the others milliseconds, and raft nothing.

Memory is bounded: while the answers in the making hold more than `held_bytes_max`, only one of them goes on, until it is
complete; and no more than `jobs_max` may wait. An answer that a connection has taken is the connection's to bound (rpc): a
job whose connection has many unread replies is held back, for up to HELD_SECONDS_MAX, since the revision that it reads cannot
be compacted meanwhile. Then its connection takes or refuses the answer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from tercet import errors
from tercet.mvcc import Budget, Steps, Store
from tercet.mvcc.work import TURN_WORK, VISIT

SLICE_WORK: Final = 500
AT_ONCE_BYTES: Final = 2 << 20  # of large values, in one turn, for reads that take no steps
BEGIN_WORK: Final = 2 * TURN_WORK  # in one turn, by steps that begin, beyond what jobs take
HELD_BYTES_MAX: Final = 256 << 20
HELD_SECONDS_MAX: Final = 60.0
_HELD_POLL_SECONDS: Final = 0.02
JOBS_MAX: Final = 10_000

Done = Callable[[Exception | None], None]


class Job:
    """Steps that take more than one slice. `then` is called once: with None when they are done, or with what a step raised."""

    __slots__ = ("held_until", "is_backlogged", "is_over", "size", "steps", "store", "then")

    def __init__(self, steps: Steps, store: Store, then: Done, is_backlogged: Callable[[], bool] | None) -> None:
        self.steps = steps
        self.store = store
        self.then = then
        self.is_backlogged = is_backlogged
        self.held_until = 0.0  # on the loop's clock; 0: never held back so far
        self.is_over = False
        self.size = 0


class Scheduler:
    """One for each member, on its event loop."""

    __slots__ = (
        "_at_once_left",
        "_budget",
        "_count_open",
        "_held",
        "_held_bytes",
        "_held_bytes_max",
        "_held_seconds_max",
        "_is_scheduled",
        "_jobs",
        "_jobs_max",
        "_left",
        "_loop",
        "slices",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        held_bytes_max: int = HELD_BYTES_MAX,
        jobs_max: int = JOBS_MAX,
        held_seconds_max: float = HELD_SECONDS_MAX,
    ) -> None:
        self._loop = loop
        self._budget = Budget(0)
        self._left = TURN_WORK  # in this turn of the loop
        self._at_once_left = AT_ONCE_BYTES
        self._jobs: deque[Job] = deque()  # with those that are over, until their turn
        self._count_open = 0  # of jobs that are not
        self._held: list[Job] = []  # their connections have many unread replies
        self._is_scheduled = False
        self._held_bytes = 0
        self._held_bytes_max = held_bytes_max
        self.slices = 0  # run so far
        self._jobs_max = jobs_max
        self._held_seconds_max = held_seconds_max

    @property
    def may_read_at_once(self) -> bool:
        """Whether a read of one key may be made without steps in this turn. Thousands may come in a turn, of 1 MB each."""
        return self._at_once_left > 0

    def read_at_once(self, size: int) -> None:
        """Count the bytes of a value that was read without steps, if it is large."""
        self._at_once_left -= size
        self._schedule()

    def try_now(self, steps: Steps) -> bool:
        """Take steps in what is left of this turn. Returns whether they are done; if not, `start` a job."""
        if self._left <= 0 or self._jobs:
            return False
        budget = self._budget
        budget.left = self._left
        try:
            return not steps.step(budget)
        finally:
            self._left = budget.left
            self._schedule()

    def begin(self, steps: Steps) -> bool:
        """Take one slice, whatever waits: for what is done in it almost always. Returns whether the steps are done.

        Not in a turn that has begun too many: then nothing is done.
        """
        if self._left <= -BEGIN_WORK:
            return False
        budget = self._budget
        budget.left = SLICE_WORK
        try:
            return not steps.step(budget)
        finally:
            self._left -= SLICE_WORK - budget.left
            self._schedule()

    def start(self, steps: Steps, store: Store, then: Done, *, is_backlogged: Callable[[], bool] | None = None) -> Job | None:
        """Do the rest in later turns. None: too many wait already, and `then` has been called.

        The revision that the steps read stays readable; with the store replaced, `then` gets TIMEOUT.
        is_backlogged: does the connection that waits for the answer have many unread replies?
        """
        if self._count_open >= self._jobs_max:
            then(errors.TOO_MANY_REQUESTS)
            return None
        job = Job(steps, store, then, is_backlogged)
        steps.pin()
        self._count_open += 1
        self._count(job)
        self._jobs.append(job)
        self._schedule()
        return job

    async def finish(self, steps: Steps, store: Store, *, is_backlogged: Callable[[], bool] | None = None) -> None:
        """Take all steps, now or in later turns. Raises what a step raises, TOO_MANY_REQUESTS or TIMEOUT, as `start` does.

        is_backlogged: see `start`.
        """
        if store.is_replaced:
            raise errors.TIMEOUT
        if self.try_now(steps):
            return
        done: asyncio.Future[None] = self._loop.create_future()
        job = self.start(steps, store, partial(_settle, done), is_backlogged=is_backlogged)
        try:
            await done
        except asyncio.CancelledError:
            if job is not None:
                self.cancel(job)
            raise

    def cancel(self, job: Job) -> None:
        """Drop a job: nobody waits for it. `then` is not called. Without effect on one that is done.

        It stays in its queue, since a search among thousands, for thousands that end together, is long. There its steps are
        freed in later turns.
        """
        if not job.is_over:
            steps = job.steps
            self._end(job)
            job.steps = steps

    def close(self) -> None:
        """Drop all jobs."""
        for job in (*self._jobs, *self._held):
            if not job.is_over:
                self._end(job)
        self._jobs.clear()
        self._held.clear()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._is_scheduled = False
        self._left = TURN_WORK
        self._at_once_left = AT_ONCE_BYTES
        while self._jobs and self._left > 0:
            job = self._jobs.popleft()
            if job.is_over:
                self._discard(job)
            elif job.is_backlogged is None or not job.is_backlogged() or not self._hold(job):
                self._run_slice(job)
        if self._jobs:
            self._schedule()

    def _discard(self, job: Job) -> None:
        """Free what a cancelled job holds, or some of it."""
        budget = self._budget
        budget.left = allowed = min(SLICE_WORK, self._left)
        if job.steps.discard(budget):
            self._jobs.append(job)
        else:
            job.steps = _NOTHING
        self._left -= VISIT + allowed - budget.left

    def _hold(self, job: Job) -> bool:
        """Hold the job back for a moment; False if it has been held back long enough."""
        now = self._loop.time()
        if not job.held_until:
            job.held_until = now + self._held_seconds_max
        if now >= job.held_until:
            return False
        if not self._held:
            self._loop.call_later(_HELD_POLL_SECONDS, self._release)
        self._held.append(job)
        return True

    def _release(self) -> None:
        """Look again at the jobs held back."""
        held, self._held = self._held, []
        if held:
            self._jobs.extend(held)
            self._schedule()

    def _run_slice(self, job: Job) -> None:
        self.slices += 1
        budget = self._budget
        budget.left = allowed = min(SLICE_WORK, self._left)
        error: Exception | None = None
        more = False
        try:
            if job.store.is_replaced:
                error = errors.TIMEOUT
            else:
                more = job.steps.step(budget)
        except Exception as caught:
            error = caught
        self._left -= max(1, allowed - budget.left)
        if job.is_over:  # cancelled by its own step
            self._jobs.append(job)
            return
        if more:
            self._count(job)
            if self._held_bytes > self._held_bytes_max:
                self._jobs.appendleft(job)
            else:
                self._jobs.append(job)
            return
        then = job.then
        self._end(job)
        then(error)

    def _count(self, job: Job) -> None:
        size = job.steps.size_bytes
        self._held_bytes += size - job.size
        job.size = size

    def _end(self, job: Job) -> None:
        job.is_over = True
        self._count_open -= 1
        self._held_bytes -= job.size
        job.steps.unpin()
        # These refer to the call, and the call to the job, to cancel it: a cycle would keep the answer until a collection.
        job.then = _ignore
        job.steps = _NOTHING
        job.is_backlogged = None


def _ignore(error: Exception | None) -> None: ...


_NOTHING: Final = Steps()


def _settle(done: asyncio.Future[None], error: Exception | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
