"""What is heard of a plan while it is carried out: one event whenever a step changes its state.

Never a secret: events are drawn on terminals and kept in logs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

State: TypeAlias = Literal["waiting", "running", "done", "unchanged", "failed"]


@dataclass(frozen=True)
class Event:
    """host: None for what is done here, with the operator. done, total: bytes of a copy, 0 where nothing is copied.

    detail: how a step that has ended went, or what one that runs does after its copy.
    """

    host: str | None
    step: str
    state: State
    detail: str = ""
    done: int = 0
    total: int = 0


OnEvent: TypeAlias = Callable[[Event], None]
