"""Our client against the real etcd: Put, Range, a Watch stream, a Snapshot stream, and its errors."""

from __future__ import annotations

import pytest

from tercet.errors import Code
from tercet.proto import kv_pb2, rpc_pb2
from tercet.rpc import Channel, RpcError
from tests.rpc.harness import run
from tests.rpc.raw import Asker, grpc_head
from tests.support.etcd import Etcd
from tests.support.waiting import scaled, until


@pytest.fixture
def etcd_port(shared_etcd: Etcd) -> int:
    return shared_etcd.client_port


async def connected(port: int) -> Channel:
    channel = Channel("127.0.0.1", port)
    await channel.connect()
    return channel


def test_put_and_range(etcd_port: int) -> None:
    async def main() -> None:
        channel = await connected(etcd_port)
        for number in range(50):
            request = rpc_pb2.PutRequest(key=b"k%02d" % number, value=b"v" * number)
            await channel.unary("/etcdserverpb.KV/Put", request.SerializeToString(), timeout=scaled(5))
        request = rpc_pb2.RangeRequest(key=b"k", range_end=b"l")
        answer = rpc_pb2.RangeResponse.FromString(await channel.unary("/etcdserverpb.KV/Range", request.SerializeToString()))
        assert [(kv.key, len(kv.value)) for kv in answer.kvs] == [(b"k%02d" % number, number) for number in range(50)]
        with pytest.raises(RpcError) as error:
            await channel.unary("/etcdserverpb.KV/Put", b"")
        assert (error.value.code, error.value.message) == (Code.INVALID_ARGUMENT, "etcdserver: key is not provided")
        await channel.close()

    run(main())


def test_watch(etcd_port: int) -> None:
    async def main() -> None:
        channel = await connected(etcd_port)
        async with channel.stream("/etcdserverpb.Watch/Watch") as watch:
            create = rpc_pb2.WatchRequest(create_request=rpc_pb2.WatchCreateRequest(key=b"w", range_end=b"x"))
            await watch.send(create.SerializeToString())
            assert rpc_pb2.WatchResponse.FromString(await watch.receive() or b"").created
            for number in range(20):
                put = rpc_pb2.PutRequest(key=b"w%d" % number, value=b"x")
                await channel.unary("/etcdserverpb.KV/Put", put.SerializeToString())
            seen: list[kv_pb2.Event] = []
            while len(seen) < 20:
                seen += rpc_pb2.WatchResponse.FromString(await watch.receive() or b"").events
            assert [event.kv.key for event in seen] == [b"w%d" % number for number in range(20)]
        await until(lambda: channel.open_calls == 0)
        await channel.close()

    run(main())


def test_snapshot(etcd_port: int) -> None:
    async def main() -> None:
        channel = await connected(etcd_port)
        put = rpc_pb2.PutRequest(key=b"big", value=bytes(1_400_000))
        for _ in range(3):
            await channel.unary("/etcdserverpb.KV/Put", put.SerializeToString())
        stream = channel.stream("/etcdserverpb.Maintenance/Snapshot")
        await stream.send(b"")
        stream.half_close()
        size = remaining = 0
        async for message in stream:
            part = rpc_pb2.SnapshotResponse.FromString(message)
            size += len(part.blob)
            remaining = part.remaining_bytes
        assert remaining == 0
        assert size > 3 * 1_400_000
        await channel.close()

    run(main())


def test_unknown_methods_get_etcds_status_texts(etcd_port: int) -> None:
    """The texts of test_grpcio_clients and test_misuse, where this version of etcd has them."""

    async def main() -> None:
        asker = await Asker.connect(etcd_port)
        for path, text in (
            (b"/etcdserverpb.KV/Nothing", b"unknown method Nothing for service etcdserverpb.KV"),
            (b"/test.Nobody/Echo", b"unknown service test.Nobody"),
            (b"/Echo", b'malformed method name: "/Echo"'),
        ):
            answer = await asker.ask(grpc_head(path), b"\0\0\0\0\0")
            assert answer.headers[b"grpc-message"] == text
            # This etcd's grpc-go answers RESOURCE_EXHAUSTED to a path without a service; later ones, and we, UNIMPLEMENTED.
            assert answer.headers[b"grpc-status"] == (b"8" if path == b"/Echo" else b"12")
        limit = 1572864 + 524288
        oversize = b"\0" + (limit + 1).to_bytes(4, "big")
        answer = await asker.ask(grpc_head(b"/etcdserverpb.KV/Put"), oversize)
        status = answer.headers | answer.trailers
        assert status[b"grpc-status"] == b"8"
        assert status[b"grpc-message"] == b"grpc: received message larger than max (%d vs. %d)" % (limit + 1, limit)
        for body, code, text in (
            (b"\1\0\0\0\2ab", b"13", b"grpc: compressed flag set with identity or empty encoding"),
            (b"\2\0\0\0\2ab", b"13", b"grpc: received unexpected payload format 2"),
        ):
            answer = await asker.ask(grpc_head(b"/etcdserverpb.KV/Put"), body)
            status = answer.headers | answer.trailers
            assert (status[b"grpc-status"], status[b"grpc-message"]) == (code, text)
        asker.close()

    run(main())
