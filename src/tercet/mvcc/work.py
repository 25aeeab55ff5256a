"""Work as a number, so that what takes long can be done in slices.

A member that is busy for an election timeout loses its leadership. So whatever costs in proportion to data is an object with
`step(budget)`: it does some work, subtracts it from the budget, and returns whether there is more to do. Work is counted in
keys visited and bytes copied, never in time, so the simulator runs the same slices.

One unit is about a microsecond on a compiled member; from sources, two or three.
"""

from __future__ import annotations

from typing import Final

VISIT: Final = 1  # look at one key of the index
FETCH: Final = 2  # read one value from the backend, beside its bytes
OPERATION: Final = 4  # look at one operation of a Txn
WRITE: Final = 8  # put or delete one key
BYTES_SHIFT: Final = 12  # one unit for each 4 KiB copied

TURN_WORK: Final = 2000
"""For one turn of the event loop: 2 ms compiled, 5 ms from sources."""

_UNLIMITED: Final = 1 << 60


class Budget:
    """The work that may still be done in this slice. The last item of a slice may overdraw it."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left


class Steps:
    """Work that may take several slices."""

    __slots__ = ()

    def step(self, budget: Budget) -> bool:
        """Go on until all is done or the budget is used up. Returns whether there is more to do.

        With anything left in the budget at the start, it makes progress.
        """
        raise NotImplementedError

    @property
    def size_bytes(self) -> int:
        """Memory that it holds so far."""
        return 0

    def pin(self) -> None:
        """Keep what it reads readable while it waits for its next slice; ends with `unpin`. See read_txn.Pins."""

    def unpin(self) -> None: ...

    def discard(self, budget: Budget) -> bool:
        """Free some of what it holds, after it was given up. Returns whether there is more that takes long to free."""
        return False


class Answer(Steps):
    """A response in the making, read at one revision.

    parts: the encoded response without its header, in pieces, complete once `step` has returned False.
    """

    __slots__ = ("parts",)

    parts: list[bytes]


class Apply(Steps):
    """An entry of the log in the making. Nothing else is applied before it is complete.

    is_awaited: whether a client of this member waits for the answer; set before the first step. Reads are for clients alone:
    without one they are skipped (etcd: SkipRangeExecution).
    """

    __slots__ = ("is_awaited",)

    is_awaited: bool

    def outcome(self) -> bytes | Answer:
        """The response once `step` has returned False; reads are still to be made, by the steps of an Answer."""
        raise NotImplementedError


def finish(steps: Steps) -> None:
    """Do all of it in one go: where nothing else waits."""
    budget = Budget(_UNLIMITED)
    while steps.step(budget):
        budget.left = _UNLIMITED


def whole_answer(answer: bytes | Answer) -> bytes:
    """The encoded response, made in one go where it is not complete."""
    if isinstance(answer, bytes):
        return answer
    finish(answer)
    return b"".join(answer.parts)


def whole_apply(apply: bytes | Apply) -> bytes:
    """Apply a request in one go and return its response."""
    if isinstance(apply, bytes):
        return apply
    apply.is_awaited = True
    finish(apply)
    return whole_answer(apply.outcome())
