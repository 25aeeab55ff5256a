"""Large answers as JSON that their clients do not read: what they hold is bounded, and other clients get theirs."""

from __future__ import annotations

import asyncio
import socket

from tercet.client_memory import STUCK_SECONDS, ClientMemory
from tercet.gateway import Gateway
from tercet.http1.protocol import HttpProtocol
from tercet.proto import kv_pb2, rpc_pb2
from tercet.rpc import UnaryCall, method_table, unary
from tests.gateway.test_gateway import RANGE, run
from tests.support.waiting import settled, until

MEGABYTE = 1 << 20
REQUEST = b'POST /v3/kv/range HTTP/1.1\r\nHost: a\r\nContent-Length: 14\r\n\r\n{"key":"YWFh"}'
# More than the buffers of two sockets take.
ANSWER = rpc_pb2.RangeResponse(kvs=[kv_pb2.KeyValue(key=b"a", value=bytes(MEGABYTE)) for _ in range(8)]).SerializeToString()


def test_who_does_not_read_a_large_answer_is_closed_when_others_need_the_memory() -> None:
    """200 connections that asked for 16 MB each and read nothing held 3.2 GB, for five minutes."""

    def large(call: UnaryCall, message: bytes) -> None:
        call.reply(ANSWER)

    async def test() -> None:
        loop = asyncio.get_running_loop()
        replies = ClientMemory(loop, full_bytes=20 * MEGABYTE, bytes_max=64 * MEGABYTE)
        gateway = Gateway(method_table({RANGE: unary(large)}), message_bytes_max=MEGABYTE)
        server = await loop.create_server(lambda: HttpProtocol(gateway.handle, memory=replies), "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        slow = [await asyncio.open_connection(*address, limit=1 << 10) for _ in range(3)]
        for _, writer in slow:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
            writer.write(REQUEST)
        await until(lambda: replies.bytes == 3 * len(ANSWER))
        await settled(lambda: sum(count.taken + count.less_at for count in replies._counts.values()))
        for count in replies._counts.values():
            count.less_at -= STUCK_SECONDS
        replies._look_at = 0.0
        reader, writer = await asyncio.open_connection(*address)
        writer.write(REQUEST.replace(b"Host", b"Connection: close\r\nHost"))
        assert len(await reader.read(-1)) > len(ANSWER)
        await until(lambda: replies.bytes <= 10 * MEGABYTE)
        for _, unread in (*slow, (reader, writer)):
            unread.close()
        server.close()
        await server.wait_closed()

    run(test)
