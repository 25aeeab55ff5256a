"""Keepalive pings: too many close a client's connection, unanswered ones mean that the peer is dead."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.errors import Code
from tercet.rpc import Channel, ChannelOptions, RpcError, ServerOptions, http2
from tercet.rpc.keepalive import PingPolicy
from tests.rpc import raw
from tests.rpc.harness import run, serving
from tests.rpc.raw import RawPeer, frame, request_block
from tests.support.waiting import settled, until

PING = frame(raw.PING, 0, 0, b"12345678")


def goaway(payload: bytes) -> tuple[int, bytes]:
    return int.from_bytes(payload[4:8], "big"), payload[8:]


def test_three_early_pings_close_the_connection() -> None:
    async def main() -> None:
        async with serving() as (server, port):
            peer = await RawPeer.connect(port)
            peer.send(frame(raw.HEADERS, 4, 1, request_block(b"/test.Test/Hold")))
            await peer.expect(raw.HEADERS)
            for _ in range(3):  # the first is never early, two more are tolerated
                peer.send(PING)
                assert await peer.expect(raw.PING, 1) == b"12345678"
            peer.send(PING)
            assert goaway(await peer.expect(raw.GOAWAY)) == (http2.ENHANCE_YOUR_CALM, b"too_many_pings")
            await peer.frames_until_the_end()
            await until(lambda: not server.connections)
            assert server.methods[b"/test.Test/Hold"].handled[Code.CANCELLED] == 1
            peer.close()

    run(main())


def test_answers_between_pings_reset_the_count() -> None:
    """Clients measure bandwidth by pings while data flows."""

    async def main() -> None:
        async with serving() as (server, port):
            peer = await RawPeer.connect(port)
            for number in range(30):
                stream_id = 1 + 2 * number
                peer.send(frame(raw.HEADERS, 4, stream_id, request_block(b"/test.Test/Echo")))
                peer.send(frame(raw.DATA, 1, stream_id, bytes(5)))
                await peer.expect(raw.DATA)
                peer.send(PING)
                await peer.expect(raw.PING, 1)
            assert server.connections
            peer.close()

    run(main())


def test_pieces_of_one_large_answer_reset_the_count() -> None:
    """Clients ping while a large answer arrives: etcdctl lost its connection in the middle of a long range."""

    async def main() -> None:
        async with serving() as (server, port):
            piece = (1_000).to_bytes(4, "big")
            narrow = frame(raw.SETTINGS, 0, 0, b"\0\4" + piece)  # SETTINGS_INITIAL_WINDOW_SIZE
            peer = await RawPeer.connect(port, raw.PREFACE + narrow)
            peer.send(frame(raw.HEADERS, 4, 1, request_block(b"/test.Test/Echo")))
            peer.send(frame(raw.DATA, 1, 1, b"\0" + (15_000).to_bytes(4, "big") + bytes(15_000)))
            for _ in range(12):
                assert len(await peer.expect(raw.DATA)) == 1_000
                peer.send(PING)
                await peer.expect(raw.PING, 1)
                peer.send(frame(raw.WINDOW_UPDATE, 0, 1, piece))
            assert server.connections
            peer.close()

    run(main())


def test_pings_at_the_allowed_rate_need_an_open_call() -> None:
    async def main() -> None:
        options = ServerOptions(keepalive_min_seconds=0.02)
        async with serving(options=options) as (_, port):
            patient = await RawPeer.connect(port)
            patient.send(frame(raw.HEADERS, 4, 1, request_block(b"/test.Test/Hold")))
            await patient.expect(raw.HEADERS)
            idle = await RawPeer.connect(port)
            for number in range(8):
                patient.send(PING)
                await patient.expect(raw.PING, 1)
                if number < 4:
                    idle.send(PING)
                await asyncio.sleep(0.04)
            assert goaway(await idle.expect(raw.GOAWAY))[1] == b"too_many_pings"
            patient.close()
            idle.close()

    run(main())


@given(st.lists(st.floats(min_value=5.0, max_value=100.0), min_size=1, max_size=50))
def test_a_client_that_respects_the_interval_is_never_disconnected(pauses: list[float]) -> None:
    policy, now = PingPolicy(5.0, permit_without_calls=False), 1000.0
    for pause in pauses:
        assert not policy.is_abuse(now, has_calls=True, sent_data=False)
        now += pause


def test_the_server_closes_on_a_client_that_does_not_answer_pings() -> None:
    async def main() -> None:
        # The answering client runs in this process: a pause must not be as long as the timeout.
        options = ServerOptions(keepalive_interval_seconds=0.05, keepalive_timeout_seconds=3.0)
        async with serving(options=options) as (server, port):
            mute = await RawPeer.connect(port)
            answering = Channel("127.0.0.1", port)
            await answering.connect()
            await mute.expect(raw.PING)
            await mute.frames_until_the_end()
            assert await settled(lambda: len(server.connections), quiet_seconds=0.2) == 1
            assert await answering.unary("/test.Test/Echo", b"alive") == b"alive"
            await answering.close()
            mute.close()

    run(main())


def test_the_client_closes_on_a_server_that_does_not_answer_pings() -> None:
    async def main() -> None:
        async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(frame(raw.SETTINGS, 0, 0))
            await reader.read(-1)
            writer.close()

        listener = await asyncio.start_server(mute, "127.0.0.1", 0)
        options = ChannelOptions(keepalive_interval_seconds=0.05, keepalive_timeout_seconds=0.05)
        channel = Channel("127.0.0.1", listener.sockets[0].getsockname()[1], options=options)
        await channel.connect()
        with pytest.raises(RpcError, match="keepalive ping failed") as error:
            await channel.unary("/test.Test/Echo", b"")
        assert error.value.code is Code.UNAVAILABLE
        listener.close()

    run(main())


def test_a_client_that_pings_too_often_gets_the_reason() -> None:
    async def main() -> None:
        async with serving() as (_, port):
            options = ChannelOptions(keepalive_interval_seconds=0.01)
            channel = Channel("127.0.0.1", port, options=options)
            await channel.connect()
            with pytest.raises(RpcError, match="too_many_pings") as error:
                await channel.unary("/test.Test/Silent", b"")
            assert error.value.code is Code.UNAVAILABLE

    run(main())
