"""`inprocess://`: a client in the server's event loop gets what it would get over a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

import tercet
from tercet.client import AsyncClient
from tercet.embed.server import Server
from tercet.rpc import Method
from tests.support.waiting import scaled, until

Scenario = Callable[[Server], Awaitable[None]]


def run(scenario: Scenario, **arguments: object) -> None:
    async def main() -> None:
        async with asyncio.timeout(scaled(60)), Server(**arguments) as server:  # type: ignore[arg-type]
            await scenario(server)

    asyncio.run(main())


def test_no_socket_is_used() -> None:
    async def scenario(server: Server) -> None:
        assert server.member is not None
        assert server.member.rpc_server is not None
        async with AsyncClient(server.inprocess_endpoint) as client:
            assert client.endpoints == [server.inprocess_endpoint]
            await client.put("a", "1")
            found = await client.get("a")
            assert found is not None
            assert found.text() == "1"
            assert not server.member.rpc_server.connections

    run(scenario)


def test_a_watch_gets_its_events_and_resumes_after_a_break() -> None:
    async def scenario(server: Server) -> None:
        async with server.client() as client, client.watch("a") as watch:
            await client.put("a", "1")
            assert [event.value for event in await anext(watch)] == [b"1"]
            disconnect(server)
            await client.put("a", "2", retry=tercet.Retry.ALWAYS)
            assert [event.value for event in await anext(watch)] == [b"2"]

    run(scenario)


def test_a_lease_is_kept_alive_and_its_keys_go_with_it() -> None:
    async def scenario(server: Server) -> None:
        async with server.client() as client:
            async with client.lease(3) as lease:
                await client.put("leased", "1", lease=lease)
                renewals = method(server, "/etcdserverpb.Lease/LeaseKeepAlive")
                await until(lambda: renewals.sent >= 1, what="the lease has been renewed")
                assert await client.get("leased") is not None
            assert await client.get("leased") is None

    run(scenario)


def outcome(error: tercet.TercetError) -> tuple[type[tercet.TercetError], object, str]:
    return type(error), error.code, str(error)


REFUSED: dict[str, Callable[[AsyncClient], Awaitable[object]]] = {
    "an empty key": lambda client: client.put("", "1"),
    "a future revision": lambda client: client.get("a", revision=1000),
    "an unknown lease": lambda client: client.put("a", "1", lease=77),
    "a request beyond the server's limit": lambda client: client.put("a", b"v" * 5000),
    "a request beyond the transport's limit": lambda client: client.put("a", b"v" * 700_000),
    "a watch of a compacted revision": lambda client: first_of(client),
}


async def first_of(client: AsyncClient) -> object:
    async with client.watch("a", since=1) as watch:
        return await anext(watch)


@pytest.mark.parametrize("what", REFUSED)
def test_an_error_is_the_same_as_over_a_socket(what: str) -> None:
    async def scenario(server: Server) -> None:
        async with server.client() as client:
            await client.put("a", "1")
            await client.compact((await client.put("a", "2")).header.revision)
        outcomes = []
        for endpoint in (server.inprocess_endpoint, server.endpoint):
            async with AsyncClient(endpoint) as client:
                with pytest.raises(tercet.TercetError) as refused:
                    await REFUSED[what](client)
                outcomes.append(outcome(refused.value))
        assert outcomes[0] == outcomes[1]

    run(scenario, config={"max_request_bytes": 4000})


def test_an_answer_beyond_the_clients_limit_is_refused_alike() -> None:
    async def scenario(server: Server) -> None:
        outcomes = []
        for endpoint in (server.inprocess_endpoint, server.endpoint):
            async with AsyncClient(endpoint, response_bytes_max=1000) as client:
                await client.put("a", b"v" * 2000)
                with pytest.raises(tercet.TercetError) as refused:
                    await client.get("a")
                outcomes.append(outcome(refused.value)[:2])
        assert outcomes[0] == outcomes[1]

    run(scenario)


def test_permissions_and_tokens_hold() -> None:
    async def scenario(server: Server) -> None:
        async with server.client(timeout=scaled(60)) as root:
            await root.auth.add_user("root", "secret")
            await root.auth.grant_role("root", "root")
            await root.auth.add_user("reader", "words")
            await root.auth.enable()
        async with server.client() as nobody:
            with pytest.raises(tercet.TercetError, match="user name is empty"):
                await nobody.get("a")
        async with server.client(user="reader", password="words", timeout=scaled(60)) as reader:
            with pytest.raises(tercet.PermissionDenied):
                await reader.get("a")
        async with server.client(user="root", password="secret", timeout=scaled(60)) as root:
            await root.put("a", "1")
            assert server.member is not None
            server.member.replica.state_machine.auth.tokens.revoke_all()
            await root.put("a", "2")  # with a token of its own accord

    run(scenario, config={"bcrypt_cost": 4})


def test_a_call_that_takes_too_long_ends_by_its_deadline() -> None:
    async def scenario(server: Server) -> None:
        assert server.storage is not None
        async with server.client() as client:
            await client.put("a", "1")
            server.storage.sync_seconds = 3600.0
            with pytest.raises((tercet.Timeout, tercet.Indeterminate)):
                await client.put("a", "2", timeout=0.1)
            server.storage.sync_seconds = 0.0

    run(scenario)


def test_a_stopped_server_fails_calls_and_the_next_start_serves_them() -> None:
    async def scenario(server: Server) -> None:
        async with server.client() as client:
            await client.put("a", "1")
            await server.stop()
            with pytest.raises(tercet.TercetError):
                await client.get("a", timeout=1.0)
            await server.start()
            found = await client.get("a")
            assert found is not None

    run(scenario)


def test_an_unknown_name_and_another_loop_say_so() -> None:
    async def nobody() -> None:
        async with AsyncClient("inprocess://nobody", timeout=1.0) as client:
            with pytest.raises(tercet.TercetError, match="no server in this process is named nobody"):
                await client.get("a")

    asyncio.run(nobody())

    async def elsewhere(endpoint: str) -> None:
        async with AsyncClient(endpoint, timeout=1.0) as client:
            with pytest.raises(tercet.TercetError, match="runs in another event loop, or thread: use its endpoint"):
                await client.get("a")

    with Server.start_in_thread() as server:
        asyncio.run(elsewhere(server.server.inprocess_endpoint))


def test_a_loop_of_reads_leaves_turns_to_others() -> None:
    async def scenario(server: Server) -> None:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        async with server.client() as client:
            for _ in range(100):
                await client.get("a", serializable=True)
        counting.cancel()
        assert turns >= 100

    run(scenario)


def test_a_cancelled_call_leaves_nothing_behind() -> None:
    async def scenario(server: Server) -> None:
        assert server.storage is not None
        async with server.client() as client:
            await client.put("a", "1")
            connection = client.channel._connector._channel
            server.storage.sync_seconds = 3600.0
            waiting = asyncio.create_task(client.put("a", "2", timeout=None))
            assert connection is not None
            await until(lambda: connection.open_calls == 1)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert connection.open_calls == 0
            server.storage.sync_seconds = 0.0

    run(scenario)


def disconnect(server: Server) -> None:
    assert server.member is not None
    assert server.member.rpc_server is not None
    server.member.rpc_server.disconnect()


def method(server: Server, path: str) -> Method:
    assert server.member is not None
    assert server.member.rpc_server is not None
    return server.member.rpc_server.methods[path.encode()]
