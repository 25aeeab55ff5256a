"""A member's process: it runs events until it crashes, and a pause delays them.

Each start begins a new incarnation. An event belongs to the incarnation that scheduled it and is dropped when that has ended,
so nothing but the disk reaches the next one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tercet.errors import StorageFailure
from tercet.sim.clock import Clock
from tercet.sim.disk import PowerCut

Action = Callable[[], None]


class Process:
    """after_event: called after each event that ran. on_failure: called with what the disk raised in an event."""

    def __init__(self, clock: Clock, after_event: Action, on_failure: Callable[[PowerCut | StorageFailure], None]) -> None:
        self.incarnation = 0
        self.is_running = False
        self.is_paused = False
        self._clock = clock
        self._after_event = after_event
        self._on_failure = on_failure
        self._delayed: list[Action] = []

    def start(self) -> None:
        self.incarnation += 1
        self.is_running = True

    def kill(self) -> None:
        """Drop all events of this incarnation."""
        self.incarnation += 1
        self.is_running = self.is_paused = False
        self._delayed.clear()

    def pause(self) -> None:
        """Delay all events until `resume`."""
        self.is_paused = True

    def resume(self) -> None:
        self.is_paused = False
        delayed, self._delayed = self._delayed, []
        for action in delayed:
            self.schedule(0, action)

    def schedule(self, delay: int, action: Action) -> None:
        """Run `action` in `delay` microseconds, unless this incarnation ends before."""
        self._clock.after(delay, partial(self._run_in, self.incarnation, action))

    def run(self, action: Action) -> None:
        """Run `action` now, or on `resume`."""
        self._run_in(self.incarnation, action)

    def _run_in(self, incarnation: int, action: Action) -> None:
        if incarnation != self.incarnation or not self.is_running:
            return
        if self.is_paused:
            self._delayed.append(action)
            return
        try:
            action()
        except (PowerCut, StorageFailure) as failure:
            self._on_failure(failure)
            return
        self._after_event()
