"""Thousands of calls that end together, by one deadline or with their connection, end over several turns of the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tercet.errors import Code
from tercet.rpc import UnaryCall
from tercet.rpc.deadlines import Deadlines
from tercet.rpc.handlers import unary
from tests.rpc import raw
from tests.rpc.harness import run, serving
from tests.rpc.raw import RawPeer, frame, request_block
from tests.support.turns import Turns
from tests.support.waiting import until

CALLS = 1000
PER_TURN_MAX = 100


class Call:
    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.is_expired = False
        self.then: Callable[[], None] | None = None

    def expire(self) -> None:
        assert not self.is_expired
        self.is_expired = True
        self._turns.note()
        if self.then is not None:
            self.then()


def test_calls_that_are_due_together_end_over_several_turns() -> None:
    async def main() -> None:
        turns = Turns()
        loop = asyncio.get_running_loop()
        deadlines = Deadlines(loop)
        calls = [Call(turns) for _ in range(CALLS)]
        later = Call(turns)
        deadline = loop.time() + 0.01
        for call in calls:
            deadlines.add(call, deadline)

        def one_ends_by_itself() -> None:
            deadlines.discard(calls[-1])
            deadlines.add(later, deadline)

        calls[0].then = one_ends_by_itself
        await until(lambda: later.is_expired)
        assert [call.is_expired for call in calls] == [True] * (CALLS - 1) + [False]
        assert max(turns.events) <= PER_TURN_MAX
        assert len(deadlines) == 0

    run(main())


def test_the_calls_of_a_lost_connection_end_over_several_turns() -> None:
    async def main() -> None:
        turns = Turns()

        def wait(call: UnaryCall, message: bytes) -> None:
            call.on_cancel = turns.note

        async with serving({"/test.Test/Wait": unary(wait)}) as (server, port):
            peer = await RawPeer.connect(port)
            head, body = request_block(b"/test.Test/Wait"), bytes(5)
            for number in range(1, 2 * CALLS, 2):
                peer.send(frame(raw.HEADERS, 4, number, head) + frame(raw.DATA, 1, number, body))
            await until(lambda: server.open_calls() == CALLS)
            peer.close()
            await until(lambda: sum(turns.events) == CALLS)
            assert max(turns.events) <= PER_TURN_MAX
            assert server.methods[b"/test.Test/Wait"].handled[Code.CANCELLED] == CALLS

    run(main())
