"""A server whose answers are no messages, or that cancels calls: typed errors, and streams are opened again."""

from __future__ import annotations

import asyncio

import pytest

import tercet
from tercet import AsyncClient
from tercet.client import methods
from tercet.errors import Code, StatusError
from tercet.proto import kv_pb2, rpc_pb2
from tercet.rpc import ServerStream, bidi_stream
from tests.client.member import member, run

NONSENSE = b"\xff\xff\xff"


def test_a_read_fails_and_a_write_is_indeterminate() -> None:
    async def whole() -> None:
        paths = (methods.RANGE.path, methods.PUT.path)
        answers = dict.fromkeys(paths, lambda call, _: call.reply(NONSENSE))
        async with member(answers) as server, AsyncClient(server.endpoint) as client:
            with pytest.raises(tercet.TercetError, match="failed to unmarshal"):
                await client.get("a")
            with pytest.raises(tercet.Indeterminate, match="failed to unmarshal"):
                await client.put("a", "1")

    run(whole())


def test_a_call_that_the_server_cancels_is_none_of_a_closed_client() -> None:
    async def whole() -> None:
        answers = dict.fromkeys((methods.RANGE.path, methods.PUT.path), lambda call, _: call.fail(Code.CANCELLED, "by a proxy"))
        async with member(answers) as server, AsyncClient(server.endpoint) as client:
            with pytest.raises(tercet.Unavailable, match="by a proxy"):
                await client.get("a")
            with pytest.raises(tercet.Indeterminate, match="by a proxy"):
                await client.put("a", "1")

    run(whole())


@pytest.mark.parametrize("is_cancelled", [False, True], ids=["nonsense", "cancelled"])
def test_a_watch_continues_on_a_new_stream(is_cancelled: bool) -> None:
    streams = 0

    async def handle(stream: ServerStream) -> None:
        nonlocal streams
        streams += 1
        await stream.receive()
        header = rpc_pb2.ResponseHeader(cluster_id=1, revision=5)
        await stream.send(rpc_pb2.WatchResponse(header=header, created=True).SerializeToString())
        if streams == 1:
            if is_cancelled:
                raise StatusError(Code.CANCELLED, "by a proxy")
            await stream.send(NONSENSE)
        event = kv_pb2.Event(kv=kv_pb2.KeyValue(key=b"a", mod_revision=6))
        await stream.send(rpc_pb2.WatchResponse(header=header, events=[event]).SerializeToString())
        await stream.receive()

    async def whole() -> None:
        async with (
            member({}, streams={methods.WATCH.path: bidi_stream(handle)}) as server,
            AsyncClient(server.endpoint) as client,
            client.watch("a") as watch,
        ):
            assert (await anext(watch)).revision == 6
            assert (streams, watch.resumes) == (2, 1)

    run(whole())


def test_streams_without_an_answer_are_opened_less_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    async def handle(stream: ServerStream) -> None:
        await stream.receive()
        await stream.send(NONSENSE)

    async def whole() -> None:
        streams = {methods.WATCH.path: bidi_stream(handle)}
        async with member({}, streams=streams) as server, AsyncClient(server.endpoint) as client:
            monkeypatch.setattr("tercet.client.watch.asyncio.sleep", noted)
            following = asyncio.ensure_future(anext(client.watch("a")))
            while len(pauses) < 5:
                await sleep(0.01)
            monkeypatch.undo()
            following.cancel()

    run(whole())
    assert pauses[:5] == sorted(set(pauses[:5]))
