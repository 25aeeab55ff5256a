"""The executor: order of steps, events, failures, interruption."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from tercet.deploy.plan.plan import Phase, Plan, Progress, Step
from tercet.deploy.run.events import Event
from tercet.deploy.run.executor import DeployError, Interrupted, execute
from tercet.deploy.ssh.host_error import HostError

Result = TypeVar("Result")


def run(test: Coroutine[Any, Any, Result]) -> Result:
    async def bounded() -> Result:
        return await asyncio.wait_for(test, 60)

    return asyncio.run(bounded())


class Record:
    """Steps and events in order."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.events: list[Event] = []

    def step(self, host: str | None, title: str, *, turns: int = 0, fails: str = "", says: str = "") -> Step:
        """turns: event loop iterations of the step."""

        async def work(progress: Progress) -> str:
            for _ in range(turns):
                await asyncio.sleep(0)
            if fails:
                raise HostError(host or "here", title, fails)
            self.done.append(f"{host}: {title}")
            return says

        return Step(host, title, work)

    def states(self, host: str | None) -> list[str]:
        return [f"{event.step} {event.state}" for event in self.events if event.host == host]


def test_hosts_run_in_parallel_and_their_steps_in_order() -> None:
    record = Record()
    plan = Plan(
        (
            Phase("prepare", (record.step("a", "one", turns=5), record.step("b", "one"), record.step("a", "two"))),
            Phase("start", (record.step("b", "two"),)),
        )
    )
    run(execute(plan, record.events.append))
    assert [event.state for event in record.events[:4]] == ["waiting"] * 4
    assert record.done == ["b: one", "a: one", "a: two", "b: two"]
    assert record.states("a")[2:] == ["one running", "one done", "two running", "two done"]


def test_one_at_a_time_runs_in_sequence_and_stops_at_the_first_failure() -> None:
    record = Record()
    steps = (record.step("c", "go", turns=3), record.step("a", "go", fails="no"), record.step("b", "go"))
    plan = Plan((Phase("restart", steps, one_at_a_time=True), Phase("health", (record.step("c", "health"),))))
    with pytest.raises(DeployError, match=r"^a: go: no$"):
        run(execute(plan, record.events.append))
    assert record.done == ["c: go"]
    assert record.states("b") == ["go waiting"]
    assert record.events[-1] == Event("a", "go", "failed", "no")


def test_running_steps_finish_and_all_failures_are_reported() -> None:
    record = Record()
    plan = Plan(
        (
            Phase(
                "prepare",
                (
                    record.step("a", "copy", turns=1, fails="No space left on device\nmore"),
                    record.step("b", "copy", turns=5),
                    record.step("b", "enable"),
                    record.step("c", "copy", turns=3, fails="connection lost"),
                ),
            ),
        )
    )
    with pytest.raises(DeployError) as caught:
        run(execute(plan, record.events.append))
    assert [str(error) for error in caught.value.errors] == [
        "a: copy: No space left on device\nmore",
        "c: copy: connection lost",
    ]
    assert str(caught.value) == "a: copy: No space left on device\nmore\nc: copy: connection lost"
    assert record.done == ["b: copy"]
    assert record.states("b") == ["copy waiting", "enable waiting", "copy running", "copy done"]
    assert Event("a", "copy", "failed", "No space left on device") in record.events


def test_events_carry_results_and_progress() -> None:
    record = Record()

    async def copy(progress: Progress) -> str:
        progress(1, 4)
        progress(4, 4)
        progress(4, 4, "is unpacked")
        return "ready in 2.0 s"

    plan = Plan((Phase("x", (Step("a", "copy", copy), record.step("a", "user", says="unchanged"))),))
    run(execute(plan, record.events.append))
    assert record.events[2:] == [
        Event("a", "copy", "running"),
        Event("a", "copy", "running", done=1, total=4),
        Event("a", "copy", "running", done=4, total=4),
        Event("a", "copy", "running", "is unpacked", done=4, total=4),
        Event("a", "copy", "done", "ready in 2.0 s"),
        Event("a", "user", "running"),
        Event("a", "user", "unchanged"),
    ]


def test_an_interruption_names_the_running_step() -> None:
    record = Record()
    ended: list[str] = []

    async def wait(progress: Progress) -> str:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("a")
        return ""

    plan = Plan((Phase("x", (record.step("b", "user"), Step("a", "copy", wait), record.step("a", "enable"))),))

    async def interrupted() -> None:
        task = asyncio.ensure_future(execute(plan, record.events.append))
        while "b: user" not in record.done:
            await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(Interrupted, match=r"^interrupted at a: copy; rerun the command to continue") as caught:
        run(interrupted())
    assert caught.value.running == ("a: copy",)
    assert ended == ["a"]
    assert record.states("a") == ["copy waiting", "enable waiting", "copy running", "copy failed"]


def test_unexpected_exceptions_are_raised() -> None:
    record = Record()

    async def wrong(progress: Progress) -> str:
        raise ZeroDivisionError

    plan = Plan((Phase("x", (Step("a", "one", wrong), record.step("b", "one", turns=100))),))
    with pytest.raises(ZeroDivisionError):
        run(execute(plan, record.events.append))
    assert not record.done


def test_an_empty_plan_has_no_events() -> None:
    record = Record()
    run(execute(Plan(), record.events.append))
    assert not record.events
