"""What `tercet.compat.aetcd` does that the transcript beside the original does not show."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tercet.compat import aetcd
from tests.support.etcd import Etcd, running_etcd
from tests.support.waiting import scaled

pytestmark = pytest.mark.server_process


def run(etcd: Etcd, scenario: Callable[[Any, bytes], Awaitable[None]]) -> None:
    async def main() -> None:
        async with aetcd.Client("127.0.0.1", etcd.client_port, timeout=scaled(10)) as client:
            await scenario(client, f"aetcd/{uuid.uuid4().hex}/".encode())

    asyncio.run(main())


def test_calls_in_parallel_share_the_connection(shared_etcd: Etcd) -> None:
    async def scenario(client: Any, prefix: bytes) -> None:
        await asyncio.gather(*(client.put(prefix + b"%d" % number, b"v") for number in range(100)))
        assert (await client.get_prefix(prefix)).count == 100

    run(shared_etcd, scenario)


def test_a_watch_of_compacted_revisions_raises(tmp_path: Path) -> None:
    """The original waits for its timeout."""

    async def scenario(client: Any, prefix: bytes) -> None:
        for value in (b"1", b"2", b"3"):
            revision = (await client.put(prefix, value)).header.revision
        await client.compact(revision)
        with pytest.raises(aetcd.RevisionCompactedError) as raised:
            async for _ in await client.watch(prefix, start_revision=1):
                pass
        assert raised.value.compacted_revision == revision
        with pytest.raises(aetcd.RevisionCompactedError):
            await client.watch_once(prefix, start_revision=1)

    with running_etcd(tmp_path) as etcd:
        run(etcd, scenario)


def test_nothing_is_repeated_without_a_server(tmp_path: Path) -> None:
    async def scenario(client: Any, prefix: bytes) -> None:
        await client.put(prefix, b"v")
        etcd.member.stop()
        with pytest.raises(aetcd.ConnectionFailedError):
            await client.watch(prefix)
        with pytest.raises(aetcd.ConnectionFailedError):
            await client.get(prefix)

    with running_etcd(tmp_path) as etcd:
        run(etcd, scenario)


def test_closing_the_client_ends_its_watches(shared_etcd: Etcd) -> None:
    async def scenario(client: Any, prefix: bytes) -> None:
        watch = await client.watch(prefix)
        await client.close()
        assert [event async for event in watch] == []
        await watch.cancel()
        assert await client.get(prefix) is None

    run(shared_etcd, scenario)


def test_a_lock_is_handed_over_when_it_is_released(shared_etcd: Etcd) -> None:
    async def scenario(client: Any, prefix: bytes) -> None:
        first, second = client.lock(prefix), client.lock(prefix)
        assert await first.acquire()
        waiting = asyncio.create_task(second.acquire(timeout=scaled(20)))
        while await client.get_prefix(prefix) and not waiting.done() and second.revision == 0:
            await asyncio.sleep(0)
        assert await first.release()
        assert await waiting
        assert await second.is_acquired()

    run(shared_etcd, scenario)


def test_alarms_of_a_member(tmp_path: Path) -> None:
    """The original awaits a generator here, and raises TypeError."""

    async def scenario(client: Any, _: bytes) -> None:
        (member,) = [member async for member in client.members()]
        assert await member.active_alarms() == []
        await client.create_alarm(member.id)
        assert [alarm.member_id for alarm in await member.active_alarms()] == [member.id]

    with running_etcd(tmp_path) as etcd:
        run(etcd, scenario)


def test_a_user_gets_a_token(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with aetcd.Client("127.0.0.1", etcd.client_port, username="root", password="horse") as client:
            await client.put(b"k", b"v")
            assert (await client.get(b"k")).value == b"v"
        anonymous = aetcd.Client("127.0.0.1", etcd.client_port, timeout=scaled(10))
        with pytest.raises(aetcd.InvalidArgumentError, match="user name is empty"):
            await anonymous.get(b"k")
        await anonymous.close()
        with pytest.raises(aetcd.InvalidArgumentError, match="authentication failed"):
            await aetcd.Client("127.0.0.1", etcd.client_port, username="root", password="wrong").connect()

    with running_etcd(tmp_path, "--bcrypt-cost=4") as etcd:
        for words in ("user add root:horse", "user grant-role root root", "auth enable"):
            etcd.ctl(*words.split())
        asyncio.run(scenario())


def test_stubs_on_a_channel(shared_etcd: Etcd) -> None:
    async def scenario() -> None:
        channel = aetcd.rpc.insecure_channel(f"127.0.0.1:{shared_etcd.client_port}")
        answer = await aetcd.rpc.KVStub(channel).Range(aetcd.rpc.RangeRequest(key=b"none"), timeout=scaled(10))
        assert answer.count == 0
        with pytest.raises(aetcd.rpc.RpcError) as raised:
            await aetcd.rpc.KVStub(channel).Range(aetcd.rpc.RangeRequest())
        assert raised.value.details() == "etcdserver: key is not provided"
        await channel.close()

    asyncio.run(scenario())


def test_errors_made_by_programs_are_translated() -> None:
    error = aetcd.rpc.AioRpcError(aetcd.rpc.StatusCode.UNAVAILABLE, ("initial",), ("trailing",), "details", "debug")
    assert (error.details(), error.initial_metadata(), error.trailing_metadata()) == ("details", ("initial",), ("trailing",))
    assert error.debug_error_string() == "debug"

    async def scenario() -> None:
        client = aetcd.Client()
        await client.connect()

        async def fail(*_: object, **__: object) -> None:
            raise error

        client.kvstub.Range = fail
        with pytest.raises(aetcd.ConnectionFailedError, match="details"):
            await client.get(b"k")
        await client.close()

    asyncio.run(scenario())
