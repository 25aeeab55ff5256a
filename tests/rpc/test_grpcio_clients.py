"""Our server against grpcio's clients, synchronous and asyncio: an independent implementation."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import grpc.aio
import pytest

from tercet.errors import Code
from tercet.rpc import Handler, ServerOptions, ServerStream, UnaryCall, server_stream, unary
from tests.rpc.harness import run, serving
from tests.support.waiting import scaled, until

UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def with_client(test: Callable[[grpc.Channel], None], **kwargs: Any) -> None:
    """Run a synchronous client in a thread."""

    async def main() -> None:
        async with serving(**kwargs) as (_, port):

            def client() -> None:
                with grpc.insecure_channel(f"127.0.0.1:{port}", options=UNLIMITED) as channel:
                    test(channel)

            await asyncio.to_thread(client)

    run(main())


def with_aio_client(test: Callable[[grpc.aio.Channel], Any], **kwargs: Any) -> None:
    async def main() -> None:
        async with (
            serving(**kwargs) as (_, port),
            grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=UNLIMITED) as channel,
        ):
            await test(channel)

    # grpcio's event handling is made for asyncio's own loop.
    asyncio.run(asyncio.wait_for(main(), scaled(20)))


def status(error: pytest.ExceptionInfo[grpc.RpcError]) -> tuple[grpc.StatusCode, str]:
    return error.value.code(), error.value.details()


def test_all_four_kinds() -> None:
    def client(channel: grpc.Channel) -> None:
        assert channel.unary_unary("/test.Test/Echo")(b"hello") == b"hello"
        assert channel.unary_unary("/test.Test/Echo")(b"") == b""
        assert channel.stream_unary("/test.Test/Join")(iter([b"a", b"b", b"c"])) == b"a+b+c"
        assert channel.stream_unary("/test.Test/Join")(iter([])) == b""
        assert list(channel.unary_stream("/test.Test/Count")(b"1000")) == [b"%d" % number for number in range(1000)]
        assert list(channel.stream_stream("/test.Test/Chat")(iter([b"x", b"yz"]))) == [b"X", b"YZ"]

    with_client(client)


def test_all_four_kinds_from_asyncio() -> None:
    async def client(channel: grpc.aio.Channel) -> None:
        assert await channel.unary_unary("/test.Test/Echo")(b"hello") == b"hello"

        async def parts() -> AsyncIterator[bytes]:
            for part in (b"a", b"b"):
                await asyncio.sleep(0.01)
                yield part

        assert await channel.stream_unary("/test.Test/Join")(parts()) == b"a+b"
        assert [m async for m in channel.unary_stream("/test.Test/Count")(b"3")] == [b"0", b"1", b"2"]
        chat = channel.stream_stream("/test.Test/Chat")()
        for word in (b"one", b"two"):
            await chat.write(word)
            assert await chat.read() == word.upper()
        await chat.done_writing()
        assert await chat.read() is grpc.aio.EOF
        assert await chat.code() is grpc.StatusCode.OK

    with_aio_client(client)


def test_many_calls_at_once() -> None:
    async def client(channel: grpc.aio.Channel) -> None:
        call = channel.unary_unary("/test.Test/Echo")
        messages = [b"%d" % number * (number % 50) for number in range(500)]
        assert list(await asyncio.gather(*(call(message) for message in messages))) == messages

    with_aio_client(client)


@pytest.mark.parametrize(
    ("method", "code", "text"),
    [
        ("/test.Test/Refuse", grpc.StatusCode.NOT_FOUND, "100% of Zürich\n"),
        ("/test.Test/Crash", grpc.StatusCode.INTERNAL, "internal error"),
        ("/test.Test/Reject", grpc.StatusCode.OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted"),
        ("/test.Test/Nothing", grpc.StatusCode.UNIMPLEMENTED, "unknown method Nothing for service test.Test"),
        ("/test.Nobody/Echo", grpc.StatusCode.UNIMPLEMENTED, "unknown service test.Nobody"),
    ],
)
def test_errors(method: str, code: grpc.StatusCode, text: str) -> None:
    def client(channel: grpc.Channel) -> None:
        for _ in range(2):  # the connection outlives the error
            with pytest.raises(grpc.RpcError) as error:
                channel.unary_unary(method)(b"x")
            assert status(error) == (code, text)
        assert channel.unary_unary("/test.Test/Echo")(b"alive") == b"alive"

    with_client(client)


def test_an_exception_in_a_handler_is_logged_and_not_sent_to_the_client(caplog: pytest.LogCaptureFixture) -> None:
    def client(channel: grpc.Channel) -> None:
        with pytest.raises(grpc.RpcError):
            channel.unary_unary("/test.Test/Crash")(b"")

    with_client(client)
    assert "/test.Test/Crash failed" in caplog.text
    assert "ZeroDivisionError: secret" in caplog.text


def test_error_in_the_middle_of_a_stream() -> None:
    def client(channel: grpc.Channel) -> None:
        answers = channel.stream_stream("/test.Test/Chat")(iter([b"a", b"fail", b"b"]))
        assert next(answers) == b"A"
        with pytest.raises(grpc.RpcError) as error:
            next(answers)
        assert status(error) == (grpc.StatusCode.ABORTED, "as asked")

    with_client(client)


def test_metadata_text_and_binary() -> None:
    def client(channel: grpc.Channel) -> None:
        sent = (("token", "abc.1"), ("twice", "1"), ("twice", "2"), ("raw-bin", bytes(range(256))))
        reply = channel.unary_unary("/test.Test/Metadata")(b"", metadata=sent)
        pairs = [pair for pair in eval(reply) if pair[0] in dict(sent)]
        assert pairs == [("raw-bin", bytes(range(256))), ("token", b"abc.1"), ("twice", b"1"), ("twice", b"2")]

    with_client(client)


def test_deadline_ends_the_call_on_both_sides() -> None:
    cancelled: list[float | None] = []

    def silent(call: UnaryCall, message: bytes) -> None:
        call.on_cancel = lambda: cancelled.append(call.deadline)

    async def main() -> None:
        async with serving({"/test.Test/Silent": unary(silent)}) as (server, port):

            def client() -> None:
                with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                    with pytest.raises(grpc.RpcError) as error:
                        channel.unary_unary("/test.Test/Silent")(b"", timeout=2.0)
                    assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED

            await asyncio.to_thread(client)
            await until(lambda: len(cancelled) == 1)
            assert server.methods[b"/test.Test/Silent"].handled[Code.OK] == 0
            assert sum(server.methods[b"/test.Test/Silent"].handled) == 1

    run(main())
    assert cancelled[0] is not None


def test_cancellation_reaches_unary_and_stream_handlers() -> None:
    ended: list[str] = []

    def silent(call: UnaryCall, message: bytes) -> None:
        call.on_cancel = lambda: ended.append("unary")

    async def forever(stream: ServerStream) -> None:
        await stream.receive_one()
        await stream.send(b"started")
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("stream")

    async def main() -> None:
        methods = {"/test.Test/Silent": unary(silent), "/test.Test/Forever": server_stream(forever)}
        async with serving(methods) as (server, port), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stream = channel.unary_stream("/test.Test/Forever")(b"")
            assert await stream.read() == b"started"
            stream.cancel()
            call = channel.unary_unary("/test.Test/Silent")(b"")
            await until(lambda: server.methods[b"/test.Test/Silent"].started == 1)
            call.cancel()
            await until(lambda: sorted(ended) == ["stream", "unary"])
            assert server.methods[b"/test.Test/Silent"].handled[Code.CANCELLED] == 1
            assert server.methods[b"/test.Test/Forever"].handled[Code.CANCELLED] == 1
            await until(lambda: not server.open_calls())

    asyncio.run(asyncio.wait_for(main(), scaled(20)))


def test_large_messages_both_ways() -> None:
    """20 MB each way, in one message and in many: both sides' windows fill up many times."""
    whole = bytes(range(256)) * (20 * 4096)

    async def download(stream: ServerStream) -> None:
        await stream.receive_one()
        for start in range(0, len(whole), 100_000):
            await stream.send(whole[start : start + 100_000])

    def client(channel: grpc.Channel) -> None:
        assert channel.unary_unary("/test.Test/Echo")(whole) == whole
        assert b"".join(channel.unary_stream("/test.Test/Download")(b"")) == whole
        parts = [whole[start : start + 1_000_000] for start in range(0, len(whole), 1_000_000)]
        assert channel.stream_unary("/test.Test/Join")(iter(parts)) == b"+".join(parts)

    extra: dict[str, Handler] = {"/test.Test/Download": server_stream(download)}
    with_client(client, methods=extra, options=ServerOptions(max_message_bytes=32 << 20))


def test_message_size_limit() -> None:
    limit = 1572864 + 524288

    def client(channel: grpc.Channel) -> None:
        largest = bytes(limit)
        assert channel.unary_unary("/test.Test/Echo")(largest) == largest
        for call in (
            lambda message: channel.unary_unary("/test.Test/Echo")(message),
            lambda message: channel.stream_unary("/test.Test/Join")(iter([message])),
        ):
            with pytest.raises(grpc.RpcError) as error:
                call(bytes(limit + 1))
            text = f"grpc: received message larger than max ({limit + 1} vs. {limit})"
            assert status(error) == (grpc.StatusCode.RESOURCE_EXHAUSTED, text)
        assert channel.unary_unary("/test.Test/Echo")(b"alive") == b"alive"

    with_client(client)


def test_gzip_requests() -> None:
    message = b"etcd" * 10_000

    def client(channel: grpc.Channel) -> None:
        echo = channel.unary_unary("/test.Test/Echo")
        assert echo(message, compression=grpc.Compression.Gzip) == message
        join = channel.stream_unary("/test.Test/Join")
        assert join(iter([message, b"", b"x"]), compression=grpc.Compression.Gzip) == message + b"++x"
        with pytest.raises(grpc.RpcError) as error:
            echo(message, compression=grpc.Compression.Deflate)
        assert status(error) == (
            grpc.StatusCode.UNIMPLEMENTED,
            'grpc: Decompressor is not installed for grpc-encoding "deflate"',
        )

    with_client(client)


def test_a_gzip_bomb_is_not_decompressed() -> None:
    def client(channel: grpc.Channel) -> None:
        bomb = bytes(64 << 20)
        assert len(gzip.compress(bomb)) < 2 << 20
        with pytest.raises(grpc.RpcError) as error:
            channel.unary_unary("/test.Test/Echo")(bomb, compression=grpc.Compression.Gzip)
        text = "grpc: message after decompression larger than max 2097152"
        assert status(error) == (grpc.StatusCode.RESOURCE_EXHAUSTED, text)

    with_client(client)


def test_a_handler_may_end_before_the_client_half_closes() -> None:
    """The client, still sending, gets the response and a RST_STREAM with NO_ERROR."""

    async def first_only(stream: ServerStream) -> None:
        await stream.send(await stream.receive_one())

    def client(channel: grpc.Channel) -> None:
        def endless() -> Iterator[bytes]:
            while True:
                yield bytes(10_000)

        call = channel.stream_stream("/test.Test/First")(endless())
        assert list(call) == [bytes(10_000)]
        assert call.code() is grpc.StatusCode.OK

    with_client(client, methods={"/test.Test/First": server_stream(first_only)})


def test_coroutine_handlers_of_unary_methods() -> None:
    def client(channel: grpc.Channel) -> None:
        slow = channel.unary_unary("/test.Test/Slow")
        assert slow(b"0.01") == b"done"
        with pytest.raises(grpc.RpcError) as error:
            slow(b"not a number")
        assert status(error) == (grpc.StatusCode.INTERNAL, "internal error")
        with pytest.raises(grpc.RpcError) as error:
            slow(b"30", timeout=0.1)
        assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED

    with_client(client)
