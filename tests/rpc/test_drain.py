"""Draining: open calls are finished, new ones refused, those that outlast the timeout aborted."""

from __future__ import annotations

import asyncio

import grpc.aio
import pytest

from tercet.errors import Code
from tercet.rpc import Channel, RpcError, Server
from tests.rpc import raw
from tests.rpc.harness import METHODS, Gated, run, serving
from tests.rpc.raw import RawPeer, frame, request_block
from tests.support.ports import free_port
from tests.support.waiting import scaled, until


def test_draining_finishes_open_calls_and_refuses_new_ones() -> None:
    async def main() -> None:
        gated = Gated()
        async with serving(gated.methods) as (server, port):
            channel = Channel("127.0.0.1", port)
            await channel.connect()
            idle = Channel("127.0.0.1", port)
            await idle.connect()
            call = asyncio.create_task(channel.unary("/test.Test/Gated", b""))
            await until(lambda: server.open_calls() == 1)
            drained = asyncio.create_task(server.drain(60))
            await until(lambda: not channel.is_usable)
            with pytest.raises(RpcError) as error:
                await channel.unary("/test.Test/Echo", b"")
            assert (error.value.code, error.value.unprocessed) == (Code.UNAVAILABLE, True)
            assert not call.done()
            gated.gate.set()
            assert await call == b"done"
            await drained
            assert not server.connections
            await until(lambda: not idle.is_usable)


def test_the_last_goaway_names_the_last_stream_served() -> None:
    async def main() -> None:
        async with serving() as (server, port):
            peer = await RawPeer.connect(port)
            peer.send(frame(raw.HEADERS, 4, 1, request_block(b"/test.Test/Echo")) + frame(raw.DATA, 1, 1, bytes(5)))
            await peer.expect(raw.DATA)
            await server.drain(60)
            assert int.from_bytes((await peer.expect(raw.GOAWAY))[:4], "big") == 1
            await peer.frames_until_the_end()
            peer.close()

    run(main())


def test_a_request_that_crosses_the_first_goaway_is_still_served() -> None:
    async def main() -> None:
        async with serving() as (server, port):
            peer = await RawPeer.connect(port)
            peer.send(frame(raw.HEADERS, 4, 1, request_block(b"/test.Test/Hold")))
            await peer.expect(raw.HEADERS)
            drained = asyncio.create_task(server.drain(60))
            first = await peer.expect(raw.GOAWAY)
            assert int.from_bytes(first[:4], "big") == 0x7FFFFFFF
            ping = await peer.expect(raw.PING)
            peer.send(frame(raw.HEADERS, 4, 3, request_block(b"/test.Test/Echo")) + frame(raw.DATA, 1, 3, bytes(5)))
            assert await peer.expect(raw.DATA) == bytes(5)
            peer.send(frame(raw.PING, 1, 0, ping))
            second = await peer.expect(raw.GOAWAY)
            assert int.from_bytes(second[:4], "big") == 3
            peer.send(frame(raw.HEADERS, 4, 5, request_block(b"/test.Test/Echo")) + frame(raw.DATA, 1, 5, bytes(5)))
            peer.send(frame(raw.DATA, 1, 1, b""))  # the held stream ends
            await peer.frames_until_the_end()
            await drained
            assert server.methods[b"/test.Test/Echo"].started == 1
            peer.close()

    run(main())


def test_calls_that_outlast_the_drain_timeout_are_aborted() -> None:
    async def main() -> None:
        async with serving() as (server, port):
            channel = Channel("127.0.0.1", port)
            await channel.connect()
            stream = channel.stream("/test.Test/Hold")
            await until(lambda: server.open_calls() == 1)
            started = asyncio.get_running_loop().time()
            await server.drain(0.1)
            assert 0.09 < asyncio.get_running_loop().time() - started < scaled(5)
            with pytest.raises(RpcError) as error:
                await stream.receive()
            assert error.value.code is Code.UNAVAILABLE
            await until(lambda: server.methods[b"/test.Test/Hold"].handled[Code.CANCELLED] == 1)

    run(main())


def test_grpcio_reconnects_after_goaway_without_a_failed_call() -> None:
    """It finishes its open calls and reconnects by itself."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        gated, port = Gated(), free_port()
        old, new = Server(METHODS | gated.methods), Server(METHODS)
        listener = await loop.create_server(old.protocol, "127.0.0.1", port)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            slow = asyncio.ensure_future(channel.unary_unary("/test.Test/Gated")(b""))
            await until(lambda: old.open_calls() == 1)
            listener.close()
            drained = asyncio.create_task(old.drain(60))
            await until(lambda: all(one._sent_last_goaway for one in old.connections))  # the client has the first GOAWAY
            listener = await loop.create_server(new.protocol, "127.0.0.1", port)
            assert await channel.unary_unary("/test.Test/Echo")(b"x", wait_for_ready=True, timeout=scaled(5)) == b"x"
            gated.gate.set()
            assert await slow == b"done"
            await drained
            assert new.methods[b"/test.Test/Echo"].handled[Code.OK] == 1
        listener.close()
        new.close()

    asyncio.run(asyncio.wait_for(main(), scaled(20)))


def test_connections_accepted_while_draining_are_drained_at_once() -> None:
    async def main() -> None:
        gated = Gated()
        async with serving(gated.methods) as (server, port):
            first = Channel("127.0.0.1", port)
            await first.connect()
            call = asyncio.create_task(first.unary("/test.Test/Gated", b""))
            await until(lambda: server.open_calls() == 1)
            drained = asyncio.create_task(server.drain(60))
            await asyncio.sleep(0)
            second = Channel("127.0.0.1", port)
            await second.connect()
            await until(lambda: not second.is_usable)
            gated.gate.set()
            assert await call == b"done"
            await drained

    run(main())
