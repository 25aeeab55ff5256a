"""Carries a plan out: phases in their order, hosts side by side, and every change of a step's state said aloud.

    await execute(plan, on_event)

A host's own steps keep their order. At the first failure nothing new is begun: what runs on other hosts is let to its end, then
all failures are reported together. In a phase that is one at a time that means: the hosts after it are not touched.
An interruption (Ctrl-C) is a failure too, one that says where it stopped.

It knows nothing of what steps do, and never tries one twice: steps may be carried out again, so the next run goes on from here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from tercet.deploy.plan.plan import Phase, Plan, Step
from tercet.deploy.run.events import Event, OnEvent
from tercet.deploy.ssh.host_error import HostError
from tercet.errors import TercetError

UNCHANGED = "unchanged"
"""What a step's work returns when it found nothing to do."""


class DeployError(TercetError):
    """What stopped an operation: one error or several, from different hosts. str() has one after the other."""

    def __init__(self, errors: Sequence[Exception]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n".join(str(error) for error in errors))


class Interrupted(DeployError):
    """The operator stopped it. running: "host: step" of what was under way then."""

    def __init__(self, running: Sequence[str]) -> None:
        self.running = tuple(running)
        where = f" at {'; '.join(running)}" if running else ""
        super().__init__([TercetError(f"interrupted{where}: what is done stays done; run the same again to finish the job")])


def silent(event: Event) -> None:
    """For whoever does not listen."""


async def execute(plan: Plan, on_event: OnEvent = silent, *, announce: bool = True) -> None:
    """Raises DeployError with all that failed, Interrupted if this task is cancelled. announce: say first what will be done."""
    if announce:
        announce_plan(plan, on_event)
    run = _Run(on_event)
    for phase in plan.phases:
        await run.phase(phase)
        if run.errors:
            raise DeployError(run.errors)


def announce_plan(plan: Plan, on_event: OnEvent) -> None:
    """Every step is waiting."""
    for step in plan.steps:
        on_event(Event(step.host, step.title, "waiting"))


class _Run:
    def __init__(self, on_event: OnEvent) -> None:
        self.errors: list[Exception] = []
        self._on_event = on_event
        self._running: list[Step] = []

    async def phase(self, phase: Phase) -> None:
        """All its steps, or as many as there are before a failure."""
        if not phase.steps:
            return
        lanes = [phase.steps] if phase.one_at_a_time else _lanes(phase.steps)
        tasks = [asyncio.ensure_future(self._lane(lane)) for lane in lanes]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        except asyncio.CancelledError:
            where = [_place(step) for step in self._running]
            await _end(tasks)
            raise Interrupted(where) from None
        await _end(tasks)
        for task in tasks:
            task.result()  # only what is no failure of a step is raised here

    async def _lane(self, steps: Iterable[Step]) -> None:
        for step in steps:
            if self.errors:
                return
            await self._step(step)

    async def _step(self, step: Step) -> None:
        self._on_event(Event(step.host, step.title, "running"))
        self._running.append(step)

        def progress(done: int, total: int, detail: str = "") -> None:
            self._on_event(Event(step.host, step.title, "running", detail, done, total))

        try:
            word = await step.work(progress)
        except asyncio.CancelledError:
            self._on_event(Event(step.host, step.title, "failed", "interrupted"))
            raise
        except (TercetError, OSError) as error:
            self.errors.append(error)
            self._on_event(Event(step.host, step.title, "failed", _short(error)))
        else:
            if word == UNCHANGED:
                self._on_event(Event(step.host, step.title, "unchanged"))
            else:
                self._on_event(Event(step.host, step.title, "done", word))
        finally:
            self._running.remove(step)


def _lanes(steps: Iterable[Step]) -> list[list[Step]]:
    """The steps of each host, in their order; those without a host are one more lane."""
    lanes: dict[str | None, list[Step]] = {}
    for step in steps:
        lanes.setdefault(step.host, []).append(step)
    return list(lanes.values())


async def _end(tasks: Sequence[asyncio.Future[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _place(step: Step) -> str:
    return f"{step.host}: {step.title}" if step.host else step.title


def _short(error: Exception) -> str:
    """The first line, without the host and step that the event itself names."""
    text = error.text if isinstance(error, HostError) else str(error)
    return text.partition("\n")[0]
