"""Executes a plan: phases in sequence, hosts in parallel, one event per state change of a step.

    await execute(plan, on_event)

The steps of one host run in order. After the first failure no further step starts; steps already running on other hosts finish,
then all failures are reported together. In a phase that is one at a time, the remaining hosts are not touched. Cancellation
(Ctrl-C) is a failure that names the interrupted steps.

The executor does not retry: steps can be repeated, so the next run continues.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from tercet.deploy.plan.plan import Phase, Plan, Step
from tercet.deploy.run.events import Event, OnEvent
from tercet.deploy.ssh.host_error import HostError
from tercet.errors import TercetError

UNCHANGED = "unchanged"
"""Result of a step that found nothing to do."""


class DeployError(TercetError):
    """One or more errors, possibly of different hosts, that stopped an operation. str() joins them with newlines."""

    def __init__(self, errors: Sequence[Exception]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n".join(str(error) for error in errors))


class Interrupted(DeployError):
    """The operation was cancelled. running: the interrupted steps, as "host: step"."""

    def __init__(self, running: Sequence[str], *, has_changes: bool = True) -> None:
        self.running = tuple(running)
        where = f" at {'; '.join(running)}" if running else ""
        effect = "rerun the command to continue, completed steps are skipped" if has_changes else "nothing was changed"
        super().__init__([TercetError(f"interrupted{where}; {effect}")])

    @classmethod
    def before_changes(cls) -> Interrupted:
        """Cancelled before the first step."""
        return cls((), has_changes=False)


def silent(event: Event) -> None:
    """Ignore an event."""


async def execute(plan: Plan, on_event: OnEvent = silent, *, announce: bool = True) -> None:
    """Raises DeployError with all failures, Interrupted on cancellation. announce: first report every step as waiting."""
    if announce:
        announce_plan(plan, on_event)
    run = _Run(on_event)
    for phase in plan.phases:
        await run.phase(phase)
        if run.errors:
            raise DeployError(run.errors)


def announce_plan(plan: Plan, on_event: OnEvent) -> None:
    """Report every step as waiting."""
    for step in plan.steps:
        on_event(Event(step.host, step.title, "waiting"))


class _Run:
    def __init__(self, on_event: OnEvent) -> None:
        self.errors: list[Exception] = []
        self._on_event = on_event
        self._running: list[Step] = []

    async def phase(self, phase: Phase) -> None:
        """Run the steps of one phase until all are done or one fails."""
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
            task.result()  # raises unexpected exceptions; failures of steps are in self.errors

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
            result = await step.work(progress)
        except asyncio.CancelledError:
            self._on_event(Event(step.host, step.title, "failed", "interrupted"))
            raise
        except (TercetError, OSError) as error:
            self.errors.append(error)
            self._on_event(Event(step.host, step.title, "failed", _short(error)))
        else:
            if result == UNCHANGED:
                self._on_event(Event(step.host, step.title, "unchanged"))
            else:
                self._on_event(Event(step.host, step.title, "done", result))
        finally:
            self._running.remove(step)


def _lanes(steps: Iterable[Step]) -> list[list[Step]]:
    """The steps of each host in order; steps without a host form one more lane."""
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
    """The first line, without host and step, which the event has."""
    text = error.text if isinstance(error, HostError) else str(error)
    return text.partition("\n")[0]
