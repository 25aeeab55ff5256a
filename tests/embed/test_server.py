"""`tercet.Server`: a member in the caller's event loop."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import logging
import signal
import socket
import sys
import urllib.request
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

import tercet
from tercet.client import WatchStream, methods
from tercet.embed.server import Server
from tercet.errors import Code, ConfigError, StatusError
from tercet.http1.messages import Headers, Response, plain
from tercet.proto import rpc_pb2
from tercet.rpc import Channel, UnaryCall, unary, unary_async
from tercet.server.memory_storage import MemoryStorage
from tests.support.ports import free_port
from tests.support.waiting import scaled, until

Scenario = Callable[[Server], Awaitable[None]]


def run(scenario: Scenario, **arguments: object) -> None:
    async def main() -> None:
        async with asyncio.timeout(scaled(60)), Server(**arguments) as server:  # type: ignore[arg-type]
            await scenario(server)

    asyncio.run(main())


async def put(server: Server, key: bytes, value: bytes = b"1", lease: int = 0) -> rpc_pb2.PutResponse:
    async with server.client() as client:
        return await client.channel.kv.put(rpc_pb2.PutRequest(key=key, value=value, lease=lease))


async def get(server: Server, key: bytes) -> rpc_pb2.RangeResponse:
    async with server.client() as client:
        return await client.channel.kv.range(rpc_pb2.RangeRequest(key=key))


def test_it_is_a_name_of_the_package() -> None:
    assert tercet.Server is Server


def test_it_serves_a_client_and_ends_with_the_block() -> None:
    async def scenario(server: Server) -> None:
        assert server.is_running
        await server.ready()
        assert (await put(server, b"a")).header.member_id == server.member_id
        assert (await get(server, b"a")).kvs[0].value == b"1"
        assert "etcd_server_has_leader 1" in server.metrics()
        endpoint.append(server.endpoint)

    endpoint: list[str] = []
    run(scenario)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(endpoint[0].rpartition(":")[2])))


def test_an_unknown_setting_is_refused_with_the_one_that_was_meant() -> None:
    with pytest.raises(ConfigError, match="unknown setting 'quota_bytes', did you mean 'quota_backend_bytes'"):
        Server(config={"quota_bytes": 1})
    with pytest.raises(ConfigError, match='invalid value "x" for flag -snapshot-count'):
        Server(config={"snapshot_count": "x"})


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"storage": "ram"}, "storage is memory or disk, not ram"),
        ({"clock": "fake"}, "clock is real or manual, not fake"),
        ({"storage": "disk"}, "storage='disk' needs data_dir"),
    ],
)
def test_arguments_that_cannot_be_used_are_refused(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Server(**arguments)


def test_settings_reach_the_member() -> None:
    async def scenario(server: Server) -> None:
        with pytest.raises(StatusError) as refused:
            await put(server, b"a", b"v" * 2000)
        assert refused.value.message == "etcdserver: request is too large"

    run(scenario, config={"max_request_bytes": 1000, "heartbeat_interval": 50, "pre_vote": False})


def test_what_is_acknowledged_survives_a_restart_and_a_kill() -> None:
    async def scenario(server: Server) -> None:
        for number in range(50):
            await put(server, b"%d" % number)
        before = server.endpoints
        await server.restart()
        await put(server, b"more")
        await server.kill()
        assert not server.is_running
        await server.start()
        assert server.endpoints == before
        found = await get(server, b"more")
        assert (found.header.revision, found.count) == (52, 1)
        assert (await get(server, b"49")).count == 1

    run(scenario)


def test_a_disk_member_continues_in_another_server(tmp_path: Path) -> None:
    async def write(server: Server) -> None:
        await put(server, b"a")
        await server.kill()

    async def read(server: Server) -> None:
        assert (await get(server, b"a")).count == 1

    address = f"127.0.0.1:{free_port()}"
    run(write, data_dir=tmp_path / "data", listen=address)
    run(read, data_dir=tmp_path / "data", listen=address)


def test_servers_of_one_process_share_nothing() -> None:
    async def main() -> None:
        async with Server() as one, Server() as other:
            await put(one, b"a")
            assert (await get(other, b"a")).count == 0
            assert (await get(other, b"a")).header.cluster_id != (await get(one, b"a")).header.cluster_id

    asyncio.run(main())


def test_reset_forgets_keys_leases_users_alarms_and_watches() -> None:
    async def scenario(server: Server) -> None:
        async with server.client(timeout=scaled(60)) as typed, WatchStream(typed.channel) as stream:
            client = typed.channel
            watch = await stream.watch(rpc_pb2.WatchCreateRequest(key=b"a"))
            lease = await client.call(methods.LEASE_GRANT, rpc_pb2.LeaseGrantRequest(TTL=100))
            await put(server, b"a", lease=lease.ID)
            for name in ("root", "someone"):
                await client.call(methods.USER_ADD, rpc_pb2.AuthUserAddRequest(name=name, password="p"))
            await client.call(methods.USER_GRANT_ROLE, rpc_pb2.AuthUserGrantRoleRequest(user="root", role="root"))
            await client.kv.compact(rpc_pb2.CompactionRequest(revision=2))
            alarm = rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.ACTIVATE, alarm=rpc_pb2.NOSPACE)
            await client.maintenance.alarm(alarm)
            await client.call(methods.AUTH_ENABLE, rpc_pb2.AuthEnableRequest())
            with pytest.raises(StatusError):
                await get(server, b"a")
            await server.reset()
            found = await get(server, b"a")
            assert (found.header.revision, found.count) == (1, 0)
            assert not (await client.call(methods.LEASE_LEASES, rpc_pb2.LeaseLeasesRequest())).leases
            assert not (await client.call(methods.USER_LIST, rpc_pb2.AuthUserListRequest())).users
            assert not (await client.maintenance.alarm(rpc_pb2.AlarmRequest())).alarms
            responses = [response async for response in watch]
            assert responses[-1].canceled
            assert "reset" in responses[-1].cancel_reason
            assert (await put(server, b"a")).header.revision == 2
            await server.kill()
            await server.start()
            assert (await get(server, b"a")).header.revision == 2

    run(scenario, config={"bcrypt_cost": 4})


def test_a_snapshot_is_the_file_that_etcdctl_saves(tmp_path: Path) -> None:
    async def scenario(server: Server) -> None:
        await put(server, b"a key of the snapshot")
        await server.snapshot(tmp_path / "db")
        data = (tmp_path / "db").read_bytes()
        assert hashlib.sha256(data[:-32]).digest() == data[-32:]
        assert b"a key of the snapshot" in data
        assert [path.name for path in tmp_path.iterdir()] == ["db"]

    run(scenario)


def test_a_snapshot_that_fails_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "db").mkdir()  # the complete file cannot take this name

    async def scenario(server: Server) -> None:
        with pytest.raises(OSError, match="db"):
            await server.snapshot(tmp_path / "db")
        assert [path.name for path in tmp_path.iterdir()] == ["db"]

    run(scenario)


def test_own_services_and_routes_are_served_beside_etcds() -> None:
    def echo(call: UnaryCall, message: bytes) -> None:
        call.reply(message + message)

    async def later(call: UnaryCall, message: bytes) -> bytes:
        return message + message

    async def hello(method: bytes, target: bytes, headers: Headers, body: bytes) -> Response:
        return plain(200, b"hello " + target)

    async def scenario(server: Server) -> None:
        channel = Channel("127.0.0.1", int(server.endpoint.rpartition(":")[2]))
        await channel.connect()
        try:
            assert await channel.unary("/demo.Echo/Twice", b"ab") == b"abab"
            assert await channel.unary("/demo.Echo/Later", b"ab") == b"abab"
        finally:
            await channel.close()
        answer = await asyncio.to_thread(urllib.request.urlopen, f"{server.endpoint}/hello?x")
        assert answer.read() == b"hello /hello?x"
        await put(server, b"a")

    run(scenario, services={"/demo.Echo/Twice": unary(echo), "/demo.Echo/Later": unary_async(later)}, routes={"/hello": hello})


def test_a_storage_failure_ends_the_member_and_is_reported() -> None:
    async def scenario(server: Server) -> None:
        assert not server.failed.done()
        assert server.storage is not None
        server.storage.files.fail_syncs = True
        with pytest.raises(StatusError):
            await put(server, b"a")
        assert "input/output error" in str(await server.failed)

    run(scenario)


def test_nothing_global_is_changed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No signal handler, no logging configuration, and no message to a service manager that did not start this program."""
    manager = tmp_path / "notify"
    monkeypatch.setenv("NOTIFY_SOCKET", str(manager))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(manager))
        notified.setblocking(False)
        before = global_state()

        async def scenario(server: Server) -> None:
            assert "tercet" not in str(global_state()), "the loop's own handler of SIGINT is there"

        run(scenario)
        assert global_state() == before
        with pytest.raises(BlockingIOError):
            notified.recv(100)
        run(scenario, notify=True)
        assert notified.recv(100) == b"READY=1"


def global_state() -> object:
    handlers = [signal.getsignal(number) for number in signal.Signals if number not in (signal.SIGKILL, signal.SIGSTOP)]
    root = logging.getLogger()
    policy = type(asyncio.get_event_loop_policy()) if sys.version_info < (3, 14) else None  # deprecated there
    return handlers, list(root.handlers), root.level, logging.raiseExceptions, policy


def test_a_failed_start_leaves_nothing() -> None:
    async def main() -> None:
        tasks = len(asyncio.all_tasks())
        server = Server(config={"client_cert_file": "/nowhere", "cert_file": "/nowhere", "key_file": "/nowhere"})
        with pytest.raises(ConfigError):
            await server.start()
        assert not server.is_running
        server.close()
        await until(lambda: len(asyncio.all_tasks()) == tasks)

    asyncio.run(main())


def test_a_stopped_server_refuses_to_answer() -> None:
    server = Server()
    try:
        with pytest.raises(StatusError) as stopped:
            server.metrics()
        assert stopped.value.code is Code.UNAVAILABLE
    finally:
        server.close()


def test_a_member_that_is_abandoned_leaves_no_directory() -> None:
    """As in a simulation, whose members crash without a stop."""

    async def main() -> Path:
        storage = MemoryStorage()
        await storage.begin(AsyncExitStack())
        assert not storage.paths.data.exists()
        storage.paths.data.mkdir()  # as for a database that a peer sends
        return storage.paths.data

    directory = asyncio.run(main())
    gc.collect()
    assert not directory.exists()
