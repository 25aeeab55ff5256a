"""Thousands of streams or connections: what they do or get together takes several turns of the loop."""

from __future__ import annotations

import asyncio
from typing import Any

from tercet.rpc import Server, ServerStream, UnaryCall, bidi_stream, unary
from tests.rpc import raw
from tests.rpc.harness import run
from tests.rpc.raw import frame
from tests.support.turns import Turns
from tests.support.wire import Wire

EMPTY = b"\0\0\0\0\0"
STREAMS = range(1, 2 * 2000, 2)
PER_TURN_MAX = 100
FRAMES_PER_TURN_MAX = 2 * (32 << 10) // 10 + 2
BYTES_PER_TURN_MAX = 17 << 20
INITIAL_WINDOW = b"\0\4"


def heads(path: bytes) -> bytes:
    block = raw.request_block(path)
    return b"".join(frame(raw.HEADERS, 4, stream, block) for stream in STREAMS)


async def connected(server: Server, settings: bytes = b"") -> tuple[Any, Wire]:
    protocol, wire = server.protocol(), Wire()
    protocol.connection_made(wire)
    await send(protocol, wire, raw.PREFACE + frame(raw.SETTINGS, 0, 0, settings) + frame(raw.SETTINGS, 1, 0))
    return protocol, wire


async def send(protocol: Any, wire: Wire, data: bytes) -> None:
    protocol.data_received(data)
    while not wire.is_reading_now:
        await asyncio.sleep(0)


def resets(wire: Wire) -> int:
    """How many streams have been reset; forgets what has been written."""
    written, wire.written[:] = b"".join(wire.written), []
    found = at = 0
    while at < len(written):
        found += written[at + 3] == raw.RST_STREAM
        at += 9 + int.from_bytes(written[at : at + 3], "big")
    return found


def test_calls_that_are_cancelled_together_stop_over_several_turns() -> None:
    async def main() -> None:
        turns = Turns()

        def wait(call: UnaryCall, message: bytes) -> None:
            call.on_cancel = turns.note

        async def stay(stream: ServerStream) -> None:
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                turns.note()

        server = Server({"/test.Test/Wait": unary(wait), "/test.Test/Stay": bidi_stream(stay)})
        for path in (b"/test.Test/Wait", b"/test.Test/Stay"):
            protocol, wire = await connected(server)
            await send(protocol, wire, heads(path) + b"".join(frame(raw.DATA, 1, stream, EMPTY) for stream in STREAMS))
            for _ in STREAMS:  # until all have started
                await asyncio.sleep(0)
            turns.events[:] = [0]
            protocol.data_received(b"".join(frame(raw.RST_STREAM, 0, stream, b"\0\0\0\x08") for stream in STREAMS))
            while sum(turns.events) < len(STREAMS):
                await asyncio.sleep(0)
            assert max(turns.events) <= PER_TURN_MAX
        server.close()

    run(main())


def test_streams_that_were_answered_early_are_reset_over_several_turns() -> None:
    """Each flush looked at all of them: 50 ms for 100,000, as long as the client gave no window."""

    async def main() -> None:
        server = Server({})
        protocol, wire = await connected(server, INITIAL_WINDOW + bytes(4))
        await send(protocol, wire, heads(b"/test.Test/None"))
        for _ in STREAMS:
            await asyncio.sleep(0)
        assert not resets(wire), "the client takes nothing"
        protocol.data_received(frame(raw.SETTINGS, 0, 0, INITIAL_WINDOW + b"\0\0\xff\xff"))
        total = 0
        while total < len(STREAMS):
            count = resets(wire)
            assert count <= PER_TURN_MAX
            total += count
            await asyncio.sleep(0)
        server.close()

    run(main())


def test_many_settings_take_many_turns() -> None:
    """The engine changes the window of each stream each time."""

    async def main() -> None:
        server = Server({"/test.Test/Wait": unary(lambda call, message: None)})
        protocol, wire = await connected(server)
        await send(protocol, wire, heads(b"/test.Test/Wait"))
        await asyncio.sleep(0)
        sizes = b"".join(
            frame(raw.SETTINGS, 0, 0, INITIAL_WINDOW + (60_000 + number % 2).to_bytes(4, "big")) for number in range(900)
        )
        protocol.data_received(sizes)
        turns = 0
        while not wire.is_reading_now:
            await asyncio.sleep(0)
            turns += 1
        assert turns >= 2
        acknowledged = b"".join(wire.written).count(frame(raw.SETTINGS, 1, 0))
        assert acknowledged >= 900
        server.close()

    run(main())


def test_requests_with_large_headers_take_turns_of_their_own() -> None:
    """A byte of HPACK repeats a field of 4 KiB: 256 of them are a megabyte, which took 10 ms, dozens of times in one turn."""

    async def main() -> None:
        turns = Turns()
        server = Server({"/test.Test/Note": unary(lambda call, message: turns.note())})
        protocol, wire = await connected(server)
        long = b"\x40\1a\x7f" + bytes((0x80 | (3900 - 127) & 0x7F, (3900 - 127) >> 7)) + b"y" * 3900  # into HPACK's table
        block = raw.request_block(b"/test.Test/Note")
        request = frame(raw.HEADERS, 4, 1, block + long) + frame(raw.DATA, 1, 1, EMPTY)
        await send(protocol, wire, request)
        assert sum(turns.events) == 1
        again = block + b"\xbe" * 240
        await asyncio.sleep(0)
        turns.events[:] = [0]
        count = 15  # of 0.9 MiB: more would be refused, since their calls stay open
        protocol.data_received(
            b"".join(frame(raw.HEADERS, 4, 3 + 2 * n, again) + frame(raw.DATA, 1, 3 + 2 * n, EMPTY) for n in range(count))
        )
        while sum(turns.events) < count:
            await asyncio.sleep(0)
        assert max(turns.events) <= 8
        server.close()

    run(main())


def test_connections_that_their_clients_close_together_end_over_several_turns() -> None:
    async def main() -> None:
        server = Server({})
        pairs = [await connected(server) for _ in range(1000)]
        await asyncio.sleep(0)
        for protocol, wire in pairs:
            if not protocol.eof_received():  # as an event loop
                wire.close()
        before = 0
        while before < len(pairs):
            ended = sum(wire.is_aborted for _, wire in pairs)
            assert ended - before < len(pairs) // 2
            before = ended
            await asyncio.sleep(0)
        for protocol, _ in pairs:
            protocol.connection_lost(None)
        server.close()

    run(main())


def test_frames_of_a_byte_for_thousands_of_streams_leave_over_several_turns() -> None:
    """A client that opens all windows by a byte makes a frame for each stream: 90 ms of one turn for 50,000."""

    async def main() -> None:
        server = Server({"/test.Test/Get": unary(lambda call, message: call.reply(bytes(100)))})
        protocol, wire = await connected(server, INITIAL_WINDOW + bytes(4))
        for number in range(4):
            first = 1 + 4000 * number
            block = raw.request_block(b"/test.Test/Get")
            streams = range(first, first + 4000, 2)
            asked = b"".join(frame(raw.HEADERS, 4, one, block) + frame(raw.DATA, 1, one, EMPTY) for one in streams)
            await send(protocol, wire, asked)
        for _ in range(10):
            await asyncio.sleep(0)
        wire.written.clear()
        protocol.data_received(frame(raw.SETTINGS, 0, 0, INITIAL_WINDOW + b"\0\0\0\1"))
        frames = 0
        while frames < 8000:
            now = b"".join(wire.written).count(b"\0\0\1\0\0\0\0")
            assert now - frames <= FRAMES_PER_TURN_MAX
            frames = now
            await asyncio.sleep(0)
        server.close()

    run(main())


def test_small_replies_that_are_not_read_are_bounded_in_number() -> None:
    """100,000 of them made a turn of 80 ms when the client closed its windows again, and one of 60 ms when it disconnected."""

    async def main() -> None:
        server = Server({"/test.Test/Get": unary(lambda call, message: call.reply(b""))})
        method = server.methods[b"/test.Test/Get"]
        protocol, wire = await connected(server, INITIAL_WINDOW + bytes(4))
        block = raw.request_block(b"/test.Test/Get")
        count = 0
        for _ in range(9):
            streams = range(1 + 2 * count, 1 + 2 * (count + 2000), 2)
            count += 2000
            asked = b"".join(frame(raw.HEADERS, 4, one, block) + frame(raw.DATA, 1, one, EMPTY) for one in streams)
            await send(protocol, wire, asked)
        assert method.started == count
        assert protocol.unread_replies == method.handled[0] < count - 500
        more = frame(raw.WINDOW_UPDATE, 0, 0, b"\0\1\0\0")
        protocol.data_received(frame(raw.SETTINGS, 0, 0, INITIAL_WINDOW + b"\0\0\xff\xff") + more)
        while method.handled[0] < count or protocol.unread_replies:
            await asyncio.sleep(0)
        server.close()

    run(main())


def test_what_many_connections_send_takes_several_turns() -> None:
    """Five hundred clients that open their windows together, each for half a megabyte."""

    async def main() -> None:
        server = Server({"/test.Test/Get": unary(lambda call, message: call.reply(bytes(1 << 20)))})
        block = raw.request_block(b"/test.Test/Get")
        clients = []
        for _ in range(60):
            protocol, wire = await connected(server)
            await send(protocol, wire, frame(raw.HEADERS, 4, 1, block) + frame(raw.DATA, 1, 1, EMPTY))
            clients.append((protocol, wire))
        for _ in range(10):
            await asyncio.sleep(0)
        opened = frame(raw.WINDOW_UPDATE, 0, 0, b"\0\x20\0\0") + frame(raw.WINDOW_UPDATE, 0, 1, b"\0\x20\0\0")
        for protocol, wire in clients:
            wire.written.clear()
            protocol.data_received(opened)
        total = 0
        while total < 56 << 20:
            now = sum(len(piece) for _, wire in clients for piece in wire.written)
            assert now - total <= BYTES_PER_TURN_MAX
            total = now
            await asyncio.sleep(0)
        server.close()

    run(main())


def test_large_answers_of_streams_wait_until_the_client_reads() -> None:
    """A client that opens a thousand RangeStreams and reads none made the member hold 10 MB for each."""

    async def main() -> None:
        made = 0

        async def large(stream: ServerStream) -> None:
            nonlocal made
            for _ in range(2):
                await stream.wait_until_read()
                made += 1
                await stream.send_large(bytes(3 << 20))

        server = Server({"/test.Test/Large": bidi_stream(large)})
        protocol, wire = await connected(server, INITIAL_WINDOW + bytes(4))
        streams = range(1, 40, 2)
        block = raw.request_block(b"/test.Test/Large")
        await send(protocol, wire, b"".join(frame(raw.HEADERS, 4, one, block) for one in streams))
        for _ in range(200):
            await asyncio.sleep(0)
        assert 3 <= made <= 4
        opened = 16 * frame(raw.WINDOW_UPDATE, 0, 0, b"\0\x80\0\0")
        protocol.data_received(frame(raw.SETTINGS, 0, 0, INITIAL_WINDOW + b"\0\x80\0\0") + opened)
        while made < 2 * len(streams):
            await asyncio.sleep(0)
        server.close()

    run(main())
