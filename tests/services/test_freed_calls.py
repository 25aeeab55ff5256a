"""What a call or a connection held is freed when it ends, not by a garbage collection.

A collection of all objects takes a second where 100,000 streams are open, so a member makes hardly any (server/main.py): what
clients make it allocate must not be a cycle. Each of 50,000 watch streams once left 38 objects, and each connection what it had
queued.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
import uvloop

import tercet
from tercet.client import methods, parse_endpoint
from tercet.proto import election_pb2, rpc_pb2
from tercet.rpc import Channel
from tests.support.waiting import scaled

CALLS = 3
FREED = {
    "ServerConnection",
    "Http2Stream",
    "Http2UnaryCall",
    "HttpExchange",
    "Inbox",
    "_Pipe",
    "_ServerSide",
    "_WatchStream",
    "WatchStream",
    "OwnWatch",
    "OwnClient",
    "HttpProtocol",
    "WebSocket",
    "GatewaySession",
    "InProcessStream",
}
_WATCH = rpc_pb2.WatchRequest(create_request=rpc_pb2.WatchCreateRequest(key=b"k/", range_end=b"k0", start_revision=1))

REQUESTS = {
    methods.WATCH.path: _WATCH.SerializeToString(),
    methods.LEASE_KEEP_ALIVE.path: rpc_pb2.LeaseKeepAliveRequest(ID=5).SerializeToString(),
    methods.SNAPSHOT.path: b"",
    methods.RANGE.path: rpc_pb2.RangeRequest(key=b"k/", range_end=b"k0").SerializeToString(),
    "/v3electionpb.Election/Observe": election_pb2.LeaderRequest(name=b"e").SerializeToString(),
    "/v3electionpb.Election/Campaign": election_pb2.CampaignRequest(name=b"e").SerializeToString(),
    "/etcdserverpb.Watch/Watch\0malformed": b"\xff\xff",
}


def alive() -> Counter[str]:
    return Counter(name for one in gc.get_objects() if (name := type(one).__name__) in FREED)


UPGRADE = (
    b"GET /v3/watch HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
CREATE = b'{"create_request":{"key":"ay8=","range_end":"azA="}}'
HTTP1 = {
    "a watch": b"POST /v3/watch HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(CREATE) + CREATE,
    "a WebSocket": UPGRADE + b"\x81" + bytes([0x80 | len(CREATE)]) + bytes(4) + CREATE,
    "a malformed frame": UPGRADE + b"\xff\xff\xff",
    "a malformed request": b"malformed\r\n\r\n",
}


@pytest.mark.parametrize("name", HTTP1)
def test_an_ended_http_1_connection_keeps_nothing_alive(name: str) -> None:
    async def exchange(host: str, port: int) -> None:
        writers = []
        for _ in range(CALLS):
            _, writer = await asyncio.open_connection(host, port)
            writer.write(HTTP1[name])
            writers.append(writer)
        await asyncio.sleep(0.05)
        for writer in writers:
            writer.transport.abort()

    run(exchange)


def run(exchange: Callable[[str, int], Awaitable[None]]) -> None:
    """After this exchange with a member nothing is left that takes part in calls."""

    async def test() -> None:
        async with asyncio.timeout(scaled(60)), tercet.Server() as server:
            async with server.client() as client:
                await client.put("k/1", "v")
            endpoint = parse_endpoint(server.endpoint)
            gc.collect()
            gc.disable()
            try:
                before = alive()
                await exchange(endpoint.host, endpoint.port)
                while alive() - before:  # in a loop that ends by the timeout alone
                    await asyncio.sleep(0.02)
            finally:
                gc.enable()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(test())


@pytest.mark.parametrize("name", REQUESTS)
def test_an_ended_connection_keeps_nothing_alive(name: str) -> None:
    async def exchange(host: str, port: int) -> None:
        channel = Channel(host, port)
        await channel.connect()
        for _ in range(CALLS):
            channel.stream(name.partition("\0")[0]).send_now(REQUESTS[name])
        await asyncio.sleep(0.05)  # whatever state the calls are in, they are freed
        await channel.close()

    run(exchange)
