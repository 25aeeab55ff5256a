"""What would be done, before anything is: phases of steps, each of which can show itself and carry itself out.

Apply, restart and destroy are plans, and so are upgrades, rotations and replacements: different steps, the same executor.

    Plan
      Phase "files"                 hosts side by side, the steps of one host in their order
        Step kube-node1 "write /etc/systemd/system/etcd.service"    with its diff
      Phase "restart", one at a time    one host after the other, in the order of the steps; stops at the first failure

A step may be carried out again after any interruption: it looks, or overwrites whole.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias


class Progress(Protocol):
    """How a step's work reports bytes done and in total, and in words what it does when that is no longer copying."""

    def __call__(self, done: int, total: int, detail: str = "") -> None: ...


Work: TypeAlias = Callable[[Progress], Awaitable[str]]
"""Does the step; told how to report how far it is. Returns a word on how it went, or ""; raises HostError."""


@dataclass(frozen=True)
class Step:
    """One thing to do. host: None for what is done here. diff: what changes, as text, never a secret; "" if the title tells."""

    host: str | None
    title: str
    work: Work
    diff: str = ""


@dataclass(frozen=True)
class Phase:
    """Steps that may run side by side, host by host; or `one_at_a_time`, in order."""

    title: str
    steps: tuple[Step, ...]
    one_at_a_time: bool = False


@dataclass(frozen=True)
class Plan:
    """notes: what the operator should know before saying yes, such as what a plain listener exposes."""

    phases: tuple[Phase, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def steps(self) -> tuple[Step, ...]:
        return tuple(step for phase in self.phases for step in phase.steps)

    @property
    def is_empty(self) -> bool:
        return not self.steps
