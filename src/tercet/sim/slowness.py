"""How slow one incarnation of a member is asked to be, and when to crash, beside what the faults of the run make of it."""

from __future__ import annotations


class Slowness:
    """applies_until: virtual microseconds; before, an apply takes breaks. stages: staging a snapshot takes up to a second.

    staged_index: of the newest snapshot whose staging takes long, or 0. crashes_in_install: of the next snapshot.
    """

    __slots__ = ("applies_until", "crashes_in_install", "staged_index", "stages")

    def __init__(self) -> None:
        self.applies_until = 0
        self.crashes_in_install = False
        self.stages = False
        self.staged_index = 0
