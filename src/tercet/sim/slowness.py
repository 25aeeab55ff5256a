"""How slow one incarnation of a member is asked to be, beside what the faults of the run make of it."""

from __future__ import annotations


class Slowness:
    """applies_until: virtual microseconds; before, an apply takes breaks. stages: staging a snapshot takes up to a second.

    staged_index: of the newest snapshot whose staging takes long, or 0.
    """

    __slots__ = ("applies_until", "staged_index", "stages")

    def __init__(self) -> None:
        self.applies_until = 0
        self.stages = False
        self.staged_index = 0
