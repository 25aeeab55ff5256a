"""Thousands of tasks that one event could start or resume together do so over several turns of the loop, in order."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable, Coroutine
from typing import Any

from tercet.errors import Code
from tercet.intake import BYTES_SHIFT, TASK_WORK, TURN_WORK, Intake, intake_of_running_loop
from tercet.rpc import InProcessChannel, Server, ServerStream, UnaryCall, bidi_stream, method_table, unary, unary_async
from tests.rpc import raw
from tests.rpc.harness import run
from tests.rpc.raw import frame, request_block
from tests.support.turns import Turns
from tests.support.waiting import until
from tests.support.wire import Wire

MANY = 1000
PER_TURN_MAX = 2 * TURN_WORK // TASK_WORK
MESSAGES_PER_TURN_MAX = TURN_WORK // 4
EMPTY = bytes(5)
PATH = b"/test.Test/Method"


async def resume_in_turns(
    wait: Callable[[int], Coroutine[Any, Any, object]], wake: Callable[[], None], *, per_turn_max: int = PER_TURN_MAX
) -> list[int]:
    """Start MANY tasks that wait, wake them. Returns their numbers in the order in which they resumed."""
    order: list[int] = []
    turns = Turns()

    async def waiter(number: int) -> None:
        await wait(number)
        turns.note()
        order.append(number)

    tasks = [asyncio.ensure_future(waiter(number)) for number in range(MANY)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not order
    wake()
    await asyncio.gather(*tasks)
    assert max(turns.events) <= per_turn_max
    return order


def test_futures_that_are_resolved_together_resume_their_tasks_over_several_turns() -> None:
    async def main() -> None:
        intake = Intake(asyncio.get_running_loop())
        futures: list[asyncio.Future[None]] = [intake.loop.create_future() for _ in range(MANY)]

        async def wait(number: int) -> None:
            try:
                await futures[number]
            except ZeroDivisionError:
                assert number % 2

        def wake() -> None:
            for number, future in enumerate(futures):
                if number % 2:
                    intake.reject(future, ZeroDivisionError())
                else:
                    intake.resolve(future, None)

        assert await resume_in_turns(wait, wake) == list(range(MANY))

    run(main())


def test_a_future_that_is_cancelled_while_it_waits_for_its_turn_stays_cancelled() -> None:
    async def main() -> None:
        intake = Intake(asyncio.get_running_loop())
        intake.spend(TURN_WORK)
        futures: list[asyncio.Future[None]] = [intake.loop.create_future() for _ in range(3)]
        intake.resolve(futures[0], None)
        intake.reject(futures[1], ZeroDivisionError())
        intake.resolve(futures[2], None)
        futures[0].cancel()
        futures[1].cancel()
        await futures[2]
        assert all(future.cancelled() for future in futures[:2])

    run(main())


def test_a_step_that_fails_does_not_stop_those_after_it() -> None:
    async def main() -> None:
        intake = Intake(asyncio.get_running_loop())
        intake.spend(TURN_WORK)
        future: asyncio.Future[None] = intake.loop.create_future()
        intake.run(lambda: 1 // 0)
        intake.resolve(future, None)
        await future

    run(main())


class Connected:
    """A connection to a server of one method."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.protocol = server.protocol()
        self.protocol.connection_made(Wire())
        self.protocol.data_received(raw.PREFACE + frame(raw.SETTINGS, 0, 0))

    def call(self, count: int, data: bytes = EMPTY, *more: tuple[bytes, bytes]) -> None:
        block = request_block(PATH) + b"".join(raw.literal(name, value) for name, value in more)
        numbers = range(1, 2 * count, 2)
        self.protocol.data_received(b"".join(frame(raw.HEADERS, 4, n, block) + frame(raw.DATA, 1, n, data) for n in numbers))


def test_calls_that_arrive_together_start_their_tasks_over_several_turns() -> None:
    async def main() -> None:
        turns = Turns()

        async def answer(call: UnaryCall, message: bytes) -> bytes:
            turns.note()
            return b""

        client = Connected(Server({PATH.decode(): unary_async(answer)}))
        client.call(MANY)
        await until(lambda: sum(turns.events) == MANY)
        assert max(turns.events) <= PER_TURN_MAX
        client.server.close()

    run(main())


def gzipped(size: int) -> bytes:
    """A message of zeros, as it is framed."""
    packed = gzip.compress(bytes(size))
    return b"\1" + len(packed).to_bytes(4, "big") + packed


ZIPPED_BYTES = 300_000
ZIPPED_PER_TURN_MAX = (TURN_WORK << BYTES_SHIFT) // ZIPPED_BYTES + 1


def test_compressed_requests_cost_a_turn_what_they_expand_to() -> None:
    async def main() -> None:
        turns = Turns()

        def answer(call: UnaryCall, message: bytes) -> None:
            assert message == bytes(ZIPPED_BYTES)
            turns.note()
            call.reply(b"")

        client = Connected(Server({PATH.decode(): unary(answer)}))
        client.call(MANY, gzipped(ZIPPED_BYTES), (b"grpc-encoding", b"gzip"))
        await until(lambda: sum(turns.events) == MANY)
        assert max(turns.events) <= ZIPPED_PER_TURN_MAX
        assert client.protocol.incomplete_bytes == 0
        client.server.close()

    run(main())


def test_compressed_messages_of_streams_are_expanded_when_their_turn_comes() -> None:
    async def main() -> None:
        turns = Turns()

        async def take(stream: ServerStream) -> None:
            async for message in stream:
                assert message == bytes(ZIPPED_BYTES)
                turns.note()

        client = Connected(Server({PATH.decode(): bidi_stream(take)}))
        client.call(100, gzipped(ZIPPED_BYTES) * 10, (b"grpc-encoding", b"gzip"))
        await until(lambda: sum(turns.events) == 1000)
        assert max(turns.events) <= ZIPPED_PER_TURN_MAX
        client.server.close()

    run(main())


def test_a_compressed_message_that_is_malformed_ends_its_stream_alone() -> None:
    async def main() -> None:
        async def take(stream: ServerStream) -> None:
            async for _ in stream:
                pass

        client = Connected(Server({PATH.decode(): bidi_stream(take)}))
        client.call(1, b"\1\0\0\0\3abc", (b"grpc-encoding", b"gzip"))
        method = client.server.methods[PATH]
        await until(lambda: sum(method.handled) == 1)
        assert method.handled[Code.INTERNAL] == 1
        assert not client.protocol.closing
        client.server.close()

    run(main())


def test_streams_that_arrive_together_start_their_tasks_over_several_turns() -> None:
    async def main() -> None:
        turns = Turns()

        async def serve(stream: ServerStream) -> None:
            turns.note()

        client = Connected(Server({PATH.decode(): bidi_stream(serve)}))
        client.call(MANY)
        await until(lambda: sum(turns.events) == MANY)
        assert max(turns.events) <= PER_TURN_MAX
        client.server.close()

    run(main())


def test_http_requests_that_arrive_together_start_their_tasks_over_several_turns() -> None:
    async def main() -> None:
        turns = Turns()

        async def handler(
            method: bytes, path: bytes, headers: Any, body: bytes
        ) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
            turns.note()
            assert body == EMPTY
            return 204, [], b""

        server = Server({}, http_handler=handler)
        client = Connected(server)
        fields = ((b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/x"), (b":authority", b"t"))
        block = b"".join(raw.literal(name, value) for name, value in fields)
        requests = [frame(raw.HEADERS, 4, n, block) + frame(raw.DATA, 1, n, EMPTY) for n in range(1, 2 * MANY, 2)]
        client.protocol.data_received(b"".join(requests))
        await until(lambda: sum(turns.events) == MANY)
        assert max(turns.events) <= PER_TURN_MAX
        await until(lambda: not client.protocol.calls)
        assert client.protocol.incomplete_bytes == 0
        server.close()

    run(main())


def test_a_body_counts_until_its_request_is_answered() -> None:
    """Its handler may wait for a thread, or for its turn, while more requests arrive."""

    async def main() -> None:
        gate = asyncio.Event()
        body = bytes(2 << 20)
        started = 0

        async def handler(
            method: bytes, path: bytes, headers: Any, body: bytes
        ) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
            nonlocal started
            started += 1
            await gate.wait()
            return 204, [], b""

        server = Server({}, http_handler=handler)
        connection = Connected(server).protocol
        fields = ((b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/x"), (b":authority", b"t"))
        block = b"".join(raw.literal(name, value) for name, value in fields)
        for n in range(1, 2 * 40, 2):
            await until(server.intake.admits)
            connection.data_received(frame(raw.HEADERS, 4, n, block))
            for at in range(0, len(body), 16384):
                await until(server.intake.admits)
                connection.data_received(frame(raw.DATA, at + 16384 == len(body), n, body[at : at + 16384]))
        await until(lambda: started == 32)
        assert connection.incomplete_bytes == started * len(body), "the others are refused"
        gate.set()
        await until(lambda: not connection.calls)
        assert connection.incomplete_bytes == 0
        server.close()

    run(main())


def test_a_call_that_ends_before_its_turn_is_not_started() -> None:
    async def main() -> None:
        started = 0

        async def answer(call: UnaryCall, message: bytes) -> bytes:
            nonlocal started
            started += 1
            return b""

        client = Connected(Server({PATH.decode(): unary_async(answer)}))
        client.call(MANY)
        client.protocol.connection_lost(None)
        await until(lambda: client.server.intake.admits())
        for _ in range(MANY):
            await asyncio.sleep(0)
        assert started <= PER_TURN_MAX
        client.server.close()

    run(main())


def test_callers_within_the_process_resume_over_several_turns_if_they_call_for_remote_clients() -> None:
    async def main() -> None:
        calls: list[UnaryCall] = []

        def hold(call: UnaryCall, message: bytes) -> None:
            calls.append(call)

        channel = InProcessChannel(method_table({PATH.decode(): unary(hold)}), intake=intake_of_running_loop())

        def answer_all() -> None:
            for call in calls:
                call.reply(b"")

        assert await resume_in_turns(lambda number: channel.unary(PATH.decode(), b""), answer_all) == list(range(MANY))

    run(main())


def test_readers_of_streams_whose_messages_come_together_resume_over_several_turns() -> None:
    async def main() -> None:
        held: list[ServerStream] = []

        async def hold(stream: ServerStream) -> None:
            held.append(stream)
            await stream.receive()

        channel = InProcessChannel(method_table({PATH.decode(): bidi_stream(hold)}))
        streams = [channel.stream(PATH.decode()) for _ in range(MANY)]
        await until(lambda: len(held) == MANY)

        def send_to_all() -> None:
            for stream in held:
                stream.send_now(b"x")

        await resume_in_turns(lambda number: streams[number].receive(), send_to_all, per_turn_max=MESSAGES_PER_TURN_MAX)
        for stream in streams:
            stream.cancel()
        await until(lambda: not len(channel.calls))

    run(main())
