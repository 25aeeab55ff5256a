"""Clients that do not read their replies lose their connections before others lose their replies."""

from __future__ import annotations

import asyncio

from tercet.queued_replies import UNREAD_SECONDS, QueuedReplies
from tercet.rpc import Channel, UnaryCall, unary
from tests.rpc.harness import run, serving
from tests.rpc.raw import RawPeer
from tests.rpc.test_flow import one_message
from tests.support.waiting import until

MEGABYTE = 1 << 20


class LoopWithTime(asyncio.SelectorEventLoop):
    """now: what `time` returns."""

    now = 1000.0

    def time(self) -> float:
        return self.now


class Queue:
    def __init__(self, name: str) -> None:
        self.name = name
        self.is_closed = False

    def close_unread(self) -> str:
        self.is_closed = True
        return self.name


class Replies:
    """QueuedReplies of 10 MB, full, and 20 MB, over, at a time that tests set."""

    def __init__(self, loop: LoopWithTime) -> None:
        self.loop = loop
        self.queued = QueuedReplies(loop, full_bytes=10 * MEGABYTE, bytes_max=20 * MEGABYTE)

    def hold(self, *megabytes: float) -> list[Queue]:
        """One queue for each size."""
        queues = [Queue(str(size)) for size in megabytes]
        for queue, size in zip(queues, megabytes, strict=True):
            self.queued.count(queue, int(size * MEGABYTE))
        return queues


def with_replies() -> Replies:
    loop = LoopWithTime()
    loop.close()
    return Replies(loop)


def test_those_that_do_not_read_are_closed_the_largest_first() -> None:
    replies = with_replies()
    small, large, larger = replies.hold(1, 4, 5)
    assert not replies.queued.is_full
    replies.loop.now += UNREAD_SECONDS
    (new,) = replies.hold(1)
    assert replies.queued.bytes == 2 * MEGABYTE
    assert [queue.is_closed for queue in (small, large, larger, new)] == [False, True, True, False]


def test_those_that_read_stay_however_much_they_hold() -> None:
    replies = with_replies()
    reading, dripping = replies.hold(5, 5)
    for _ in range(40):
        replies.loop.now += UNREAD_SECONDS / 20
        for queue, taken in ((reading, 100_000), (dripping, 1_000)):
            replies.queued.count(queue, 5 * MEGABYTE - taken)
            replies.queued.count(queue, 5 * MEGABYTE)  # and as much again is queued
    replies.hold(1)
    assert [reading.is_closed, dripping.is_closed] == [False, True]


def test_above_the_limit_those_are_closed_first_that_have_read_nothing_for_longest() -> None:
    replies = with_replies()
    first, second, third = replies.hold(6, 6, 7)
    assert replies.queued.is_full
    assert not replies.queued.is_over
    replies.loop.now += 1
    replies.queued.taken(second, MEGABYTE)
    replies.loop.now += 1
    (new,) = replies.hold(4)
    assert [queue.is_closed for queue in (first, second, third, new)] == [True, True, True, False]
    assert not replies.queued.is_full


def test_what_is_forgotten_or_small_is_not_counted() -> None:
    replies = with_replies()
    read, lost = replies.hold(3, 4)
    replies.queued.count(read, 1000)
    replies.queued.forget(lost)
    replies.queued.forget(lost)
    replies.queued.count(Queue("small"), 1000)
    assert replies.queued.bytes == 0


def test_a_client_that_does_not_read_does_not_cost_another_one_its_replies() -> None:
    """40 connections held 512 MB for as long as they liked, and every large reply to anybody else was an error."""

    def large(call: UnaryCall, message: bytes) -> None:
        call.reply(bytes(MEGABYTE))

    async def main() -> None:
        async with serving({"/test.Test/Large": unary(large)}) as (server, port):
            loop = asyncio.get_running_loop()
            server.replies = replies = QueuedReplies(loop, full_bytes=4 * MEGABYTE, bytes_max=64 * MEGABYTE)
            slow = [await RawPeer.connect(port) for _ in range(3)]
            for peer in slow:
                for number in range(9):
                    peer.send(one_message(1 + 2 * number, b"/test.Test/Large"))
            await until(lambda: replies.bytes > 20 * MEGABYTE)
            good = Channel("127.0.0.1", port)
            await good.connect()
            assert len(await good.unary("/test.Test/Large", b"")) == MEGABYTE
            for count in replies._counts.values():
                count.read_at -= UNREAD_SECONDS
            replies._look_at = 0.0
            await good.unary("/test.Test/Large", b"", 5)
            await until(lambda: replies.bytes < 4 * MEGABYTE)
            while (await slow[0].next_frame())[0] != -1:
                pass
            await until(lambda: len(server.connections) == 1)
            await good.close()

    run(main())
