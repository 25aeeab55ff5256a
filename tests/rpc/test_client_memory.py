"""Clients that do not read, or do not complete, lose their connections before others lose their replies."""

from __future__ import annotations

import asyncio

from tercet.client_memory import STUCK_SECONDS, ClientMemory
from tercet.rpc import Channel, UnaryCall, unary
from tests.rpc import raw
from tests.rpc.harness import run, serving
from tests.rpc.raw import RawPeer, frame, request_block
from tests.rpc.test_flow import one_message
from tests.support.waiting import until

MEGABYTE = 1 << 20


class LoopWithTime(asyncio.SelectorEventLoop):
    """now: what `time` returns."""

    now = 1000.0

    def time(self) -> float:
        return self.now


class Connection:
    def __init__(self, name: str) -> None:
        self.name = name
        self.is_closed = False

    def close_stuck(self) -> str:
        self.is_closed = True
        return self.name


class Memory:
    """ClientMemory of 10 MB, full, and 20 MB, over, at a time that tests set."""

    def __init__(self, loop: LoopWithTime) -> None:
        self.loop = loop
        self.counted = ClientMemory(loop, full_bytes=10 * MEGABYTE, bytes_max=20 * MEGABYTE)

    def hold(self, *megabytes: float) -> list[Connection]:
        """One connection for each size."""
        made = [Connection(str(size)) for size in megabytes]
        for one, size in zip(made, megabytes, strict=True):
            self.counted.count(one, int(size * MEGABYTE))
        return made


def with_memory() -> Memory:
    loop = LoopWithTime()
    loop.close()
    return Memory(loop)


def test_those_that_do_not_read_are_closed_the_largest_first() -> None:
    memory = with_memory()
    small, large, larger = memory.hold(1, 4, 5)
    assert not memory.counted.is_full
    memory.loop.now += STUCK_SECONDS
    (new,) = memory.hold(1)
    assert memory.counted.bytes == 2 * MEGABYTE
    assert [one.is_closed for one in (small, large, larger, new)] == [False, True, True, False]


def test_those_that_read_stay_however_much_they_hold() -> None:
    memory = with_memory()
    reading, dripping = memory.hold(5, 5)
    for _ in range(40):
        memory.loop.now += STUCK_SECONDS / 20
        for one, taken in ((reading, 100_000), (dripping, 1_000)):
            memory.counted.count(one, 5 * MEGABYTE - taken)
            memory.counted.count(one, 5 * MEGABYTE)  # and as much again is queued
    memory.hold(1)
    assert [reading.is_closed, dripping.is_closed] == [False, True]


def test_above_the_limit_those_are_closed_first_that_have_read_nothing_for_longest() -> None:
    memory = with_memory()
    first, second, third = memory.hold(6, 6, 7)
    assert memory.counted.is_full
    assert not memory.counted.is_over
    memory.loop.now += 1
    memory.counted.taken(second, MEGABYTE)
    memory.loop.now += 1
    (new,) = memory.hold(4)
    assert [one.is_closed for one in (first, second, third, new)] == [True, True, True, False]
    assert not memory.counted.is_full


def test_what_is_forgotten_or_small_is_not_counted() -> None:
    memory = with_memory()
    read, lost = memory.hold(3, 4)
    memory.counted.count(read, 1000)
    memory.counted.forget(lost)
    memory.counted.forget(lost)
    memory.counted.count(Connection("small"), 1000)
    assert memory.counted.bytes == 0


def test_a_client_that_does_not_read_does_not_cost_another_one_its_replies() -> None:
    """40 connections held 512 MB for as long as they liked, and every large reply to anybody else was an error."""

    def large(call: UnaryCall, message: bytes) -> None:
        call.reply(bytes(MEGABYTE))

    async def main() -> None:
        async with serving({"/test.Test/Large": unary(large)}) as (server, port):
            loop = asyncio.get_running_loop()
            server.memory = replies = ClientMemory(loop, full_bytes=4 * MEGABYTE, bytes_max=64 * MEGABYTE)
            slow = [await RawPeer.connect(port) for _ in range(3)]
            for peer in slow:
                for number in range(9):
                    peer.send(one_message(1 + 2 * number, b"/test.Test/Large"))
            await until(lambda: replies.bytes > 20 * MEGABYTE)
            good = Channel("127.0.0.1", port)
            await good.connect()
            assert len(await good.unary("/test.Test/Large", b"")) == MEGABYTE
            for count in replies._counts.values():
                count.less_at -= STUCK_SECONDS
            replies._look_at = 0.0
            await good.unary("/test.Test/Large", b"", 5)
            await until(lambda: replies.bytes < 4 * MEGABYTE)
            while (await slow[0].next_frame())[0] != -1:
                pass
            await until(lambda: len(server.connections) == 1)
            await good.close()

    run(main())


def test_requests_that_are_not_completed_are_counted() -> None:
    """Each connection may hold 64 MB of them; 200 connections held 12 GB."""
    half = bytes([0]) + MEGABYTE.to_bytes(4, "big") + bytes(16_000)
    rest = frame(raw.DATA, 0, 1, bytes(16_000))

    async def main() -> None:
        async with serving() as (server, port):
            loop = asyncio.get_running_loop()
            server.memory = memory = ClientMemory(loop, full_bytes=2 * MEGABYTE, bytes_max=64 * MEGABYTE)
            slow = [await RawPeer.connect(port) for _ in range(4)]
            for peer in slow:
                await peer.expect(raw.SETTINGS)
                peer.send(frame(raw.SETTINGS, 1, 0))  # accept the server's window
                head = frame(raw.HEADERS, 4, 1, request_block(b"/test.Test/Echo"))
                peer.send(head + frame(raw.DATA, 0, 1, half) + 40 * rest)
            await until(lambda: memory.bytes > 5 * MEGABYTE // 2)
            assert len(server.connections) == 4
            for count in memory._counts.values():
                count.less_at -= STUCK_SECONDS
            memory._look_at = 0.0
            good = Channel("127.0.0.1", port)
            await good.connect()
            assert len(await good.unary("/test.Test/Echo", bytes(MEGABYTE))) == MEGABYTE
            await until(lambda: memory.bytes <= MEGABYTE)
            await good.close()

    run(main())


def test_a_reply_for_which_its_own_connection_is_closed_ends_its_call_once() -> None:
    memory: list[ClientMemory] = []

    def large(call: UnaryCall, message: bytes) -> None:
        memory[0]._look_at = 0.0
        call.reply(bytes(MEGABYTE))

    async def main() -> None:
        async with serving({"/test.Test/Large": unary(large)}) as (server, port):
            loop = asyncio.get_running_loop()
            server.memory = ClientMemory(loop, full_bytes=MEGABYTE // 2, bytes_max=2 * MEGABYTE)
            memory.append(server.memory)
            slow = await RawPeer.connect(port)
            for number in range(6):
                slow.send(one_message(1 + 2 * number, b"/test.Test/Large"))
            while (await slow.next_frame())[0] != -1:
                pass
            await until(lambda: not server.connections)
            method = server.methods[b"/test.Test/Large"]
            assert sum(method.handled) == method.started

    run(main())
