"""What a call or a connection held is freed when it ends, not by a garbage collection.

A collection of all objects takes a second where 100,000 streams are open, so a member makes hardly any (server/main.py): what
clients make it allocate must not be a cycle. Each of 50,000 watch streams once left 38 objects, and each connection what it had
queued.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter

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


async def open_and_close(host: str, port: int, path: str, message: bytes) -> None:
    channel = Channel(host, port)
    await channel.connect()
    for _ in range(CALLS):
        channel.stream(path).send_now(message)
    await asyncio.sleep(0.05)  # whatever state the calls are in, they are freed
    await channel.close()


@pytest.mark.parametrize("name", REQUESTS)
def test_an_ended_connection_keeps_nothing_alive(name: str) -> None:
    async def test() -> None:
        async with asyncio.timeout(scaled(60)), tercet.Server() as server:
            async with server.client() as client:
                await client.put("k/1", "v")
            endpoint = parse_endpoint(server.endpoint)
            gc.collect()
            gc.disable()
            try:
                before = alive()
                await open_and_close(endpoint.host, endpoint.port, name.partition("\0")[0], REQUESTS[name])
                while left := alive() - before:  # in a loop that ends by the timeout alone
                    await asyncio.sleep(0.02)
                assert not left
            finally:
                gc.enable()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(test())
