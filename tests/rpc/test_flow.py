"""Flow control: senders wait for slow readers, memory is bounded, other clients are not slowed down."""

from __future__ import annotations

import asyncio

import pytest

from tercet.errors import Code
from tercet.rpc import Channel, RpcError, ServerStream, StreamOver, UnaryCall, bidi_stream, server_stream, unary
from tercet.rpc.flow import Inbox
from tercet.rpc.http2 import HTTP2Error, Session
from tests.rpc import raw
from tests.rpc.harness import run, serving
from tests.rpc.raw import RawPeer, frame, request_block
from tests.support.waiting import scaled, settled, until

MEGABYTE = bytes(1 << 20)


def one_message(stream_id: int, path: bytes, body: bytes = b"") -> bytes:
    """A complete unary or server-streaming request."""
    data = b"\0" + len(body).to_bytes(4, "big") + body
    return frame(raw.HEADERS, 4, stream_id, request_block(path)) + frame(raw.DATA, 1, stream_id, data)


@pytest.mark.parametrize("reads_tcp", [True, False])
def test_senders_wait_while_their_streams_are_not_read(reads_tcp: bool) -> None:
    """20 streams of 1 MB messages, as in etcd issue 15402; the client grants no window (reads_tcp), or does not read at all."""
    sent = [0]

    async def flood(stream: ServerStream) -> None:
        while True:
            await stream.send(MEGABYTE)
            sent[0] += 1

    async def main() -> None:
        async with serving({"/test.Test/Flood": server_stream(flood)}) as (server, port):
            window = b"" if reads_tcp else frame(raw.WINDOW_UPDATE, 0, 0, b"\x7f\0\0\0")
            initial = b"\0\x04\x7f\0\0\0" if not reads_tcp else b""
            slow = await RawPeer.connect(port, raw.PREFACE + frame(raw.SETTINGS, 0, 0, initial) + window)
            if not reads_tcp:
                slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
            for number in range(20):
                slow.send(one_message(1 + 2 * number, b"/test.Test/Flood"))
            await until(lambda: server.methods[b"/test.Test/Flood"].started == 20)
            after = await settled(lambda: sent[0])
            (connection,) = server.connections
            assert connection.session.queued_body_size() < 30 << 20
            assert connection.transport.get_write_buffer_size() < 2 << 20
            good = Channel("127.0.0.1", port)
            await good.connect()
            for _ in range(100):
                assert await good.unary("/test.Test/Echo", b"x") == b"x"
            assert sent[0] == after, "the senders went on although nobody read"
            await good.close()
            slow.writer.transport.abort()
            await until(lambda: server.methods[b"/test.Test/Flood"].handled[Code.CANCELLED] == 20)

    run(main())


def test_unread_unary_replies_use_bounded_memory() -> None:
    """Further requests are deferred, then the connection is not read."""

    def large(call: UnaryCall, message: bytes) -> None:
        call.reply(MEGABYTE)

    async def main() -> None:
        async with serving({"/test.Test/Large": unary(large)}) as (server, port):
            method = server.methods[b"/test.Test/Large"]
            slow = await RawPeer.connect(port)
            for number in range(300):
                slow.send(one_message(1 + 2 * number, b"/test.Test/Large"))
            await until(lambda: method.started == 300)
            (connection,) = server.connections
            assert connection.session.queued_body_size() < 12 << 20
            assert method.handled[0] < 20
            # The client reads again, and receives every reply.
            got = 0
            slow.send(frame(raw.WINDOW_UPDATE, 0, 0, b"\x7f\0\0\0"))
            slow.send(frame(raw.SETTINGS, 0, 0, b"\0\x04\x7f\xff\xff\xff"))
            while got < 300 << 20:
                kind, _, _, payload = await slow.next_frame()
                assert kind != -1
                got += len(payload) if kind == raw.DATA else 0
            assert method.handled[0] == 300
            slow.close()

    run(main())


def test_a_client_stream_waits_for_its_handler() -> None:
    """`send` waits; once the handler receives, all messages arrive in order."""
    go = asyncio.Event()
    taken: list[bytes] = []

    async def late(stream: ServerStream) -> None:
        await go.wait()
        async for message in stream:
            taken.append(message)

    async def main() -> None:
        async with serving({"/test.Test/Late": bidi_stream(late)}) as (_, port):
            channel = Channel("127.0.0.1", port)
            await channel.connect()
            stream = channel.stream("/test.Test/Late")
            sent = 0

            async def sender() -> None:
                nonlocal sent
                for number in range(200):
                    await stream.send(number.to_bytes(4, "big") * 25_000)
                    sent += 1
                stream.half_close()

            task = asyncio.create_task(sender())
            assert await settled(lambda: sent) * 100_000 < 3 << 20
            assert await channel.unary("/test.Test/Echo", MEGABYTE) == MEGABYTE
            go.set()
            await task
            assert await stream.receive() is None
            assert taken == [number.to_bytes(4, "big") * 25_000 for number in range(200)]
            await channel.close()

    run(main())


def test_a_flood_of_empty_messages_is_throttled() -> None:
    async def never(stream: ServerStream) -> None:
        await asyncio.sleep(60)

    async def main() -> None:
        async with serving({"/test.Test/Never": bidi_stream(never)}) as (server, port):
            channel = Channel("127.0.0.1", port)
            await channel.connect()
            stream = channel.stream("/test.Test/Never")

            async def flood() -> None:
                while True:
                    for _ in range(1000):
                        stream.send_now(b"")
                    await stream.drained()
                    await asyncio.sleep(0)

            task = asyncio.create_task(flood())
            method = server.methods[b"/test.Test/Never"]
            window_full = (1 << 20) // 5
            await until(lambda: method.received >= window_full)
            assert await settled(lambda: method.received) == window_full
            task.cancel()
            await channel.close()

    run(main())


def test_a_client_that_does_not_receive_closes_its_window() -> None:
    async def flood(stream: ServerStream) -> None:
        for number in range(300):
            await stream.send(b"%06d" % number * 10_000)

    async def main() -> None:
        async with serving({"/test.Test/Flood": server_stream(flood)}) as (server, port):
            channel = Channel("127.0.0.1", port)
            await channel.connect()
            stream = channel.stream("/test.Test/Flood")
            await stream.send(b"")
            stream.half_close()
            assert await settled(lambda: server.methods[b"/test.Test/Flood"].sent) < 60
            assert channel.traffic.bytes_in < 3 << 20
            assert [message[:6] async for message in stream] == [b"%06d" % number for number in range(300)]
            await channel.close()

    run(main())


def test_a_sender_outside_the_handler_gets_stream_over() -> None:
    streams: list[ServerStream] = []

    async def keep(stream: ServerStream) -> None:
        streams.append(stream)
        await asyncio.sleep(60)

    async def main() -> None:
        async with serving({"/test.Test/Keep": bidi_stream(keep)}) as (_, port):
            channel = Channel("127.0.0.1", port)
            await channel.connect()
            call = channel.stream("/test.Test/Keep")
            await until(lambda: bool(streams))
            (stream,) = streams
            assert stream.send_now(b"small")
            for _ in range(4):
                stream.send_now(MEGABYTE)
            waiting = [asyncio.create_task(stream.drained()) for _ in range(3)]
            await settled(lambda: [task.done() for task in waiting])
            waiting[0].cancel()
            await until(waiting[0].done)
            assert await settled(lambda: [task.done() for task in waiting[1:]]) == [False, False]
            call.cancel()
            for task in waiting[1:]:
                with pytest.raises(StreamOver):
                    await asyncio.wait_for(task, scaled(2))
            assert not stream.send_now(b"late")
            with pytest.raises(StreamOver):
                await stream.send(b"late")
            with pytest.raises(StreamOver):
                await stream.receive()
            await channel.close()

    run(main())


def test_incomplete_requests_are_refused_above_a_limit() -> None:
    """The limit is 64 MiB for one connection."""

    async def main() -> None:
        async with serving() as (server, port):
            channel = Channel("127.0.0.1", port)
            await channel.connect()
            assert channel._connection is not None
            session = channel._connection.session
            head = channel._learn_head("/test.Test/Echo")
            for _ in range(80):
                stream_id = session.send_request(head)
                session.send_data(stream_id, b"\0" + (1 << 20).to_bytes(4, "big") + MEGABYTE[:-1])
                channel._connection.mark_dirty()
            await until(lambda: server.methods[b"/test.Test/Echo"].handled[Code.RESOURCE_EXHAUSTED] >= 12)
            (connection,) = server.connections
            assert connection.incomplete_bytes <= 64 << 20
            await channel.close()
            await until(lambda: not server.connections)
            await until(lambda: not connection.incomplete_bytes)

    run(main())


@pytest.mark.parametrize("content_type", [b"application/grpc", b"application/json"])
def test_incomplete_messages_of_streams_and_bodies_count_too(content_type: bytes) -> None:
    async def main() -> None:
        async with serving() as (server, port):
            channel = Channel("127.0.0.1", port)
            await channel.connect()
            assert channel._connection is not None
            session = channel._connection.session
            head = ((b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/test.Test/Hold"), (b":authority", b"t"))
            for _ in range(80):
                stream_id = session.send_request((*head, (b"content-type", content_type)))
                session.send_data(stream_id, b"\0" + (1 << 20).to_bytes(4, "big") + MEGABYTE[:-1])
                channel._connection.mark_dirty()
            (connection,) = server.connections
            await until(lambda: connection.incomplete_bytes > 60 << 20)
            await until(lambda: len(connection.calls) <= 64)  # type: ignore[attr-defined]
            assert connection.incomplete_bytes <= 64 << 20
            await channel.close()
            await until(lambda: not server.connections)
            await until(lambda: not connection.incomplete_bytes)

    run(main())


def test_a_small_window_delivers_everything() -> None:
    async def main() -> None:
        async with serving() as (_, port):
            peer = await RawPeer.connect(port, raw.PREFACE + frame(raw.SETTINGS, 0, 0, b"\0\x04\0\0\0\x0a"))
            peer.send(one_message(1, b"/test.Test/Echo", bytes(range(100))))
            body = b""
            while len(body) < 105:
                body += await peer.expect(raw.DATA)
                peer.send(frame(raw.WINDOW_UPDATE, 0, 1, b"\0\0\0\x07"))
            assert body[5:] == bytes(range(100))
            assert await peer.expect(raw.HEADERS)
            peer.close()

    run(main())


def test_an_unread_call_can_be_cancelled() -> None:
    async def main() -> None:
        async with serving() as (server, port):
            channel = Channel("127.0.0.1", port)
            await channel.connect()
            stream = channel.stream("/test.Test/Hold", timeout=0.1)

            async def send_for_ever() -> None:
                while True:
                    await stream.send(MEGABYTE)

            with pytest.raises(RpcError) as error:
                await send_for_ever()
            assert error.value.code is Code.DEADLINE_EXCEEDED
            await until(lambda: not server.open_calls())
            await channel.close()

    run(main())


def test_messages_handled_at_once_pass_no_message_that_waits_for_the_reader() -> None:
    handled: list[bytes] = []

    def at_once(message: bytes) -> bool:
        if message.startswith(b"slow"):
            return False
        handled.append(message)
        return True

    async def test() -> None:
        inbox = Inbox(lambda shut: None)
        inbox.at_once = at_once
        inbox.put([b"before the reader"])
        assert await inbox.take() == b"before the reader"
        reader = asyncio.ensure_future(inbox.take())
        await asyncio.sleep(0)
        inbox.put([b"1", b"2"])
        assert not reader.done()
        inbox.put([b"3", b"slow 4", b"5"])
        inbox.put([b"6"])
        assert [await reader, await inbox.take(), await inbox.take()] == [b"slow 4", b"5", b"6"]
        reader = asyncio.ensure_future(inbox.take())
        await asyncio.sleep(0)
        inbox.put([b"7"])
        inbox.end()
        assert await reader is None
        assert handled == [b"1", b"2", b"3", b"7"]

    asyncio.run(test())


def test_a_flood_handled_at_once_gives_way_to_the_readers_task() -> None:
    handled: list[bytes] = []

    def at_once(message: bytes) -> bool:
        handled.append(message)
        return True

    async def test() -> None:
        inbox = Inbox(lambda shut: None)
        inbox.at_once = at_once
        reader = asyncio.ensure_future(inbox.take())
        await asyncio.sleep(0)
        for number in range(1000):  # one read of the socket: the loop does not turn meanwhile
            inbox.put([b"%d" % number])
        assert len(handled) < 100
        assert await reader == b"%d" % len(handled)

    asyncio.run(test())


def test_the_streams_of_an_ended_connection_are_closed_in_several_turns() -> None:
    """The engine freed 100,000 in 60 ms, in one turn."""

    async def never(stream: ServerStream) -> None:
        await asyncio.get_running_loop().create_future()

    def is_open(session: Session, stream_id: int) -> bool:
        try:
            session.stream_local_window_size(stream_id)
        except HTTP2Error:
            return False
        return True

    async def main() -> None:
        async with serving({"/test.Test/Never": bidi_stream(never)}) as (server, port):
            many = await RawPeer.connect(port)
            ids = range(1, 2001, 2)
            for stream_id in ids:
                many.send(frame(raw.HEADERS, 4, stream_id, request_block(b"/test.Test/Never")))
            method = server.methods[b"/test.Test/Never"]
            await until(lambda: method.started == len(ids))
            (connection,) = server.connections
            session = connection.session
            many.writer.transport.abort()
            await until(lambda: method.handled[Code.CANCELLED] == len(ids))
            await until(lambda: not any(is_open(session, stream_id) for stream_id in ids))

    run(main())
