"""Our client against grpcio's server: every kind of call, deadlines, cancellation, errors, size limits, lost connections."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest

from tercet.errors import Code, InvariantViolation
from tercet.rpc import Channel, ChannelOptions, RpcError, http2
from tests.rpc import raw
from tests.rpc.harness import run
from tests.support.waiting import scaled, until


class Judge(grpc.GenericRpcHandler):
    """A grpcio server with a method of every kind."""

    def __init__(self) -> None:
        self.seen: dict[str, Any] = {}
        self.cancelled = threading.Event()
        self.hanging = threading.Event()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        name = details.method.rpartition("/")[2].lower()
        self.seen["metadata"] = details.invocation_metadata
        if name in ("echo", "fail", "hang"):
            return grpc.unary_unary_rpc_method_handler(getattr(self, name))
        if name == "join":
            return grpc.stream_unary_rpc_method_handler(self.join)
        if name in ("count", "quiet"):
            return grpc.unary_stream_rpc_method_handler(getattr(self, name))
        if name == "chat":
            return grpc.stream_stream_rpc_method_handler(self.chat)
        return None

    def echo(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        self.seen["timeout"] = context.time_remaining()
        return request

    def fail(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort(grpc.StatusCode.DATA_LOSS, "50% of Zürich\n")
        raise AssertionError

    def hang(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        if not context.add_callback(self.cancelled.set):  # it has ended already
            self.cancelled.set()
        self.hanging.set()
        self.cancelled.wait(scaled(5))
        return b"too late"

    def join(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        return b"+".join(requests)

    def count(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        for number in range(int(request)):
            yield b"%d" % number

    def quiet(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        if not context.add_callback(self.cancelled.set):
            self.cancelled.set()
        yield b"first"
        self.cancelled.wait(scaled(5))

    def chat(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        for request in requests:
            yield request.upper()


def with_judge(test: Callable[[Channel, Judge], Any], options: ChannelOptions | None = None) -> None:
    judge = Judge()
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=8),
        handlers=(judge,),
        options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()

    async def main() -> None:
        channel = Channel("127.0.0.1", port, options=options)
        await channel.connect()
        await test(channel, judge)
        await channel.close()
        assert channel.open_calls == 0

    try:
        run(main())
    finally:
        judge.cancelled.set()
        server.stop(0).wait()


def test_all_four_kinds() -> None:
    async def client(channel: Channel, judge: Judge) -> None:
        assert await channel.unary("/t.T/Echo", b"hello") == b"hello"
        assert await channel.unary("/t.T/Echo", b"") == b""
        join = channel.stream("/t.T/Join")
        for part in (b"a", b"b", b"c"):
            await join.send(part)
        join.half_close()
        assert [message async for message in join] == [b"a+b+c"]
        count = channel.stream("/t.T/Count")
        await count.send(b"500")
        count.half_close()
        assert [message async for message in count] == [b"%d" % number for number in range(500)]
        async with channel.stream("/t.T/Chat") as chat:
            for word in (b"one", b"two"):
                await chat.send(word)
                assert await chat.receive() == word.upper()

    with_judge(client)


def test_messages_of_a_stream_handled_at_once_come_in_order_with_those_received() -> None:
    async def client(channel: Channel, judge: Judge) -> None:
        answers: list[bytes] = []
        async with channel.stream("/t.T/Chat") as chat:

            def answered(message: bytes) -> bool:
                answers.append(message)
                if len(answers) < 200:
                    chat.send_now(b"w%d" % len(answers))
                return True

            def answered_at_once(message: bytes) -> bool:
                return len(answers) < 199 and answered(message)

            chat.handle_at_once(answered_at_once)
            chat.send_now(b"w0")
            received = 0
            while len(answers) < 200:
                message = await chat.receive()
                assert message is not None
                answered(message)
                received += 1
        assert answers == [b"W%d" % number for number in range(200)]
        assert 1 <= received < 200

    with_judge(client)


def test_callbacks_run_after_start_returns() -> None:
    async def client(channel: Channel, judge: Judge) -> None:
        done: list[tuple[int, int, str, bytes]] = []
        for number in range(200):
            channel.start_unary(
                "/t.T/Echo", b"%d" % number, lambda code, text, reply, n=number: done.append((n, code, text, reply))
            )
        assert not done
        await until(lambda: len(done) == 200)
        assert sorted(done) == [(number, 0, "", b"%d" % number) for number in range(200)]

    with_judge(client)


def test_metadata_and_deadline_reach_the_server() -> None:
    async def client(channel: Channel, judge: Judge) -> None:
        await channel.unary("/t.T/Echo", b"", timeout=70, metadata=[("token", "abc"), ("raw-bin", b"\0\xff")])
        seen = {pair.key: pair.value for pair in judge.seen["metadata"]}
        assert (seen["token"], seen["raw-bin"]) == ("abc", b"\0\xff")
        assert 10 < judge.seen["timeout"] <= 70
        with pytest.raises(ValueError, match="printable ASCII"):
            await channel.unary("/t.T/Echo", b"", metadata=[("token", "a\nb")])

    with_judge(client)


@pytest.mark.parametrize("path", ["/t.T/Fail", "/t.T/Missing"])
def test_errors(path: str) -> None:
    async def client(channel: Channel, judge: Judge) -> None:
        with pytest.raises(RpcError) as error:
            await channel.unary(path, b"")
        expected = (Code.DATA_LOSS, "50% of Zürich\n") if path == "/t.T/Fail" else (Code.UNIMPLEMENTED, "Method not found!")
        assert (error.value.code, error.value.message) == expected
        stream = channel.stream(path)
        await stream.send(b"")
        stream.half_close()
        with pytest.raises(RpcError) as error:
            await stream.receive()
        assert (error.value.code, error.value.message) == expected
        assert await channel.unary("/t.T/Echo", b"alive") == b"alive"

    with_judge(client)


def test_deadlines_are_enforced_by_the_client() -> None:
    async def client(channel: Channel, judge: Judge) -> None:
        started = asyncio.get_running_loop().time()
        with pytest.raises(RpcError) as error:
            await channel.unary("/t.T/Hang", b"", timeout=1.0)
        assert error.value.code == Code.DEADLINE_EXCEEDED  # whose text depends on whether the server's status comes first
        assert 0.99 < asyncio.get_running_loop().time() - started < scaled(5)
        assert await asyncio.to_thread(judge.cancelled.wait, scaled(5))

    with_judge(client)


def test_cancellation_reaches_the_server() -> None:
    async def client(channel: Channel, judge: Judge) -> None:
        stream = channel.stream("/t.T/Quiet")
        await stream.send(b"")
        assert await stream.receive() == b"first"
        stream.cancel()
        with pytest.raises(RpcError) as error:
            await stream.receive()
        assert error.value.code is Code.CANCELLED
        assert await asyncio.to_thread(judge.cancelled.wait, scaled(5))
        judge.cancelled.clear()
        task = asyncio.create_task(channel.unary("/t.T/Hang", b""))
        assert await asyncio.to_thread(judge.hanging.wait, scaled(5))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(judge.cancelled.wait, scaled(5))

    with_judge(client)


def test_large_messages_both_ways() -> None:
    whole = bytes(range(256)) * (20 * 4096)

    async def client(channel: Channel, judge: Judge) -> None:
        assert await channel.unary("/t.T/Echo", whole) == whole
        chat = channel.stream("/t.T/Chat")

        async def talk() -> None:
            for _ in range(5):
                await chat.send(whole[: 4 << 20])
            chat.half_close()

        talking = asyncio.create_task(talk())
        assert [message async for message in chat] == [whole[: 4 << 20].upper()] * 5
        await talking

    with_judge(client)


def test_responses_over_the_limit_fail() -> None:
    async def client(channel: Channel, judge: Judge) -> None:
        assert await channel.unary("/t.T/Echo", bytes(100_000)) == bytes(100_000)
        for size in (100_001, 5_000_000):
            with pytest.raises(RpcError) as error:
                await channel.unary("/t.T/Echo", bytes(size))
            assert error.value.code is Code.RESOURCE_EXHAUSTED
            assert "grpc: received message larger than max" in error.value.message
        chat = channel.stream("/t.T/Chat")
        await chat.send(bytes(200_000))
        with pytest.raises(RpcError) as error:
            await chat.receive()
        assert error.value.message == "grpc: received message larger than max (200000 vs. 100000)"

    with_judge(client, ChannelOptions(max_message_bytes=100_000))


def test_a_channel_can_be_reconnected() -> None:
    async def client(channel: Channel, judge: Judge) -> None:
        await channel.close()
        assert not channel.is_usable
        await channel.connect()
        assert await channel.unary("/t.T/Echo", b"again", timeout=scaled(10)) == b"again"
        with pytest.raises(InvariantViolation, match="connected twice"):
            await channel.connect()

    with_judge(client)


def test_a_lost_connection_ends_all_calls_and_calls_on_lost() -> None:
    async def main() -> None:
        lost: list[str] = []
        peers: list[asyncio.BaseTransport] = []

        class Vanishing(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                peers.append(transport)
                transport.write(bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))  # type: ignore[attr-defined]

        listener = await asyncio.get_running_loop().create_server(Vanishing, "127.0.0.1", 0)
        channel = Channel("127.0.0.1", listener.sockets[0].getsockname()[1], on_lost=lost.append)
        await channel.connect()
        assert channel.is_usable
        unary = asyncio.create_task(channel.unary("/t.T/Echo", b""))
        stream = channel.stream("/t.T/Chat")
        await asyncio.sleep(0.02)
        peers[0].abort()  # type: ignore[attr-defined]
        for waiting in (unary, asyncio.create_task(stream.receive())):
            with pytest.raises(RpcError) as error:
                await waiting
            assert error.value.code is Code.UNAVAILABLE
            assert error.value.message.startswith("error reading from server")
            assert not error.value.unprocessed
        assert len(lost) == 1
        assert not channel.is_usable
        with pytest.raises(RpcError) as error:
            await channel.unary("/t.T/Echo", b"")
        assert (error.value.code, error.value.unprocessed) == (Code.UNAVAILABLE, True)
        listener.close()

    run(main())


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", None])
def test_connecting_to_something_that_is_no_grpc_server_is_unavailable(answer: bytes | None) -> None:
    """A closed port, a silent server, another protocol: UNAVAILABLE within the connect timeout."""

    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(answer or b"")
            await reader.read()
            writer.close()

        listener = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        if answer is None:
            listener.close()
            await listener.wait_closed()
        channel = Channel("127.0.0.1", port, options=ChannelOptions(connect_timeout_seconds=0.2))
        with pytest.raises(RpcError, match="connection error") as error:
            await channel.connect()
        assert (error.value.code, error.value.unprocessed) == (Code.UNAVAILABLE, True)
        with pytest.raises(RpcError, match="not connected"):
            channel.start_unary("/t.T/Echo", b"", lambda *_: None)
        listener.close()

    run(main())


def test_a_connection_closed_during_the_tls_handshake_has_a_reason() -> None:
    """As a port without TLS closes it, on which asyncio raises an error without a text."""

    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            writer.transport.abort()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as listener:
            channel = Channel("127.0.0.1", listener.sockets[0].getsockname()[1], ssl=ssl.create_default_context())
            with pytest.raises(RpcError, match=r"^connection error: \S"):
                await channel.connect()

    run(main())


def test_a_reset_that_is_read_after_the_deadline_is_the_deadline() -> None:
    """A server with the same clock resets the stream before the client's timer runs."""

    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            server = raw.RawPeer(reader, writer)
            await reader.readexactly(len(raw.PREFACE))
            server.send(raw.frame(raw.SETTINGS, 0, 0))
            while (seen := await server.next_frame())[0] >= 0:
                if seen[0] == raw.HEADERS:
                    server.send(raw.frame(raw.RST_STREAM, 0, seen[2], http2.CANCEL.to_bytes(4, "big")))
            writer.close()

        listener = await asyncio.start_server(serve, "127.0.0.1", 0)
        channel = Channel("127.0.0.1", listener.sockets[0].getsockname()[1])
        await channel.connect()
        for is_past, code in ((True, Code.DEADLINE_EXCEEDED), (False, Code.CANCELLED)):
            call = channel.stream("/t.T/Chat", timeout=600)
            if is_past:
                call.deadline = asyncio.get_running_loop().time()  # the timer stays armed for 600 s
            with pytest.raises(RpcError) as error:
                await call.receive()
            assert error.value.code is code
        await channel.close()
        listener.close()

    run(main())


def test_a_status_with_too_many_digits_is_unknown() -> None:
    """Python refuses to convert more than 4,300 of them."""

    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            server = raw.RawPeer(reader, writer)
            await reader.readexactly(len(raw.PREFACE))
            server.send(raw.frame(raw.SETTINGS, 0, 0))
            while (seen := await server.next_frame())[0] >= 0:
                if seen[0] == raw.HEADERS:
                    head = raw.literal(b":status", b"200") + raw.literal(b"content-type", b"application/grpc")
                    # HPACK's integer of seven bits and more: 127 + 9 + 38 * 128 = 5000.
                    status = b"\0" + bytes((len(b"grpc-status"),)) + b"grpc-status" + b"\x7f\x89\x26" + b"1" * 5000
                    server.send(raw.frame(raw.HEADERS, 5, seen[2], head + status))
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as listener:
            channel = Channel("127.0.0.1", listener.sockets[0].getsockname()[1])
            await channel.connect()
            with pytest.raises(RpcError) as error:
                await channel.unary("/t.T/Echo", b"", timeout=scaled(30))
            assert error.value.code is Code.UNKNOWN
            assert channel.is_usable
            await channel.close()

    run(main())


def test_empty_trailers_end_one_call_and_not_the_connection() -> None:
    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            server = raw.RawPeer(reader, writer)
            await reader.readexactly(len(raw.PREFACE))
            server.send(raw.frame(raw.SETTINGS, 0, 0))
            while (seen := await server.next_frame())[0] >= 0:
                if seen[0] == raw.HEADERS:
                    server.send(raw.frame(raw.HEADERS, 4, seen[2], raw.literal(b":status", b"200")))
                    server.send(raw.frame(raw.HEADERS, 5, seen[2]))
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as listener:
            channel = Channel("127.0.0.1", listener.sockets[0].getsockname()[1])
            await channel.connect()
            with pytest.raises(RpcError, match="without sending trailers"):
                await channel.unary("/t.T/Echo", b"", timeout=scaled(30))
            assert channel.is_usable
            await channel.close()

    run(main())
