"""However much one connection sends at once, a turn of the loop takes a bounded part of it."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Any

from tercet.intake import TURN_WORK, Intake
from tercet.rpc import Server, ServerStream, UnaryCall, bidi_stream, unary
from tercet.rpc.server_connection import ServerConnection
from tests.rpc import raw
from tests.rpc.harness import run
from tests.rpc.raw import frame
from tests.support.waiting import until
from tests.support.wire import Wire

EMPTY = b"\0\0\0\0\0"
REQUESTS = 5 * TURN_WORK
EVENTS_OF_A_PIECE = (16 << 10) // 9  # a frame has nine bytes at least


class Counter:
    """Answers, and counts the calls in each turn of the loop."""

    def __init__(self) -> None:
        self.calls = 0
        self.server = Server({"/test.Test/Count": unary(self._count)})

    def _count(self, call: UnaryCall, message: bytes) -> None:
        self.calls += 1
        call.reply(b"")

    def connect(self) -> tuple[Any, Wire]:
        protocol, wire = self.server.protocol(), Wire()
        protocol.connection_made(wire)
        protocol.data_received(raw.PREFACE + frame(raw.SETTINGS, 0, 0))
        return protocol, wire


def requests(count: int) -> bytes:
    block = raw.request_block(b"/test.Test/Count")
    return b"".join(frame(raw.HEADERS, 4, 2 * n + 1, block) + frame(raw.DATA, 1, 2 * n + 1, EMPTY) for n in range(count))


def test_many_requests_of_one_connection_take_many_turns() -> None:
    async def main() -> None:
        counter = Counter()
        protocol, wire = counter.connect()
        protocol.data_received(requests(REQUESTS))
        assert not wire.is_reading_now, "nothing more is read while something waits"
        before, turns = 0, 0
        while counter.calls < REQUESTS:
            assert 0 < counter.calls - before < TURN_WORK + EVENTS_OF_A_PIECE
            before, turns = counter.calls, turns + 1
            await asyncio.sleep(0)
        assert turns >= REQUESTS // (TURN_WORK + EVENTS_OF_A_PIECE)
        assert wire.is_reading_now
        counter.server.close()

    run(main())


def test_another_connection_waits_for_one_piece_of_each() -> None:
    async def main() -> None:
        counter = Counter()
        busy, _ = counter.connect()
        other, wire = counter.connect()
        busy.data_received(requests(REQUESTS))
        other.data_received(requests(1))
        assert not wire.is_reading_now, "the work of the turn is used up"
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not other.calls, "it has been answered"
        assert wire.is_reading_now
        assert counter.calls < REQUESTS
        counter.server.close()

    run(main())


def test_a_short_request_comes_before_the_rest_of_a_hundred_floods() -> None:
    async def main() -> None:
        counter = Counter()
        busy = [counter.connect()[0] for _ in range(100)]
        other, _ = counter.connect()
        await asyncio.sleep(0)
        flood = requests(REQUESTS)
        for protocol in busy:
            protocol.data_received(flood)
        turns = 0
        while counter.server.intake._waiting:
            await asyncio.sleep(0)
            turns += 1
        assert turns < 200, "each has had a piece"
        assert len(counter.server.intake._begun) == 100
        before = counter.calls
        other.data_received(requests(1))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not other.calls, "it has been answered"
        assert counter.calls > before + 1, "and the others go on"
        for protocol in (*busy, other):
            protocol.connection_lost(None)
        counter.server.close()

    run(main())


def test_a_connection_that_ends_while_it_waits_is_dropped() -> None:
    async def main() -> None:
        counter = Counter()
        protocol, _ = counter.connect()
        protocol.data_received(requests(REQUESTS))
        protocol.connection_lost(None)
        calls = counter.calls
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert counter.calls == calls
        assert counter.server.intake.admits(), "nothing waits any more"

    run(main())


def test_many_messages_of_a_stream_take_many_turns() -> None:
    async def main() -> None:
        taken = 0

        async def take(stream: ServerStream) -> None:
            nonlocal taken
            async for _ in stream:
                taken += 1

        server = Server({"/test.Test/Take": bidi_stream(take)})
        protocol, wire = server.protocol(), Wire()
        protocol.connection_made(wire)
        protocol.data_received(raw.PREFACE + frame(raw.SETTINGS, 0, 0))
        protocol.data_received(frame(raw.HEADERS, 4, 1, raw.request_block(b"/test.Test/Take")))
        await asyncio.sleep(0)
        protocol.data_received(frame(raw.DATA, 0, 1, EMPTY * 3000))
        before = 0
        while taken < 3000:
            await asyncio.sleep(0)
            assert taken - before <= TURN_WORK // 4
            before = taken
        server.close()

    run(main())


def test_tiny_messages_count_beside_the_frames_that_hold_them() -> None:
    """16 KiB of a DATA frame hold 3,276 empty messages: a megabyte of them, for one turn, took 90 ms."""

    async def main() -> None:
        async def ignore(stream: ServerStream) -> None:
            await asyncio.get_running_loop().create_future()

        server = Server({"/test.Test/Ignore": bidi_stream(ignore)})
        protocol, wire = server.protocol(), Wire()
        protocol.connection_made(wire)
        protocol.data_received(raw.PREFACE + frame(raw.SETTINGS, 0, 0) + frame(raw.SETTINGS, 1, 0))
        protocol.data_received(frame(raw.HEADERS, 4, 1, raw.request_block(b"/test.Test/Ignore")))
        await asyncio.sleep(0)
        messages = (16 << 10) // len(EMPTY)
        protocol.data_received(frame(raw.DATA, 0, 1, EMPTY * messages) * 60)
        method = protocol.calls[1].method
        before = 0
        while method.received < 60 * messages:
            assert method.received - before <= 8 * TURN_WORK + 2 * messages
            before = method.received
            await asyncio.sleep(0)
        server.close()

    run(main())


def test_messages_of_many_streams_share_a_turn() -> None:
    async def main() -> None:
        taken = 0

        async def take(stream: ServerStream) -> None:
            nonlocal taken
            async for _ in stream:
                taken += 1

        server = Server({"/test.Test/Take": bidi_stream(take)})
        protocol, wire = server.protocol(), Wire()
        protocol.connection_made(wire)
        protocol.data_received(raw.PREFACE + frame(raw.SETTINGS, 0, 0))
        block = raw.request_block(b"/test.Test/Take")
        streams = range(1, 2 * 1000, 2)
        protocol.data_received(b"".join(frame(raw.HEADERS, 4, stream, block) for stream in streams))
        while not wire.is_reading_now:
            await asyncio.sleep(0)
        protocol.data_received(b"".join(frame(raw.DATA, 0, stream, EMPTY * 20) for stream in streams))
        before = 0
        while taken < 20_000:
            await asyncio.sleep(0)
            assert taken - before <= TURN_WORK // 4
            before = taken
        server.close()

    run(main())


def test_pages_that_are_not_read_wait_outside_the_session() -> None:
    async def main() -> None:
        page = bytes(256 << 10)

        async def handler(
            method: bytes, path: bytes, headers: Any, body: bytes
        ) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
            return 200, [], page

        server = Server({}, http_handler=handler)
        protocol, wire = server.protocol(), Wire()
        protocol.connection_made(wire)
        protocol.data_received(raw.PREFACE + frame(raw.SETTINGS, 0, 0))
        fields = ((b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/page"), (b":authority", b"t"))
        block = b"".join(raw.literal(name, value) for name, value in fields)
        protocol.data_received(b"".join(frame(raw.HEADERS, 5, 2 * n + 1, block) for n in range(200)))
        for _ in range(1000):
            await asyncio.sleep(0)
            assert protocol.session.queued_body_size() <= 9 << 20
        assert protocol.session.queued_body_size() > 8 << 20
        wide = frame(raw.SETTINGS, 0, 0, b"\0\x04\x7f\xff\xff\xff") + frame(raw.WINDOW_UPDATE, 0, 0, b"\x7f\0\0\0")
        protocol.data_received(wide)
        while protocol.calls:
            await asyncio.sleep(0)
        assert sum(map(len, wire.written)) > 200 * len(page)
        server.close()

    run(main())


def test_a_connection_that_fails_after_a_refused_request_is_closed() -> None:
    """The refused stream waits for its reset; the session has ended before it can be sent."""

    async def main() -> None:
        counter = Counter()
        protocol, _ = counter.connect()
        refused = frame(raw.HEADERS, 4, 1, raw.request_block(b"/test.Test/None"))
        protocol.data_received(refused + frame(raw.DATA, 0, 0, b"no stream"))
        await asyncio.sleep(0)
        assert protocol.closing
        counter.server.close()

    run(main())


def test_each_turn_has_its_own_work() -> None:
    async def main() -> None:
        intake = Intake(asyncio.get_running_loop())
        assert intake.admits()
        intake.spend(TURN_WORK)
        assert not intake.admits()
        await asyncio.sleep(0)
        assert intake.admits()

    run(main())


def test_calls_that_are_cancelled_before_they_start_leave_the_queue_at_once() -> None:
    """Millions of streams, begun and cancelled, waited there for the turns that their tasks would have taken: 1.4 GB."""

    async def main() -> None:
        server = Server({"/test.Test/Stream": bidi_stream(wait)})
        protocol, wire = server.protocol(), Wire()
        protocol.connection_made(wire)
        protocol.data_received(raw.PREFACE + frame(raw.SETTINGS, 0, 0))
        await asyncio.sleep(0)
        block = raw.request_block(b"/test.Test/Stream")
        intake = protocol.intake
        count = TURN_WORK
        for n in range(count):  # in one turn: their starts wait
            intake.left = 0
            protocol.take(frame(raw.HEADERS, 4, 2 * n + 1, block) + frame(raw.RST_STREAM, 0, 2 * n + 1, b"\0\0\0\x08"))
        assert len(intake._postponed) == count
        for _ in range(4):
            await asyncio.sleep(0)
        assert not intake._postponed
        server.close()

    async def wait(stream: ServerStream) -> None:
        await stream.receive()

    run(main())


def test_the_calls_of_ended_connections_end_as_fast_as_others_may_begin() -> None:
    """50 ended in a turn, and 1,500 could begin: those of many short connections took gigabytes."""

    async def main() -> None:
        server = Server({"/test.Test/Count": unary(lambda call, message: call.reply(b""))})
        protocol, wire = server.protocol(), Wire()
        protocol.connection_made(wire)
        protocol.data_received(raw.PREFACE + frame(raw.SETTINGS, 0, 0))
        block = raw.request_block(b"/test.Test/Count")
        count = 4 * TURN_WORK
        for n in range(count):
            protocol.take(frame(raw.HEADERS, 4, 2 * n + 1, block))
        await asyncio.sleep(0)
        protocol.connection_lost(None)
        turns = 0
        while server._abandoned:
            await asyncio.sleep(0)
            turns += 1
        assert turns <= count // (TURN_WORK // 2) + 2
        server.close()

    run(main())


def test_many_connections_share_one_turn_however_long_it_takes() -> None:
    async def main() -> None:
        counter = Counter()
        connections = [counter.connect()[0] for _ in range(20)]
        await asyncio.sleep(0)
        for connection in connections:
            connection.data_received(requests(TURN_WORK // 4))
            time.sleep(0.002)  # the loop's clock goes on
        assert counter.calls <= TURN_WORK
        await until(lambda: counter.calls == 20 * (TURN_WORK // 4))
        counter.server.close()

    run(main())


def test_connections_that_are_lost_together_are_freed_over_several_turns() -> None:
    """To free one takes up to 25 us: of 10,000, a quarter of a second."""

    async def main() -> None:
        counter = Counter()
        lost = [counter.connect()[0] for _ in range(1000)]
        counter.server.flush()
        await asyncio.sleep(0)
        gc.collect()  # what earlier tests have left
        before = alive = connections()
        while lost:
            lost.pop().connection_lost(None)
        most = TURN_WORK // 4 + 64
        while alive > before - 1000:
            now = connections()
            assert alive - now <= most
            alive = now
            await asyncio.sleep(0)
        counter.server.close()

    run(main())


def connections() -> int:
    return sum(isinstance(one, ServerConnection) for one in gc.get_objects())
