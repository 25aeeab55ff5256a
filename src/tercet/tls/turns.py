"""TLS in slices of the event loop's time: handshakes, and the decryption of what has arrived.

    turn 1   A B C        10 ms are spent: D and later ones wait, and nothing more is read from them
    turn 2   D E F
    turn 3   G            and others at once again

A handshake takes about half a millisecond of processor time. A thousand clients that reconnect together, as after a failure of
the network, would make one turn of half a second, in which the member sends no heartbeat. So would a few megabytes of records
of one byte, and a hundred kilobytes of requests for new keys, each of which costs 20 us.

What waits for decryption comes before the handshakes that wait, which get half of a turn at least: the heartbeats of the peers
must not wait for the handshakes of 3,000 clients, or the leader is lost.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Final

TURN_SECONDS: Final = 0.01


class TlsTurns:
    """Of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float] = perf_counter) -> None:
        self.loop = loop
        self._clock = clock
        self._handshakes: deque[Callable[[], None]] = deque()
        self._waiting: deque[Callable[[], None]] = deque()  # of established connections
        self._spent = 0.0  # seconds in this turn
        self._is_scheduled = False

    def run(self, step: Callable[[], None]) -> bool:
        """Run one step of a handshake. False: it runs in a later turn, after those that wait already."""
        if self._handshakes or not self.admits():
            self._handshakes.append(partial(self._run, step))
            return False
        self._schedule()
        self._run(step)
        return True

    def admits(self) -> bool:
        """May an established connection take more of this turn? Not before those that wait."""
        return self._spent < TURN_SECONDS and not self._waiting

    def wait(self, step: Callable[[], None]) -> None:
        """Call `step`, which accounts for its time itself, in a later turn. Only where this one does not admit it."""
        self._waiting.append(step)

    def spend(self, seconds: float) -> None:
        """Account for work that was done in this turn."""
        self._spent += seconds
        self._schedule()

    def _run(self, step: Callable[[], None]) -> None:
        began = self._clock()
        try:
            step()
        finally:
            self._spent += self._clock() - began

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self.loop.call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._is_scheduled = False
        self._spent = 0.0
        try:
            self._take(self._waiting, TURN_SECONDS / 2 if self._handshakes else TURN_SECONDS)
            self._take(self._handshakes, TURN_SECONDS)
            self._take(self._waiting, TURN_SECONDS)
        finally:
            if self._handshakes or self._waiting or self._spent:
                self._schedule()

    def _take(self, waiting: deque[Callable[[], None]], seconds: float) -> None:
        while waiting and self._spent < seconds:
            waiting.popleft()()
