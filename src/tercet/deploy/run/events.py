"""Progress events of a running plan: one event per state change of a step.

Events are shown on terminals and kept in logs, so they contain no secrets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

State: TypeAlias = Literal["waiting", "running", "done", "unchanged", "failed"]


@dataclass(frozen=True)
class Event:
    """host: None for the operator's machine. done, total: bytes of a copy, 0 if nothing is copied.

    detail: result of a finished step, or the phase of a running step after its copy.
    """

    host: str | None
    step: str
    state: State
    detail: str = ""
    done: int = 0
    total: int = 0


OnEvent: TypeAlias = Callable[[Event], None]
