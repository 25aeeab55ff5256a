"""A server's counters, durations, deadlines and header cache."""

from __future__ import annotations

import asyncio
import random
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.errors import Code
from tercet.rpc import Channel, Handler, Kind, RpcError, Server, ServerOptions, ServerStream, UnaryCall, server_stream, unary
from tercet.rpc.deadlines import Deadlines
from tests.rpc import raw
from tests.rpc.harness import METHODS, run, serving
from tests.rpc.raw import Asker, grpc_head
from tests.support.properties import examples
from tests.support.waiting import scaled, until
from tests.support.wire import Wire


def test_counters_start_at_zero_and_count_by_method_and_code() -> None:
    async def main() -> None:
        async with serving() as (server, port):
            assert {method.path for method in server.methods.values()} == {path.encode() for path in METHODS}
            assert all(method.started == sum(method.handled) == 0 for method in server.methods.values())
            channel = Channel("127.0.0.1", port)
            await channel.connect()
            for _ in range(3):
                await channel.unary("/test.Test/Echo", b"x")
            with pytest.raises(RpcError):
                await channel.unary("/test.Test/Refuse", b"x")
            chat = channel.stream("/test.Test/Chat")
            for _ in range(2):
                await chat.send(b"x")
                await chat.receive()
            chat.half_close()
            assert await chat.receive() is None
            with pytest.raises(RpcError):
                await channel.unary("/test.Test/Nothing", b"x")
            echo, refuse, talk = (server.methods[b"/test.Test/" + name] for name in (b"Echo", b"Refuse", b"Chat"))
            assert (echo.kind, echo.service, echo.name) == (Kind.UNARY, "test.Test", "Echo")
            assert (echo.started, echo.handled[0], echo.messages_received, echo.messages_sent) == (3, 3, 3, 3)
            assert (refuse.started, refuse.handled[Code.NOT_FOUND], refuse.messages_sent) == (1, 1, 0)
            assert (talk.started, talk.handled[0], talk.messages_received, talk.messages_sent) == (1, 1, 2, 2)
            assert server.traffic.total().bytes_in > 100
            assert server.traffic.total().bytes_out > 100
            await channel.close()

    run(main())


def test_durations_are_measured_if_enabled() -> None:
    async def main() -> None:
        async with serving(options=ServerOptions(measure_durations=True)) as (server, port):
            channel = Channel("127.0.0.1", port)
            await channel.connect()
            await channel.unary("/test.Test/Slow", b"0.03")
            await channel.unary("/test.Test/Echo", b"")
            slow, echo = server.methods[b"/test.Test/Slow"], server.methods[b"/test.Test/Echo"]
            assert slow.duration_counts is not None
            assert echo.duration_counts is not None
            assert sum(slow.duration_counts[3:]) == 1  # over 0.025 s
            assert slow.duration_sum >= 0.029
            assert sum(echo.duration_counts) == 1
            await channel.close()

    run(main())


def test_only_the_first_answer_of_a_call_counts() -> None:
    calls: list[UnaryCall] = []

    def twice(call: UnaryCall, message: bytes) -> None:
        call.reply(b"first")
        call.reply(b"second")
        call.fail(Code.INTERNAL, "third")
        call.fail_with(RuntimeError("fourth"))
        calls.append(call)

    async def main() -> None:
        async with serving({"/test.Test/Twice": unary(twice)}) as (server, port):
            channel = Channel("127.0.0.1", port)
            await channel.connect()
            assert await channel.unary("/test.Test/Twice", b"", timeout=scaled(10)) == b"first"
            assert len(server.deadlines) == 0  # so the deadline cannot end the call a second time
            assert sum(server.methods[b"/test.Test/Twice"].handled) == 1
            await channel.close()

    run(main())


@pytest.mark.parametrize("sizes", [(), (0,), (5, 7), (100_000, 200_000), (1, 3 << 20, 0), (20_000,) * 100])
def test_a_reply_in_parts_is_one_message(sizes: tuple[int, ...]) -> None:
    parts = [bytes((number + 65,)) * size for number, size in enumerate(sizes)]

    def reply(call: UnaryCall, message: bytes) -> None:
        call.reply_parts(list(parts))
        call.reply_parts([b"too late"])

    async def main() -> None:
        async with serving({"/test.Test/Parts": unary(reply)}) as (server, port):
            channel = Channel("127.0.0.1", port)
            await channel.connect()
            assert await channel.unary("/test.Test/Parts", b"", timeout=scaled(20)) == b"".join(parts)
            assert sum(server.methods[b"/test.Test/Parts"].handled) == 1
            await channel.close()

    run(main())


def test_replies_to_ended_calls_have_no_effect() -> None:
    calls: list[UnaryCall] = []

    async def main() -> None:
        async with serving({"/test.Test/Later": unary(lambda call, message: calls.append(call))}) as (server, port):
            channel = Channel("127.0.0.1", port)
            await channel.connect()
            cancelled = channel.start_unary("/test.Test/Later", b"", lambda *_: None)
            await until(lambda: len(calls) == 1)
            cancelled.cancel()
            await until(lambda: calls[0].finished)
            calls[0].reply(b"late")
            channel.start_unary("/test.Test/Later", b"", lambda *_: None)
            await until(lambda: len(calls) == 2)
            await channel.close()
            await until(lambda: not server.connections)
            calls[1].reply(b"later still")
            assert server.methods[b"/test.Test/Later"].handled[Code.CANCELLED] == 2

    run(main())


def test_cached_and_uncached_deadlines_all_expire() -> None:
    """Header blocks with round timeouts are cached, others are not."""

    async def main() -> None:
        async with serving() as (server, port):
            channel = Channel("127.0.0.1", port)
            await channel.connect()
            started = asyncio.get_running_loop().time()

            async def expire(timeout: float) -> None:
                with pytest.raises(RpcError) as error:
                    await channel.unary("/test.Test/Silent", b"", timeout=timeout)
                assert error.value.code is Code.DEADLINE_EXCEEDED
                assert timeout <= asyncio.get_running_loop().time() - started + 0.002 < timeout + scaled(5)

            await asyncio.gather(*(expire(timeout) for timeout in [0.1] * 50 + [0.05 + 0.0012345 * n for n in range(50)]))
            # A process that is paused for long ends its calls before the server has read them, or without having sent them.
            await channel.unary("/test.Test/Echo", b"", timeout=scaled(20))
            silent = server.methods[b"/test.Test/Silent"]
            await until(lambda: sum(silent.handled) == silent.started)
            assert len(server.deadlines) == 0
            assert 0 < len(server.header_cache) < 60
            await channel.close()

    run(main())


def test_calls_of_alternating_header_blocks_reach_their_methods() -> None:
    async def main() -> None:
        server = Server({f"/test.Test/{name}": unary(partial(_answer, name)) for name in ("One", "Two")})
        protocol, wire = server.protocol(), Wire()
        protocol.connection_made(wire)
        protocol.data_received(raw.PREFACE + raw.frame(raw.SETTINGS, 0, 0))
        names = ["One", "One", "Two", "Two", "One", "Two", "One"]
        for number, name in enumerate(names):
            if number == 4:
                server.header_cache.clear()
            wire.written.clear()
            block = raw.request_block(b"/test.Test/" + name.encode())
            stream = 2 * number + 1
            protocol.data_received(raw.frame(raw.HEADERS, 4, stream, block) + raw.frame(raw.DATA, 1, stream, b"\0\0\0\0\0"))
            assert name.encode() in b"".join(wire.written)
        server.close()

    run(main())


def test_held_replies_leave_with_the_release_and_need_no_turn() -> None:
    async def main() -> None:
        calls: list[UnaryCall] = []
        server = Server({"/test.Test/Keep": unary(lambda call, message: calls.append(call))})
        protocol, wire = server.protocol(), Wire()
        protocol.connection_made(wire)
        block = raw.request_block(b"/test.Test/Keep")
        protocol.data_received(raw.PREFACE + raw.frame(raw.SETTINGS, 0, 0))
        for stream in (1, 3):
            protocol.data_received(raw.frame(raw.HEADERS, 4, stream, block) + raw.frame(raw.DATA, 1, stream, b"\0\0\0\0\0"))
        wire.written.clear()
        server.hold()
        calls[0].reply(b"first")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not wire.written
        server.release()
        assert b"first" in wire.written.pop()
        calls[1].reply(b"second")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert b"second" in wire.written.pop()
        server.close()

    run(main())


def _answer(name: str, call: UnaryCall, message: bytes) -> None:
    call.reply(name.encode())


def test_the_server_enforces_deadlines() -> None:
    """A client that does not enforce its own deadline gets DEADLINE_EXCEEDED from the server."""

    async def sleep(stream: ServerStream) -> None:
        await asyncio.sleep(60)

    async def main() -> None:
        async with serving({"/test.Test/Sleep": server_stream(sleep)}) as (server, port):
            asker = await Asker.connect(port)
            answer = await asker.ask(grpc_head(b"/test.Test/Silent", (b"grpc-timeout", b"50m")), bytes(5))
            assert answer.headers[b"grpc-status"] == b"4"
            assert answer.headers[b"grpc-message"] == b"context deadline exceeded"
            answer = await asker.ask(grpc_head(b"/test.Test/Sleep", (b"grpc-timeout", b"50m")), bytes(5))
            assert (answer.headers | answer.trailers)[b"grpc-status"] == b"4"
            assert server.methods[b"/test.Test/Sleep"].handled[Code.DEADLINE_EXCEEDED] == 1
            asker.close()

    run(main())


@pytest.mark.parametrize("path", ["svc/Method", "/svc", "/a/b/c", ""])
def test_invalid_method_paths_are_refused(path: str) -> None:
    async def main() -> None:
        methods: dict[str, Handler] = {path: unary(lambda call, message: None)}
        with pytest.raises(ValueError, match="/service/method"):
            Server(methods)

    run(main())


class _Expiring:
    def __init__(self, log: list[_Expiring]) -> None:
        self._log = log

    def expire(self) -> None:
        self._log.append(self)


@examples(30)
@given(st.lists(st.tuples(st.floats(min_value=0, max_value=0.05), st.booleans()), max_size=40), st.integers())
def test_every_pending_deadline_expires_once_and_not_early(plan: list[tuple[float, bool]], seed: int) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        deadlines, log, start = Deadlines(loop), list[_Expiring](), loop.time()
        calls = [(_Expiring(log), delay, keep) for delay, keep in plan]
        for call, delay, _ in calls:
            deadlines.add(call, start + delay)
        random.Random(seed).shuffle(calls)
        for call, _, keep in calls:
            if not keep:
                deadlines.discard(call)
        kept = {call for call, _, keep in calls if keep}
        while len(deadlines):
            for call, delay, _ in calls:
                assert call not in log or loop.time() - start >= delay - 0.002
            await asyncio.sleep(0.005)
        assert len(log) == len(kept)
        assert set(log) == kept

    run(main())
