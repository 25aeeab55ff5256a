"""grpcio, synchronous and asyncio, on a cluster of ours over TLS."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from tercet.proto import rpc_pb2
from tests.support.client import prefix_end
from tests.support.processes import Cluster, Member
from tests.support.waiting import scaled

_RANGE = "/etcdserverpb.KV/Range"
_PUT = "/etcdserverpb.KV/Put"
_STREAM = "/etcdserverpb.KV/RangeStream"


def secrets(member: Member) -> grpc.ChannelCredentials:
    files = member.credentials
    assert files is not None
    return grpc.ssl_channel_credentials(files.ca.read_bytes(), files.key.read_bytes(), files.certificate.read_bytes())


def method(channel: Any, path: str, answer: Any, kind: str = "unary_unary") -> Any:
    make = getattr(channel, kind)
    return make(path, request_serializer=lambda message: message.SerializeToString(), response_deserializer=answer.FromString)


def test_many_threads_on_one_channel(cluster: Cluster) -> None:
    """Every Put gets its own revision, and readers see every acknowledged write."""
    client = cluster["n1"].client

    def put(number: int) -> int:
        return client.put(b"threads/%03d" % number, b"%d" % number).header.revision

    with ThreadPoolExecutor(16) as pool:
        revisions = list(pool.map(put, range(300)))
    assert len(set(revisions)) == 300
    for member in cluster.members:
        pairs = member.client.all(b"threads/")
        assert {key: pair.value for key, pair in pairs.items()} == {b"threads/%03d" % n: b"%d" % n for n in range(300)}
        assert [pairs[b"threads/%03d" % number].mod_revision for number in range(300)] == revisions


def test_asyncio(cluster: Cluster) -> None:
    async def run() -> None:
        targets = [(member.endpoint, secrets(member)) for member in cluster.members]
        channels = [grpc.aio.secure_channel(endpoint, secret) for endpoint, secret in targets]
        try:
            puts = [method(channel, _PUT, rpc_pb2.PutResponse) for channel in channels]
            ranges = [method(channel, _RANGE, rpc_pb2.RangeResponse) for channel in channels]
            requests = [rpc_pb2.PutRequest(key=b"aio/%03d" % number, value=b"v") for number in range(300)]
            answers = await asyncio.gather(*(puts[n % 3](request, timeout=scaled(20)) for n, request in enumerate(requests)))
            assert len({answer.header.revision for answer in answers}) == 300
            assert len({answer.header.member_id for answer in answers}) == 3
            everything = rpc_pb2.RangeRequest(key=b"aio/", range_end=b"aio0", limit=250)
            for ask in ranges:
                answer = await ask(everything, timeout=scaled(20))
                assert (len(answer.kvs), answer.count, answer.more) == (250, 300, True)
            stream = method(channels[0], _STREAM, rpc_pb2.RangeStreamResponse, "unary_stream")
            merged = rpc_pb2.RangeResponse()
            async for chunk in stream(everything, timeout=scaled(20)):
                merged.MergeFrom(chunk.range_response)
            assert merged.kvs == answer.kvs
            assert (merged.count, merged.more) == (300, True)
        finally:
            await asyncio.gather(*(channel.close() for channel in channels))

    asyncio.run(run())


def test_responses_of_many_megabytes(cluster: Cluster) -> None:
    client = cluster["n2"].client
    value = bytes(range(256)) * 4096  # 1 MiB
    for number in range(8):
        client.put(b"large/%d" % number, value)
    pairs = client.all(b"large/")
    assert len(pairs) == 8
    assert all(pair.value == value for pair in pairs.values())
    client.delete(b"large/", prefix=True)


def test_a_client_without_a_certificate_is_refused(cluster: Cluster) -> None:
    member = cluster["n1"]
    assert member.credentials is not None
    only_ca = grpc.ssl_channel_credentials(member.credentials.ca.read_bytes())
    with grpc.secure_channel(member.endpoint, only_ca) as channel:
        ask = method(channel, _RANGE, rpc_pb2.RangeResponse)
        with pytest.raises(grpc.RpcError) as refused:
            ask(rpc_pb2.RangeRequest(key=b"a"), timeout=scaled(5))
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE


def test_compressed_requests_and_metadata(cluster: Cluster) -> None:
    member = cluster["n3"]
    with grpc.secure_channel(member.endpoint, secrets(member), compression=grpc.Compression.Gzip) as channel:
        put = method(channel, _PUT, rpc_pb2.PutResponse)
        ask = method(channel, _RANGE, rpc_pb2.RangeResponse)
        put(rpc_pb2.PutRequest(key=b"gzip", value=b"x" * 100_000), timeout=scaled(5), metadata=[("hasleader", "true")])
        request = rpc_pb2.RangeRequest(key=b"gzip", range_end=prefix_end(b"gzip"))
        answer = ask(request, timeout=scaled(5), metadata=[("client-api-version", "3.5.1")])
    assert answer.kvs[0].value == b"x" * 100_000
