"""Events that are buffered as they arrive, without waking the task that reads the stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tercet.client import WatchStream
from tercet.proto import kv_pb2, rpc_pb2
from tests.client.member import run

CLUSTER = 7


class OneStream:
    """A channel, and its stream: `arrive` is called where a connection would. woken: messages that the reader got."""

    def __init__(self) -> None:
        self.offer: Callable[[bytes], bool] = lambda message: False
        self.sent: list[rpc_pb2.WatchRequest] = []
        self.woken = 0
        self._messages: asyncio.Queue[bytes] = asyncio.Queue()

    async def open_stream(self, *arguments: object, **options: object) -> Any:
        self._messages = asyncio.Queue()
        return self

    async def __aenter__(self) -> OneStream:
        return self

    async def __aexit__(self, *error: object) -> None: ...

    def __aiter__(self) -> OneStream:
        return self

    async def __anext__(self) -> bytes:
        message = await self._messages.get()
        self.woken += 1
        return message

    def handle_at_once(self, handle: Callable[[bytes], bool]) -> None:
        self.offer = handle

    def send_now(self, message: bytes) -> bool:
        self.sent.append(rpc_pb2.WatchRequest.FromString(message))
        return True

    def arrive(self, response: rpc_pb2.WatchResponse) -> bool:
        """Returns whether it was handled at once."""
        response.header.cluster_id = response.header.cluster_id or CLUSTER
        message = response.SerializeToString()
        is_handled = self.offer(message)
        if not is_handled:
            self._messages.put_nowait(message)
        return is_handled


def changes(revision: int, **fields: Any) -> rpc_pb2.WatchResponse:
    return rpc_pb2.WatchResponse(events=[kv_pb2.Event(kv=kv_pb2.KeyValue(key=b"a", mod_revision=revision))], **fields)


async def watched(stream: OneStream) -> tuple[WatchStream, Any]:
    watches = WatchStream(stream)
    watch = watches.add(rpc_pb2.WatchCreateRequest(key=b"a", start_revision=1))
    await asyncio.sleep(0.01)
    assert not stream.arrive(rpc_pb2.WatchResponse(created=True))
    assert await watch.created()
    return watches, watch


def test_events_are_buffered_at_once_and_the_rest_is_for_the_reader() -> None:
    async def test() -> None:
        stream = OneStream()
        watches, watch = await watched(stream)
        assert all(stream.arrive(changes(revision)) for revision in range(2, 9))
        assert [(await anext(watch)).events[0].kv.mod_revision for _ in range(7)] == list(range(2, 9))
        assert stream.woken == 1
        assert not stream.arrive(rpc_pb2.WatchResponse(canceled=True, compact_revision=5))
        assert (await anext(watch)).compact_revision == 5
        await watches.close()

    run(test())


def test_another_cluster_is_for_the_reader() -> None:
    async def test() -> None:
        stream = OneStream()
        watches, watch = await watched(stream)
        other = changes(2)
        other.header.cluster_id = CLUSTER + 1
        assert not stream.arrive(other)
        assert (await anext(watch)).canceled
        await watches.close()

    run(test())


def test_what_does_not_parse_is_for_the_reader() -> None:
    async def test() -> None:
        stream = OneStream()
        watches, _ = await watched(stream)
        assert not stream.offer(b"\xff")
        await watches.close()

    run(test())


@pytest.mark.parametrize("ends", ["close", "break"])
def test_what_arrives_for_a_watch_that_has_ended_asks_nothing_of_the_next_stream(ends: str) -> None:
    async def test() -> None:
        stream = OneStream()
        watches, watch = await watched(stream)
        if ends == "close":
            watch.close()
        else:
            del watch
            await asyncio.sleep(0)
        stream.arrive(changes(2))  # the reader of the stream is cancelled, and has not run since
        stream.sent.clear()
        second = watches.add(rpc_pb2.WatchCreateRequest(key=b"b", start_revision=1))
        await asyncio.sleep(0.01)
        assert [request.WhichOneof("request_union") for request in stream.sent] == ["create_request"]
        second.close()
        await watches.close()

    run(test())
