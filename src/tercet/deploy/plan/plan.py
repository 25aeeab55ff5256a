"""Plans: phases of steps, each of which can be displayed and executed.

    Plan
      Phase "prepare"               hosts in parallel, the steps of one host in order
        Step kube-node1 "write /etc/systemd/system/etcd.service"    with its diff
      Phase "restart", one at a time    hosts in sequence, in the order of the steps; stops at the first failure

Apply, restart and destroy build plans for the same executor. A step may run again after an interruption at any point: it
checks first, or overwrites atomically.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias


class Progress(Protocol):
    """Reports bytes done and in total, and a text for the phase after a copy."""

    def __call__(self, done: int, total: int, detail: str = "") -> None: ...


Work: TypeAlias = Callable[[Progress], Awaitable[str]]
"""Executes the step and reports its progress. Returns a short result text, or ""; raises HostError."""


@dataclass(frozen=True)
class Step:
    """One action. host: None for the operator's machine. diff: the change as text without secrets; "" if the title says it."""

    host: str | None
    title: str
    work: Work
    diff: str = ""


@dataclass(frozen=True)
class Phase:
    """Steps that run in parallel, host by host; or in sequence if `one_at_a_time`."""

    title: str
    steps: tuple[Step, ...]
    one_at_a_time: bool = False


@dataclass(frozen=True)
class Plan:
    """notes: warnings to show before confirmation, for example about a plain listener. blockers: errors that stop `apply`."""

    phases: tuple[Phase, ...] = ()
    notes: tuple[str, ...] = ()
    blockers: tuple[str, ...] = ()

    @property
    def steps(self) -> tuple[Step, ...]:
        return tuple(step for phase in self.phases for step in phase.steps)

    @property
    def changes(self) -> tuple[tuple[str, str, str, str], ...]:
        """(phase, host, title, diff) of every step: equal for plans that make the same changes.

        Independent of the order of restarts, and of whether a member is started or restarted: the unit of a member
        that cannot start (an expired certificate) is active at one moment and activating at the next.
        """
        rows = [
            ("start", step.host or "", "start", "")
            if phase.title in ("start", "restart")
            else (phase.title, step.host or "", step.title, step.diff)
            for phase in self.phases
            for step in phase.steps
        ]
        return tuple(sorted(rows))

    @property
    def is_empty(self) -> bool:
        return not self.steps
