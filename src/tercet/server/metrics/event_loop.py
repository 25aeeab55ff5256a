"""Monitors the turns of the event loop: a leader that is busy for an election timeout loses its leadership.

A timer of 10 ms measures how late it fires, so every longer turn is seen, short by at most the period. A turn over 100 ms is
logged with what ran in it: garbage collection, and what each watched counter has counted since the timer before. The processor
time of the loop's thread is measured too: where it is much shorter than the turn, the machine was busy, not the member.

After a second in which the loop had little to do the period is 50 ms, so that an idle member seldom wakes. The processor time
then completes what the first long turn lacks: nothing else was running.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable
from time import perf_counter, thread_time
from typing import Any, Final

from tercet.log_fields import fields
from tercet.server.metrics.families import Histogram

logger = logging.getLogger(__name__)

LONG_TURN_SECONDS: Final = 0.1
_PERIOD_SECONDS: Final = 0.01
_QUIET_PERIOD_SECONDS: Final = 0.05
_QUIET_TICKS: Final = 100  # with less than a tenth of the time on a processor
_LATE_SECONDS: Final = 0.002  # later than timers are by themselves
_WAITED_SECONDS: Final = 0.02  # later than a timer is when other processes use the processors
_WINDOW_SECONDS: Final = 60.0


class EventLoopMonitor:
    """turns: observes the seconds of each period of the timer that the loop was busy; processor: those on a processor.

    collections: observes the seconds of each collection of garbage, from `start` to `stop`.
    """

    def __init__(self, turns: Histogram, processor: Histogram) -> None:
        self._loop = asyncio.get_running_loop()
        self._turns = turns
        self._processor = processor
        self._processor_before = 0.0  # of this thread, when the timer fired last
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._period = _PERIOD_SECONDS
        self._quiet_ticks = 0
        self._window_ends = self._loop.time() + _WINDOW_SECONDS
        self._longest = 0.0
        self._longest_before = 0.0
        self._watched: dict[str, Callable[[], int]] = {}
        self._counted: dict[str, int] = {}
        self._collecting_since = 0.0
        self._collected_seconds = 0.0  # since the timer fired last
        self.collections = Histogram(())

    @property
    def longest_seconds(self) -> float:
        """The longest turn in this minute and the one before: a scrape per minute sees every long turn."""
        return max(self._longest, self._longest_before)

    def watch(self, name: str, count: Callable[[], int]) -> None:
        """Name a counter in the log line of a long turn in which it has increased."""
        self._watched[name] = count
        self._counted[name] = count()

    def start(self) -> None:
        gc.callbacks.append(self._collecting)
        self._processor_before = thread_time()
        self._schedule()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            gc.callbacks.remove(self._collecting)

    def _schedule(self) -> None:
        self._due = self._loop.time() + self._period
        self._timer = self._loop.call_at(self._due, self._tick)

    def _tick(self) -> None:
        now = self._loop.time()
        processor_before, self._processor_before = self._processor_before, thread_time()
        used = self._processor_before - processor_before
        late = self._judge(now - self._due, used)
        self._turns.observe(late)
        processor = min(late, used)
        self._processor.observe(processor)
        self._longest = max(self._longest, late)
        before, self._counted = self._counted, {name: count() for name, count in self._watched.items()}
        if late > LONG_TURN_SECONDS:
            self._log(late, processor, {name: self._counted[name] - count for name, count in before.items()})
        self._collected_seconds = 0.0
        if now >= self._window_ends:
            self._window_ends = now + _WINDOW_SECONDS
            self._longest_before, self._longest = self._longest, 0.0
        self._schedule()

    def _judge(self, late: float, used: float) -> float:
        """How long the turn was that made the timer late; chooses the next period. used: processor time since the last."""
        period = self._period
        if late > _LATE_SECONDS and period == _QUIET_PERIOD_SECONDS:
            late = max(late, min(used, period + late))
        is_quiet = late <= _WAITED_SECONDS and used < period / 10
        self._quiet_ticks = self._quiet_ticks + 1 if is_quiet else 0
        self._period = _QUIET_PERIOD_SECONDS if self._quiet_ticks >= _QUIET_TICKS else _PERIOD_SECONDS
        return max(0.0, late)

    def _log(self, seconds: float, processor: float, counted: dict[str, int]) -> None:
        ran = {name: count for name, count in counted.items() if count}
        times = {"took": seconds, "processor": processor, "garbage_collection": self._collected_seconds}
        shown = fields({name: f"{time:.3f}s" for name, time in times.items()}, **ran)
        logger.warning("the event loop was busy for too long", extra=shown)

    def _collecting(self, phase: str, info: dict[str, Any]) -> None:
        if phase == "start":
            self._collecting_since = perf_counter()
        else:
            seconds = perf_counter() - self._collecting_since
            self._collected_seconds += seconds
            self.collections.observe(seconds)
