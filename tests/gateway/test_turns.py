"""However many requests the gateway gets together, and however large they or their answers are, no turn is long."""

from __future__ import annotations

import asyncio
import json
import threading

from tercet.gateway import Gateway
from tercet.gateway.json_encode import RESPONSE
from tercet.intake import TURN_WORK
from tercet.proto import kv_pb2, rpc_pb2
from tercet.rpc import ServerStream, UnaryCall, bidi_stream, method_table, unary
from tests.support.turns import Turns
from tests.support.waiting import scaled

PUT = "/etcdserverpb.KV/Put"
WATCH = "/etcdserverpb.Watch/Watch"
FIELDS = 250
MANY = 100


def fields(count: int) -> bytes:
    """A PutRequest with that many unknown fields."""
    return b'{"key":"YQ==",' + b",".join(b'"k%d":1' % number for number in range(count)) + b"}"


def gateway_of(turns: Turns) -> Gateway:
    def put(call: UnaryCall, message: bytes) -> None:
        turns.note()
        call.reply(b"")

    return Gateway(method_table({PUT: unary(put)}), message_bytes_max=1 << 20)


async def put_together(gateway: Gateway, bodies: list[bytes]) -> None:
    answers = await asyncio.gather(*(gateway.handle(b"POST", b"/v3/kv/put", (), body) for body in bodies))
    assert {answer[0] for answer in answers} == {200}


def test_requests_that_arrive_together_are_parsed_over_several_turns() -> None:
    async def main() -> None:
        turns = Turns()
        async with asyncio.timeout(scaled(60)):
            await put_together(gateway_of(turns), [fields(FIELDS)] * MANY)
        assert max(turns.events) <= 2 * TURN_WORK // FIELDS

    asyncio.run(main())


def test_requests_with_many_fields_are_parsed_in_one_thread() -> None:
    async def main() -> None:
        before = set(threading.enumerate())
        turns = Turns()
        async with asyncio.timeout(scaled(60)):
            await put_together(gateway_of(turns), [fields(20 * FIELDS)] * 20)
        assert len(set(threading.enumerate()) - before) == 1

    asyncio.run(main())


def test_an_answer_with_many_fields_is_converted_over_several_turns() -> None:
    async def main() -> None:
        turns = Turns()
        gateway = gateway_of(turns)
        kvs = [kv_pb2.KeyValue(key=b"%d" % number, create_revision=number) for number in range(10_000)]
        message = rpc_pb2.RangeResponse(kvs=kvs, count=len(kvs))
        async with asyncio.timeout(scaled(60)):
            text = await gateway.convert(rpc_pb2.RangeResponse, message.SerializeToString(), RESPONSE)
        assert text.count('"key"') == len(kvs)
        assert len(turns.events) > len(kvs) // TURN_WORK * 5

    asyncio.run(main())


def test_an_event_that_wakes_many_streams_is_converted_over_several_turns() -> None:
    """Nobody reads but the loop itself; each response is sent in parts of bounded size."""

    async def main() -> None:
        gate = asyncio.Event()
        event = kv_pb2.Event(kv=kv_pb2.KeyValue(key=b"k", value=bytes(100_000)))
        body = rpc_pb2.WatchResponse(events=[event] * 3).SerializeToString()
        header = rpc_pb2.WatchResponse(watch_id=7).SerializeToString()

        async def watch(stream: ServerStream) -> None:
            stream.send_now(header)
            await gate.wait()
            stream.send_parts(header, [body])

        turns = Turns()
        gateway = Gateway(method_table({WATCH: bidi_stream(watch)}), message_bytes_max=1 << 20)
        longest = 0

        async def read() -> str:
            nonlocal longest
            status, _, answer = await gateway.handle(b"POST", b"/v3/watch", (), b'{"create_request":{"key":"YQ=="}}')
            assert status == 200
            assert not isinstance(answer, bytes)
            text = ""
            async for part in answer:
                turns.note()
                longest = max(longest, len(part))
                text += part.decode()
            return text

        readers = [asyncio.create_task(read()) for _ in range(MANY)]
        await asyncio.sleep(0.1)
        gate.set()
        async with asyncio.timeout(scaled(60)):
            texts = await asyncio.gather(*readers)
        assert len(set(texts)) == 1
        first, second = (json.loads(line)["result"] for line in texts[0].splitlines())
        assert first == {"watch_id": "7"}
        assert (second["watch_id"], len(second["events"])) == ("7", 3)
        assert longest < 200_000, "one event, and not three"
        assert len(turns.events) > MANY

    asyncio.run(main())
