"""Reads in slices, between other events, as services/scheduler.py runs them between turns of the event loop."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from tercet import errors
from tercet.errors import CorruptRecord, RequestError, StatusError
from tercet.mvcc import Answer, Store
from tercet.mvcc.work import Budget
from tercet.sim.clock import MILLISECOND
from tercet.sim.process import Process

_DELAY_MAX: Final = 20 * MILLISECOND
_WORK_MAX: Final = 30  # a slice: a few keys

Then = Callable[[bytes | StatusError], None]


class Slices:
    """Finishes the answers of one member."""

    def __init__(self, process: Process, random: Random) -> None:
        self._process = process
        self._random = random

    def finish(self, answer: bytes | Answer, store: Store, then: Then) -> None:
        """Call `then` with the encoded response, or an error. The revision read stays readable meanwhile."""
        if isinstance(answer, bytes):
            then(answer)
            return
        answer.pin()
        self._step(answer, store, then)

    def _step(self, answer: Answer, store: Store, then: Then) -> None:
        if store.is_replaced:  # by a snapshot
            then(errors.TIMEOUT)
            return
        try:
            more = answer.step(Budget(self._random.randint(1, _WORK_MAX)))
        except RequestError as error:
            answer.unpin()
            then(error)
            return
        except CorruptRecord:
            answer.unpin()
            then(errors.CORRUPT)
            return
        if more:
            self._process.schedule(self._random.randint(0, _DELAY_MAX), lambda: self._step(answer, store, then))
        else:
            answer.unpin()
            then(b"".join(answer.parts))
