"""However many handshakes are due, a turn of the loop takes some of them."""

from __future__ import annotations

import asyncio

import pytest

from tercet.tls.turns import TURN_SECONDS, TlsTurns

STEP_SECONDS = 1 / 256  # exact, so that sums are
STEPS = int(TURN_SECONDS // STEP_SECONDS) + 1  # in a turn


class Steps:
    """Steps that take `STEP_SECONDS` each on a clock of their own; `order` of those that have run."""

    def __init__(self) -> None:
        self.now = 0.0
        self.order: list[int] = []

    def clock(self) -> float:
        return self.now

    def take(self, number: int) -> None:
        self.now += STEP_SECONDS
        self.order.append(number)


def test_many_take_turns_in_their_order() -> None:
    async def scenario() -> None:
        steps = Steps()
        turns = TlsTurns(asyncio.get_running_loop(), steps.clock)
        at_once = [turns.run(lambda number=number: steps.take(number)) for number in range(100 * STEPS)]  # type: ignore[misc]
        assert at_once == [True] * STEPS + [False] * 99 * STEPS
        for turn in range(2, 101):
            await asyncio.sleep(0)
            assert len(steps.order) == STEPS * turn
        assert steps.order == list(range(100 * STEPS))
        await asyncio.sleep(0)
        assert turns.run(lambda: steps.take(0)), "nobody waits any more"

    asyncio.run(scenario())


def test_a_later_one_does_not_overtake() -> None:
    async def scenario() -> None:
        steps = Steps()
        turns = TlsTurns(asyncio.get_running_loop(), steps.clock)
        for number in range(6):
            turns.run(lambda number=number: steps.take(number))  # type: ignore[misc]
        asyncio.get_running_loop().call_soon(lambda: turns.run(lambda: steps.take(6)))
        for _ in range(3):
            await asyncio.sleep(0)
        assert steps.order == list(range(7))

    asyncio.run(scenario())


def test_established_connections_do_not_wait_for_the_handshakes_that_wait() -> None:
    """The peers' messages waited for 3,000 handshakes of clients, and the leader was lost."""

    async def scenario() -> None:
        steps = Steps()
        turns = TlsTurns(asyncio.get_running_loop(), steps.clock)
        for number in range(10 * STEPS):
            turns.run(lambda number=number: steps.take(number))  # type: ignore[misc]
        for number in (1000, 1001, 1002):
            turns.wait(lambda number=number: turns._run(lambda: steps.take(number)))  # type: ignore[misc]
        await asyncio.sleep(0)
        assert steps.order[STEPS : STEPS + 2] == [1000, 1001], "half of the turn"
        assert steps.order[STEPS + 2] == STEPS, "the rest is for handshakes"
        await asyncio.sleep(0)
        assert 1002 in steps.order[: 2 * STEPS + 1]

    asyncio.run(scenario())


def test_a_step_that_raises_stops_no_other() -> None:
    async def scenario() -> None:
        steps = Steps()
        loop = asyncio.get_running_loop()
        heard: list[object] = []
        loop.set_exception_handler(lambda _, context: heard.append(context["exception"]))
        turns = TlsTurns(loop, steps.clock)
        error = RuntimeError("a bug")

        def fail() -> None:
            raise error

        for number in range(STEPS):
            turns.run(lambda number=number: steps.take(number))  # type: ignore[misc]
        turns.run(fail)
        turns.run(lambda: steps.take(STEPS))
        for _ in range(3):
            await asyncio.sleep(0)
        assert steps.order == list(range(STEPS + 1))
        assert heard == [error]

    asyncio.run(scenario())


def test_a_step_that_raises_at_once_ends_with_its_turn() -> None:
    """No later handshake of the member would ever have been served."""

    async def scenario() -> None:
        steps = Steps()
        turns = TlsTurns(asyncio.get_running_loop(), steps.clock)

        def fail() -> None:
            steps.take(0)
            raise RuntimeError("a bug")

        for _ in range(STEPS):
            with pytest.raises(RuntimeError, match="a bug"):
                turns.run(fail)
        assert not turns.run(lambda: steps.take(1)), "the time of this turn is spent"
        await asyncio.sleep(0)
        assert steps.order == [0] * STEPS + [1]

    asyncio.run(scenario())
