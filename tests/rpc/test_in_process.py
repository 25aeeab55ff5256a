"""Calls within one process: the same handlers, statuses, deadlines and counters as over HTTP/2."""

from __future__ import annotations

import asyncio

import pytest

from tercet.errors import Code
from tercet.rpc import Handler, InProcessChannel, Peer, RpcError, ServerStream, UnaryCall, method_table, server_stream, unary
from tests.rpc.harness import METHODS, run, until


def channel(methods: dict[str, Handler] | None = None, *, timed: bool = False, peer: Peer | None = None) -> InProcessChannel:
    table = method_table(METHODS | (methods or {}), timed=timed)
    return InProcessChannel(table, peer=peer) if peer else InProcessChannel(table)


def test_a_unary_call_returns_the_reply_and_is_counted() -> None:
    async def test() -> None:
        table = method_table(METHODS, timed=True)
        calls = InProcessChannel(table)
        assert await calls.unary("/test.Test/Echo", b"hello") == b"hello"
        assert await calls.unary("/test.Test/Slow", b"0.001") == b"done"
        echo, slow = table[b"/test.Test/Echo"], table[b"/test.Test/Slow"]
        assert (echo.started, echo.handled[Code.OK], echo.messages_received, echo.messages_sent) == (1, 1, 1, 1)
        assert slow.duration_counts is not None
        assert sum(slow.duration_counts) == 1

    run(test())


@pytest.mark.parametrize(
    ("method", "code", "text"),
    [
        ("Refuse", Code.NOT_FOUND, "100% of Zürich\n"),
        ("Crash", Code.INTERNAL, "internal error"),
        ("Reject", Code.OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted"),
        ("Missing", Code.UNIMPLEMENTED, "unknown method Missing for service test.Test"),
    ],
)
def test_a_failure_raises_the_status_that_a_remote_client_would_get(method: str, code: Code, text: str) -> None:
    async def test() -> None:
        with pytest.raises(RpcError) as caught:
            await channel().unary(f"/test.Test/{method}", b"")
        assert (caught.value.code, caught.value.message) == (code, text)

    run(test())


def test_handlers_see_metadata_and_peer() -> None:
    async def test() -> None:
        peers: list[Peer] = []

        def whoami(call: UnaryCall, message: bytes) -> None:
            peers.append(call.peer)
            call.reply(b"")

        calls = channel({"/test.Test/WhoAmI": unary(whoami)}, peer=Peer("gateway", "root"))
        await calls.unary("/test.Test/WhoAmI", b"")
        assert peers == [Peer("gateway", "root")]
        assert await calls.unary("/test.Test/Metadata", b"", metadata=[("Token", "x"), ("a-bin", b"\0\1")]) == (
            b"[('a-bin', b'\\x00\\x01'), ('token', b'x')]"
        )
        with pytest.raises(ValueError, match="printable"):
            await calls.unary("/test.Test/Echo", b"", metadata=[("token", "a\nb")])

    run(test())


def test_a_deadline_ends_unary_calls_and_streams() -> None:
    async def test() -> None:
        table = method_table(METHODS)
        calls = InProcessChannel(table)
        with pytest.raises(RpcError, match="context deadline exceeded"):
            await calls.unary("/test.Test/Slow", b"30", timeout=0.01)
        async with calls.stream("/test.Test/Hold", timeout=0.01) as stream:
            with pytest.raises(RpcError, match="context deadline exceeded"):
                await stream.receive()
        assert table[b"/test.Test/Slow"].handled[Code.DEADLINE_EXCEEDED] == 1
        assert table[b"/test.Test/Hold"].handled[Code.DEADLINE_EXCEEDED] == 1

    run(test())


def test_cancelling_the_caller_cancels_the_handler() -> None:
    async def test() -> None:
        cancelled: list[str] = []

        def never(call: UnaryCall, message: bytes) -> None:
            call.on_cancel = lambda: cancelled.append("unary")

        calls = channel({"/test.Test/Never": unary(never)})
        task = asyncio.ensure_future(calls.unary("/test.Test/Never", b""))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert cancelled == ["unary"]

    run(test())


def test_a_stream_runs_in_both_directions() -> None:
    async def test() -> None:
        table = method_table(METHODS)
        calls = InProcessChannel(table)
        async with calls.stream("/test.Test/Chat") as chat:
            for word in (b"a", b"b"):
                await chat.send(word)
                assert await chat.receive() == word.upper()
            chat.half_close()
            assert await chat.receive() is None
        async with calls.stream("/test.Test/Count") as count:
            await count.send(b"3")
            count.half_close()
            assert [message async for message in count] == [b"0", b"1", b"2"]
        method = table[b"/test.Test/Chat"]
        assert (method.handled[Code.OK], method.messages_received, method.messages_sent) == (1, 2, 2)

    run(test())


def test_a_stream_fails_with_its_handlers_status() -> None:
    async def test() -> None:
        async with channel().stream("/test.Test/Chat") as chat:
            await chat.send(b"fail")
            with pytest.raises(RpcError, match="as asked"):
                await chat.receive()
            with pytest.raises(RpcError, match="as asked"):
                await chat.send(b"more")
        async with channel().stream("/test.Test/Count") as count:
            count.half_close()
            with pytest.raises(RpcError, match="cardinality violation"):
                await count.receive()

    run(test())


def test_leaving_a_stream_cancels_its_handler() -> None:
    async def test() -> None:
        table = method_table(METHODS)
        async with InProcessChannel(table).stream("/test.Test/Hold") as stream:
            await stream.headers_received()
        await until(lambda: table[b"/test.Test/Hold"].handled[Code.CANCELLED] == 1)
        with pytest.raises(RpcError, match="context canceled"):
            await stream.receive()

    run(test())


def test_senders_wait_for_their_reader() -> None:
    async def test() -> None:
        sent = 0

        async def flood(stream: ServerStream) -> None:
            nonlocal sent
            await stream.receive_one()
            for _ in range(100):
                await stream.send(bytes(64 << 10))
                sent += 1

        calls = channel({"/test.Test/Flood": server_stream(flood)})
        async with calls.stream("/test.Test/Flood") as stream:
            await stream.send(b"")
            for _ in range(20):
                await asyncio.sleep(0)
            assert 0 < sent < 10
            stream.half_close()
            assert len([message async for message in stream]) == 100

        async with calls.stream("/test.Test/Hold") as hold:
            assert all(hold.send_now(bytes(1 << 10)) for _ in range(100))
            assert not hold.send_now(bytes(1 << 20))
            await hold.drained()

    run(test())


def test_a_method_is_called_by_its_kind() -> None:
    async def test() -> None:
        with pytest.raises(ValueError, match=r"call it by stream\(\)"):
            await channel().unary("/test.Test/Chat", b"")
        with pytest.raises(ValueError, match=r"call it by unary\(\)"):
            channel().stream("/test.Test/Echo")

    run(test())
