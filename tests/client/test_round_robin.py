"""Clients that spread their calls over all endpoints."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

import tercet
from tercet import AsyncClient
from tercet.client import methods, round_robin
from tercet.proto import rpc_pb2
from tercet.rpc import UnaryCall
from tests.client.member import Member, member, run
from tests.support.ports import free_port
from tests.support.waiting import until

RANGE, MEMBERS = methods.RANGE.path, methods.MEMBER_LIST.path


def found(call: UnaryCall, _: bytes) -> None:
    call.reply(rpc_pb2.RangeResponse(count=1).SerializeToString())


async def members(count: int, closing: AsyncExitStack) -> list[Member]:
    return [await closing.enter_async_context(member({RANGE: found})) for _ in range(count)]


def test_each_call_takes_the_next_endpoint() -> None:
    async def test() -> None:
        async with AsyncExitStack() as closing:
            three = await members(3, closing)
            client = AsyncClient([one.endpoint for one in three], balance="round-robin")
            async with client:
                for _ in range(9):
                    await client.count("a")
                await asyncio.gather(*(client.count("a") for _ in range(9)))
                assert [len(one.asked) for one in three] == [6, 6, 6]

    run(test())


def test_a_dead_endpoint_is_replaced_until_it_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(round_robin, "_RETURN_SECONDS", 0.01)
    port = free_port()

    async def test() -> None:
        async with AsyncExitStack() as closing:
            (up,) = await members(1, closing)
            async with AsyncClient([f"127.0.0.1:{port}", up.endpoint], balance="round-robin") as client:
                for _ in range(6):
                    assert await client.count("a") == 1
                assert len(up.asked) == 6
                async with member({RANGE: found}, port=port) as returned:

                    async def is_asked() -> bool:
                        await client.count("a")
                        return bool(returned.asked)

                    while not await is_asked():
                        await asyncio.sleep(0.01)
                    before = len(returned.asked), len(up.asked)
                    for _ in range(6):
                        await client.count("a")
                    assert (len(returned.asked) - before[0], len(up.asked) - before[1]) == (3, 3)
                for _ in range(6):
                    assert await client.count("a") == 1  # on the one that is left

    run(test())


def test_members_that_are_found_later_get_their_share() -> None:
    async def test() -> None:
        async with AsyncExitStack() as closing:
            others = await members(2, closing)

            def listed(call: UnaryCall, _: bytes) -> None:
                urls = [up.endpoint, *(one.endpoint for one in others)]
                found = [rpc_pb2.Member(ID=number, name="n", clientURLs=[url]) for number, url in enumerate(urls)]
                call.reply(rpc_pb2.MemberListResponse(members=found).SerializeToString())

            async with (
                member({RANGE: found, MEMBERS: listed}) as up,
                AsyncClient(up.endpoint, balance="round-robin", sync_interval=60) as client,
            ):
                await client.count("a")
                await until(lambda: len(client.endpoints) == 3)
                for _ in range(9):
                    await client.count("a")
                assert [len(one.asked) for one in others] == [3, 3]

    run(test())


def test_streams_are_spread_too() -> None:
    async def test() -> None:
        async with AsyncExitStack() as closing:
            two = await members(2, closing)
            async with AsyncClient([one.endpoint for one in two], balance="round-robin") as client:
                for _ in range(2):
                    await client.count("a")
                connector = client.channel._connector
                streams = [await client.channel.open_stream(methods.WATCH) for _ in range(2)]
                assert isinstance(connector, round_robin.RoundRobin)
                carried = [
                    [one._channel is not None and one._channel.carries(stream) for one in connector._connectors]
                    for stream in streams
                ]
                assert sorted(carried) == [[False, True], [True, False]]

    run(test())


def test_another_word_is_refused() -> None:
    with pytest.raises(tercet.ConfigurationError, match="balance is one of preferred, round-robin, not random"):
        AsyncClient("a:1", balance="random")  # type: ignore[arg-type]
    with pytest.raises(tercet.ConfigurationError):
        AsyncClient.from_url("etcd://a:1?balance=random")
