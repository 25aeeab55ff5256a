"""Protocol violations cost the violator its call or connection, and do not affect other clients."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from typing import cast

import pytest

from tercet.errors import Code
from tercet.rpc import Channel, ServerConnection, ServerOptions, http2, http2_unary
from tests.rpc import raw
from tests.rpc.harness import Gated, run, serving
from tests.rpc.raw import Asker, Misuse, RawPeer, frame, grpc_head, request_block
from tests.support.waiting import settled, until

ECHO = b"/test.Test/Echo"


def message(body: bytes, flag: int = 0, length: int | None = None) -> bytes:
    return struct.pack(">BI", flag, len(body) if length is None else length) + body


def data_on_stream_0(peer: RawPeer) -> None:
    peer.send(frame(raw.DATA, 0, 0, b"data on stream 0"))


def oversize_frame(peer: RawPeer) -> None:
    peer.send(b"\xff\xff\xff" + bytes((raw.DATA, 0)) + (1).to_bytes(4, "big") + bytes(20_000))


def unknown_stream(peer: RawPeer) -> None:
    peer.send(frame(raw.DATA, 1, 7, b"x"))


def even_stream(peer: RawPeer) -> None:
    peer.send(frame(raw.HEADERS, 4, 2, request_block(ECHO)))


def broken_hpack(peer: RawPeer) -> None:
    peer.send(frame(raw.HEADERS, 4, 1, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"))


def header_bomb(peer: RawPeer) -> None:
    """A small block that references one large field 4,000 times: amplification by HPACK."""
    block = request_block(ECHO) + b"\x40\x01a" + b"\x7f\xa1\x1e" + b"v" * 4000 + b"\xbe" * 4000
    peer.send(frame(raw.HEADERS, 4, 1, block))


def endless_headers(peer: RawPeer) -> None:
    peer.send(frame(raw.HEADERS, 0, 1, request_block(ECHO)))
    for _ in range(2000):
        peer.send(frame(raw.CONTINUATION, 0, 1, raw.literal(b"a", b"b" * 100) * 10))


def reset_flood(peer: RawPeer) -> None:
    block = request_block(b"/test.Test/Silent")
    for stream_id in range(1, 60_000, 2):
        peer.send(frame(raw.HEADERS, 4, stream_id, block) + frame(raw.RST_STREAM, 0, stream_id, bytes(4)))


def ping_flood_unread(peer: RawPeer) -> None:
    peer.send(frame(raw.PING, 0, 0, bytes(8)) * 20_000)


def settings_flood(peer: RawPeer) -> None:
    peer.send(frame(raw.SETTINGS, 0, 0, bytes(6)) * 20_000)


def window_overflow(peer: RawPeer) -> None:
    peer.send(frame(raw.WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff") * 2)


def http1_after_preface(peer: RawPeer) -> None:
    peer.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")


@pytest.mark.parametrize(
    "misuse",
    [
        data_on_stream_0,
        oversize_frame,
        unknown_stream,
        even_stream,
        broken_hpack,
        header_bomb,
        endless_headers,
        reset_flood,
        ping_flood_unread,
        settings_flood,
        window_overflow,
        http1_after_preface,
    ],
)
def test_a_violation_of_http2_costs_only_its_own_connection(misuse: Misuse) -> None:
    async def main() -> None:
        async with serving() as (server, port):
            good = Channel("127.0.0.1", port)
            await good.connect()
            stream = good.stream("/test.Test/Chat")
            await stream.send(b"before")
            assert await stream.receive() == b"BEFORE"
            bad = await RawPeer.connect(port)
            await bad.expect(raw.SETTINGS)
            misuse(bad)
            await bad.frames_until_the_end()
            bad.close()
            await until(lambda: len(server.connections) == 1)
            await stream.send(b"after")
            assert await stream.receive() == b"AFTER"
            assert await good.unary("/test.Test/Echo", b"alive") == b"alive"
            await good.close()

    run(main())


@pytest.mark.parametrize(
    "hello", [b"\x16\x03\x01\x02\x00garbage" * 10, b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"]
)
def test_an_invalid_preface_closes_the_connection(hello: bytes) -> None:
    async def main() -> None:
        async with serving() as (_, port):
            bad = await RawPeer.connect(port, hello)
            await bad.frames_until_the_end()
            bad.close()

    run(main())


def test_an_incomplete_frame_costs_only_its_connection() -> None:
    """Peers that stall or disconnect in the middle of a frame leave nothing behind."""

    async def main() -> None:
        async with serving() as (server, port):
            hello = raw.PREFACE + frame(raw.SETTINGS, 0, 0)
            request = frame(raw.HEADERS, 4, 1, request_block(ECHO)) + frame(raw.DATA, 0, 1, message(b"12345678")[:9])
            for cut in (3, 24, 30, 33, 60, len(hello) + len(request)):
                peer = await RawPeer.connect(port, (hello + request)[:cut])
                await until(lambda: bool(server.connections))
                await asyncio.sleep(0.01)
                peer.writer.transport.abort()
                await until(lambda: not server.connections)
            assert server.open_calls() == 0

    run(main())


def test_requests_split_over_packets_and_several_in_one() -> None:
    async def main() -> None:
        async with serving() as (server, port):
            hello = raw.PREFACE + frame(raw.SETTINGS, 0, 0)
            requests = b"".join(
                frame(raw.HEADERS, 4, stream_id, request_block(ECHO))
                + frame(raw.DATA, 1, stream_id, message(b"%05d" % stream_id))
                for stream_id in range(1, 40, 2)
            )
            for step in (1, 7, len(requests)):
                peer = await RawPeer.connect(port, hello)
                for start in range(0, len(requests), step):
                    peer.send(requests[start : start + step])
                    if step < 100:
                        await asyncio.sleep(0)
                bodies = {await peer.expect(raw.DATA) for _ in range(20)}
                assert bodies == {message(b"%05d" % number) for number in range(1, 40, 2)}
                peer.close()
            assert server.methods[ECHO].handled[0] == 60

    run(main())


@pytest.mark.parametrize(
    ("parts", "code", "text"),
    [
        ((), b"2", b"EOF"),
        ((b"",), b"2", b"EOF"),
        ((message(b"ab", length=3),), b"2", b"unexpected EOF"),
        ((b"\0\0\0",), b"2", b"EOF"),
        ((message(b"ab", flag=1),), b"13", b"grpc: compressed flag set with identity or empty encoding"),
        ((message(b"ab", flag=2),), b"13", b"grpc: received unexpected payload format 2"),
        ((message(b"", length=0xFFFFFFFF),), b"8", b"grpc: received message larger than max (4294967295 vs. 2097152)"),
    ],
)
def test_malformed_messages(parts: tuple[bytes, ...], code: bytes, text: bytes) -> None:
    async def main() -> None:
        async with serving() as (server, port):
            asker = await Asker.connect(port)
            answer = await asker.ask(grpc_head(ECHO), *parts)
            assert answer.headers[b"grpc-status"] == code
            assert answer.headers[b"grpc-message"] == text
            good = await asker.ask(grpc_head(ECHO), message(b"alive"))
            assert (good.body, good.trailers) == (message(b"alive"), {b"grpc-status": b"0"})
            assert server.methods[ECHO].handled[int(code)] == 1
            asker.close()

    run(main())


@pytest.mark.parametrize(
    "parts", [(message(b"ab") + message(b"cd"),), (message(b"ab"), message(b"cd")), (message(b"ab") + b"\7\xff\xff\xff\xff",)]
)
def test_what_follows_the_message_of_a_unary_call_is_not_looked_at(parts: tuple[bytes, ...]) -> None:
    async def main() -> None:
        async with serving() as (_, port):
            asker = await Asker.connect(port)
            answer = await asker.ask(grpc_head(ECHO), *parts)
            assert (answer.body, answer.trailers) == (message(b"ab"), {b"grpc-status": b"0"})
            asker.close()

    run(main())


@pytest.mark.parametrize("parts", [(message(b"abc")[:4], message(b"abc")[4:]), (message(b"abc"), b""), (b"", message(b"abc"))])
def test_messages_may_be_split_over_frames_anywhere(parts: tuple[bytes, ...]) -> None:
    async def main() -> None:
        async with serving() as (_, port):
            asker = await Asker.connect(port)
            answer = await asker.ask(grpc_head(ECHO), *parts)
            assert answer.body == message(b"abc")
            asker.close()

    run(main())


@pytest.mark.parametrize(
    ("head", "status", "code", "text"),
    [
        (grpc_head(ECHO, method=b"GET"), b"405", b"13", b'Received a HEADERS frame with :method "GET" which should be POST'),
        *(
            (grpc_head(ECHO, (b"grpc-timeout", value)), b"400", b"13", b"malformed grpc-timeout: " + text)
            for value, text in (
                (b"5x", b'transport: timeout unit is not recognized: "5x"'),
                (b"123456789S", b'transport: timeout string is too long: "123456789S"'),
                (b"S", b'transport: timeout string is too short: "S"'),
                (b"", b'transport: timeout string is too short: ""'),
                (b"-1S", b'strconv.ParseUint: parsing "-1": invalid syntax'),
            )
        ),
        (grpc_head(ECHO, (b"client-api-version", b"\xff")), b"200", b"3", b"etcdserver: invalid client api version"),
        (grpc_head(ECHO, (b"grpc-encoding", b"br")), b"200", b"12", b'not installed for grpc-encoding "br"'),
        (grpc_head(ECHO, content_type=b"application/grpc-web"), b"415", b"3", b'content-type "application/grpc-web"'),
        (grpc_head(b"/Echo"), b"200", b"12", b'malformed method name: "/Echo"'),
        (grpc_head(b"/test.Test/"), b"200", b"12", b"unknown method  for service test.Test"),
    ],
)
def test_requests_without_a_method_are_refused(head: http2.Headers, status: bytes, code: bytes, text: bytes) -> None:
    async def main() -> None:
        async with serving() as (_, port):
            asker = await Asker.connect(port)
            answer = await asker.ask(head, message(b"x"))
            assert (answer.headers[b":status"], answer.headers[b"grpc-status"]) == (status, code)
            assert text in answer.headers[b"grpc-message"]
            assert (await asker.ask(grpc_head(ECHO), message(b"alive"))).body == message(b"alive")
            asker.close()

    run(main())


@pytest.mark.parametrize(("fields", "size"), [(20, 5000), (200, 5000), (1, 65_000), (300, 1), (8000, 1)])
def test_a_call_with_much_metadata_is_served(fields: int, size: int) -> None:
    """As by etcd, although more than 64 KiB exceeds the advertised SETTINGS_MAX_HEADER_LIST_SIZE."""

    async def main() -> None:
        async with serving() as (_, port):
            asker = await Asker.connect(port)
            more = [(b"x-%d" % number, b"~" * size) for number in range(fields)]
            assert (await asker.ask(grpc_head(ECHO, *more), message(b"x"))).body == message(b"x")
            assert (await asker.ask(grpc_head(ECHO), message(b"alive"))).body == message(b"alive")
            asker.close()

    run(main())


def test_the_metadata_of_open_calls_is_bounded() -> None:
    """The limit is 16 MiB for one connection; the header blocks of ended calls do not count."""

    async def main() -> None:
        async with serving() as (server, port):
            asker = await Asker.connect(port)
            more = [(b"x-%d" % number, b"~" * 5000) for number in range(180)]
            for _ in range(30):
                assert (await asker.ask(grpc_head(ECHO, *more), message(b"x"))).body == message(b"x")
            for _ in range(30):
                asker.begin(grpc_head(b"/test.Test/Hold", *more), ended=False)
            refused = await asker.ask(grpc_head(ECHO, *more), message(b"x"))
            assert refused.headers[b"grpc-status"] == b"%d" % Code.RESOURCE_EXHAUSTED
            assert server.methods[b"/test.Test/Hold"].started == 18
            assert (await asker.ask(grpc_head(ECHO), message(b"alive"))).body == message(b"alive")
            asker.close()

    run(main())


@pytest.mark.parametrize(
    ("path", "parts", "body"),
    [
        (b"/test.Test/Echo", (message(b"x"),), message(b"x")),
        (b"/test.Test/Join", (message(b"a"), message(b"b")), message(b"a+b")),
        (b"/test.Test/Echo", (), b""),
    ],
)
def test_request_trailers_end_the_request(path: bytes, parts: tuple[bytes, ...], body: bytes) -> None:
    """They were ignored, and such a call was never answered."""

    async def main() -> None:
        async with serving() as (_, port):
            asker = await Asker.connect(port)
            answer = await asker.ask(grpc_head(path), *parts, trailers=((b"x-checksum", b"1"),))
            assert answer.body == body
            assert {**answer.headers, **answer.trailers}[b"grpc-status"] == (b"0" if parts else b"2")
            assert (await asker.ask(grpc_head(ECHO), message(b"alive"))).body == message(b"alive")
            asker.close()

    run(main())


def test_long_header_blocks_are_not_cached() -> None:
    async def main() -> None:
        async with serving() as (server, port):
            asker = await Asker.connect(port)
            answer = await asker.ask(grpc_head(b"/test.Test/" + b"\xff" * 60_000), message(b"x"))
            assert answer.headers[b"grpc-status"] == b"12"
            assert len(answer.headers[b"grpc-message"]) <= 6 * 4096 + 100
            for number in range(100):  # the header cache stays small
                head = grpc_head(ECHO, (b"padding", b"%05d" % number * 10_000))
                assert (await asker.ask(head, message(b"x"))).body == message(b"x")
            assert len(server.header_cache) == 0
            asker.close()

    run(main())


def test_malformed_binary_metadata_fails_the_call() -> None:
    async def main() -> None:
        async with serving() as (_, port):
            asker = await Asker.connect(port)
            for value, position in (
                (b"!!!", 0),
                (b"YQ,YQ==", 2),
                (b"Y", 0),
                (b"YQ=", 2),
                (b"Y===", 1),
                (b"YQ==YQ==", 4),
                (b"YWI=Y", 3),
            ):
                answer = await asker.ask(grpc_head(ECHO, (b"x-bin", value)), message(b""))
                assert (answer.headers[b":status"], answer.headers[b"grpc-status"]) == (b"400", b"13")
                text = b'malformed binary metadata "%b" in header "x-bin": illegal base64 data at input byte %d'
                assert answer.headers[b"grpc-message"] == text % (value, position)
            asker.close()

    run(main())


def test_concurrent_streams_are_limited() -> None:
    async def main() -> None:
        gated = Gated()
        async with serving(gated.methods, options=ServerOptions(max_concurrent_streams=3)) as (server, port):
            # A client that respects the limit queues its further calls.
            channel = Channel("127.0.0.1", port)
            await channel.connect()
            waiting = [asyncio.create_task(channel.unary("/test.Test/Gated", b"")) for _ in range(10)]
            await until(lambda: server.methods[b"/test.Test/Gated"].started == 3)
            assert await settled(lambda: server.methods[b"/test.Test/Gated"].started) == 3
            gated.gate.set()
            assert await asyncio.gather(*waiting) == [b"done"] * 10
            await channel.close()
            # One that does not know the limit yet is refused.
            peer = await RawPeer.connect(port)
            await peer.expect(raw.SETTINGS)
            open_stream = [frame(raw.HEADERS, 4, number, request_block(b"/test.Test/Silent")) for number in range(1, 12, 2)]
            peer.send(b"".join(open_stream[:5]))
            for _ in range(2):
                assert int.from_bytes(await peer.expect(raw.RST_STREAM), "big") == http2.REFUSED_STREAM
            assert server.methods[b"/test.Test/Silent"].started == 3
            # One that has acknowledged the limit and exceeds it is disconnected.
            peer.send(frame(raw.SETTINGS, 1, 0) + open_stream[5])
            assert b"max concurrent streams exceeded" in await peer.expect(raw.GOAWAY)
            await peer.frames_until_the_end()
            assert server.methods[b"/test.Test/Silent"].handled[Code.CANCELLED] == 3
            peer.close()

    run(main())


def test_plain_http_beside_grpc() -> None:
    async def answer(
        method: bytes, path: bytes, headers: http2.Headers, body: bytes
    ) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        if path == b"/crash":
            raise ZeroDivisionError
        return 202, [(b"Content-Type", b"application/json"), (b"Connection", b"close")], method + b" " + path + b" " + body

    async def main() -> None:
        async with serving(http_handler=answer) as (_, port):
            asker = await Asker.connect(port)
            got = await asker.ask(grpc_head(b"/health", method=b"GET", content_type=b""))
            assert (got.headers[b":status"], got.body) == (b"202", b"GET /health ")
            got = await asker.ask(grpc_head(b"/v3/kv/put", content_type=b"application/json"), b"{}" * 100_000, b"!")
            assert got.body == b"POST /v3/kv/put " + b"{}" * 100_000 + b"!"
            assert b"connection" not in got.headers
            assert (await asker.ask(grpc_head(b"/crash", content_type=b"x/y"))).headers[b":status"] == b"500"
            got = await asker.ask(grpc_head(b"/v3", content_type=b"x/y"), *[bytes(1 << 20)] * 3)
            assert got.headers[b":status"] == b"413"
            assert (await asker.ask(grpc_head(ECHO), message(b"alive"))).body == message(b"alive")
            asker.close()

    run(main())


def test_refused_requests_are_not_kept_alive() -> None:
    """A shared error collects the frames of each raise, and those hold the call and its connection."""

    async def main() -> None:
        async with serving() as (_, port):
            asker = await Asker.connect(port)
            for parts in ((b"",), (message(b"x", length=2),)):
                assert (await asker.ask(grpc_head(ECHO), *parts)).headers[b"grpc-status"] == b"2"
            asker.close()
        assert http2_unary._NO_MESSAGE.__traceback__ is None
        assert http2_unary._CUT_SHORT.__traceback__ is None

    run(main())


def test_a_body_that_fails_resets_its_stream() -> None:
    """After the head there is no status left to send, and the client must not wait for the rest."""

    async def answer(
        method: bytes, path: bytes, headers: http2.Headers, body: bytes
    ) -> tuple[int, list[tuple[bytes, bytes]], AsyncIterator[bytes]]:
        async def parts() -> AsyncIterator[bytes]:
            yield b"the first part"
            raise ZeroDivisionError

        return 200, [], parts()

    async def main() -> None:
        async with serving(http_handler=answer) as (server, port):
            asker = await Asker.connect(port)
            assert (await asker.ask(grpc_head(b"/x", method=b"GET", content_type=b""))).reset == http2.INTERNAL_ERROR
            assert not server.open_calls()
            asker.close()

    run(main())


def test_a_listener_may_pass_on_the_first_bytes_of_a_connection() -> None:
    """It reads them to detect the protocol."""

    async def main() -> None:
        async with serving() as (server, _):

            class Sniffer(asyncio.Protocol):
                def connection_made(self, transport: asyncio.BaseTransport) -> None:
                    self.transport = cast(asyncio.Transport, transport)

                def data_received(self, data: bytes) -> None:
                    assert data.startswith(b"PRI * HTTP/2.0")
                    protocol: ServerConnection = server.protocol(data)
                    self.transport.set_protocol(protocol)
                    protocol.connection_made(self.transport)

            listener = await asyncio.get_running_loop().create_server(Sniffer, "127.0.0.1", 0)
            channel = Channel("127.0.0.1", listener.sockets[0].getsockname()[1])
            await channel.connect()
            assert await channel.unary("/test.Test/Echo", b"through") == b"through"
            await channel.close()
            listener.close()

    run(main())
