"""Connections of a client: addresses, proxies, renewed certificates, GOAWAY, pings, members that stop answering."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import tercet
from tercet import AsyncClient, TLSFiles
from tercet.client import methods
from tercet.client.dial import Address, interleaved, race
from tercet.client.proxy import Proxy, parse_proxy, proxy_for
from tercet.errors import ConfigError
from tercet.pki import ClusterCertificates, ensure_certificates
from tercet.proto import rpc_pb2
from tercet.rpc import UnaryCall
from tests.client.member import member, run
from tests.support.ports import free_port
from tests.support.waiting import until

RANGE = methods.RANGE.path
V4, V6 = socket.AF_INET, socket.AF_INET6


def found(call: UnaryCall, _: bytes) -> None:
    call.reply(rpc_pb2.RangeResponse(count=1).SerializeToString())


def local(port: int) -> Address:
    return Address(V4, ("127.0.0.1", port))


def test_address_families_alternate() -> None:
    given = [Address(V6, (name,)) for name in "abc"] + [Address(V4, (name,)) for name in "xy"]
    assert "".join(str(one.sockaddr[0]) for one in interleaved(given)) == "axbyc"


def test_a_refused_address_does_not_delay_the_next() -> None:
    async def test() -> None:
        async with member({}) as up:
            won = await race([local(free_port()), local(up.port)], timeout=60, delay=1000)
            assert won.getpeername()[1] == up.port
            won.close()
            with pytest.raises(ConnectionRefusedError, match="Connection refused"):
                await race([local(free_port()), local(free_port())], timeout=60)

    run(test())


def test_small_requests_are_not_held_back_for_acknowledgements() -> None:
    async def test() -> None:
        async with member({}) as up:
            made = await race([local(up.port)], timeout=60)
            assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            made.close()

    run(test())


@pytest.mark.filterwarnings("error::ResourceWarning")
def test_an_address_that_does_not_answer_is_overtaken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first address takes SYNs and never completes a handshake: its backlog is full."""

    async def test() -> None:
        full = socket.create_server(("127.0.0.1", 0), backlog=0)
        stuffing = [socket.socket() for _ in range(8)]
        for one in stuffing:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        async with member({}) as up:
            won = await race([local(full.getsockname()[1]), local(up.port)], timeout=60, delay=0.01)
            assert won.getpeername()[1] == up.port
            won.close()
            with pytest.raises(TimeoutError):
                await race([local(full.getsockname()[1])], timeout=0.05)
        for one in (*stuffing, full):
            one.close()

    run(test())


def test_names_are_resolved_at_each_dial(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with member({RANGE: found}) as old, member({RANGE: found}) as new:
            port = old.port

            async def resolve(host: str, _: int, **kwargs: object) -> list[tuple[object, ...]]:
                assert host == "db.test"
                return [(V4, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

            monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve, raising=False)
            async with AsyncClient("db.test:1") as client:
                await client.count("a")
                port = new.port
                await client.channel._connector.drop(await client.channel._connector.connected(1e9))
                await client.count("a")
            assert (old.asked, new.asked) == (["Range"], ["Range"])

    async def bounded() -> None:
        await asyncio.wait_for(test(), 60)

    asyncio.run(bounded())  # uvloop's methods cannot be replaced


@pytest.mark.parametrize(
    ("host", "variables", "proxy"),
    [
        ("db1", {}, None),
        ("db1", {"https_proxy": "http://p:3128"}, Proxy("p", 3128)),
        ("db1", {"HTTPS_PROXY": "p:3128", "http_proxy": "http://other:1"}, Proxy("p", 3128)),
        ("db1", {"grpc_proxy": "http://u:s%40@p", "https_proxy": "http://q"}, Proxy("p", 80, "dTpzQA==")),
        ("localhost", {"https_proxy": "http://p:3128"}, None),
        ("127.8.0.1", {"https_proxy": "http://p:3128"}, None),
        ("::1", {"https_proxy": "http://p:3128"}, None),
        ("db1", {"https_proxy": "http://p:3128", "no_proxy": "*"}, None),
        ("db1.x.org", {"https_proxy": "http://p:3128", "no_proxy": "a, .X.org"}, None),
        ("x.org", {"https_proxy": "http://p:3128", "NO_PROXY": "x.org:2379"}, None),
        ("x.org", {"https_proxy": "http://p:3128", "NO_PROXY": "x.org:1"}, Proxy("p", 3128)),
        ("yx.org", {"https_proxy": "http://p:3128", "NO_PROXY": "x.org"}, Proxy("p", 3128)),
        ("10.1.2.3", {"https_proxy": "http://p:3128", "NO_PROXY": "10.0.0.0/8"}, None),
        ("11.1.2.3", {"https_proxy": "http://p:3128", "no_grpc_proxy": "10.0.0.0/8", "no_proxy": "*"}, Proxy("p", 3128)),
    ],
)
def test_the_environment_names_the_proxy(host: str, variables: dict[str, str], proxy: Proxy | None) -> None:
    assert proxy_for(host, 2379, variables) == proxy


@pytest.mark.parametrize("url", ["socks5://p:1", "http://", "http://p:port"])
def test_other_proxies_are_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="proxy"):
        parse_proxy(url)


@asynccontextmanager
async def proxy_server(target: int, status: bytes) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A CONNECT proxy that answers with `status`, and leads to `target` in any case. Yields its port and the requests."""
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", target)
        writer.write(b"HTTP/1.1 " + status + b"\r\nX: y\r\n\r\n")
        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], requests
    finally:
        server.close()


def test_a_client_goes_through_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with member({RANGE: found}) as up, proxy_server(up.port, b"200 OK") as (port, requests):
            monkeypatch.setenv("https_proxy", f"http://u:p@127.0.0.1:{port}")
            async with AsyncClient("db.invalid:2379") as client:
                assert await client.count("a") == 1
            (request,) = requests
            assert request.startswith(b"CONNECT db.invalid:2379 HTTP/1.1\r\nHost: db.invalid:2379\r\n")
            assert b"Proxy-Authorization: Basic dTpw\r\n" in request
            async with (
                proxy_server(up.port, b"403 Forbidden") as (other, _),
                AsyncClient("db.invalid:1", timeout=3.0) as client,
            ):
                monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{other}")
                with pytest.raises(tercet.Timeout, match=r"refused to connect to db\.invalid:1: HTTP/1\.1 403 Forbidden"):
                    await client.count("a")

    run(test())


def certificates(directory: Path) -> ClusterCertificates:
    return ensure_certificates(directory, ["n1"])


def test_renewed_certificates_are_used_for_the_next_connection(tmp_path: Path) -> None:
    async def test() -> None:
        old, new = certificates(tmp_path / "old"), certificates(tmp_path / "new")
        ca = tmp_path / "ca.pem"
        shutil.copy(old.ca, ca)
        async with (
            member({RANGE: found}, tls=server_tls(old)) as first,
            member({RANGE: found}, tls=server_tls(new)) as second,
        ):
            endpoints = [f"https://{first.endpoint}", f"https://{second.endpoint}"]
            async with AsyncClient(endpoints, tls=TLSFiles(cacert=str(ca))) as client:
                await client.count("a")
                ca.write_text("in the middle of a renewal")
                connector = client.channel._connector
                await connector.drop(await connector.connected(1e9))
                await client.count("a")  # back at the first one, with the last usable CA
                assert (first.asked, second.asked) == (["Range"] * 2, [])
                shutil.copy(new.ca, ca)
                await connector.drop(await connector.connected(1e9))
                await client.count("a")
                assert second.asked == ["Range"]

    run(test())


def server_tls(files: ClusterCertificates) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.servers["n1"].certificate, files.servers["n1"].key)
    context.set_alpn_protocols(["h2"])
    return context


def test_calls_in_flight_end_on_the_connection_that_is_going_away() -> None:
    async def test() -> None:
        waiting: list[UnaryCall] = []

        def hold(call: UnaryCall, _: bytes) -> None:
            waiting.append(call)

        async with member({methods.PUT.path: hold, RANGE: found}) as up, AsyncClient(up.endpoint) as client:
            put = asyncio.create_task(client.put("a", "1"))
            await until(lambda: waiting)
            waiting[0].connection.drain()
            assert await client.count("a") == 1  # on a new connection
            assert waiting[0].connection is not None
            waiting[0].reply(rpc_pb2.PutResponse(header={"revision": 7}).SerializeToString())
            assert (await put).header.revision == 7

    run(test())


def test_too_many_pings_double_the_interval() -> None:
    async def test() -> None:
        def strike(call: UnaryCall, _: bytes) -> None:
            call.connection.goaway(0xB, b"too_many_pings")

        async with member({RANGE: strike}) as up, AsyncClient(up.endpoint) as client:
            connector = client.channel._connector
            before = connector._keepalive_seconds
            with pytest.raises(tercet.TercetError):
                await client.count("a", retry=tercet.Retry.OFF)
            await until(lambda: connector._keepalive_seconds == 2 * before)

    run(test())


@asynccontextmanager
async def pausable(port: int) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """The way to a member, which passes nothing on while the event is clear. Yields its endpoint, and the event."""
    flowing = asyncio.Event()
    flowing.set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await flowing.wait()
            writer.write(data)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", flowing
    finally:
        flowing.set()
        server.close()


def test_a_member_that_was_silent_for_a_whole_call_is_left() -> None:
    async def test() -> None:
        async with (
            member({RANGE: found}) as behind,
            member({RANGE: found}) as up,
            pausable(behind.port) as (paused, flowing),
            AsyncClient([paused, up.endpoint]) as client,
        ):
            await client.count("a")
            flowing.clear()
            with pytest.raises(tercet.Timeout):
                await client.count("a", timeout=0.1)
            assert await client.count("a") == 1
            assert up.asked == ["Range"]

    run(test())


def test_a_read_on_a_member_that_does_not_answer_moves_to_the_next() -> None:
    async def test() -> None:
        async with (
            member({RANGE: found}) as behind,
            member({RANGE: found}) as up,
            pausable(behind.port) as (paused, flowing),
            AsyncClient([paused, up.endpoint], timeout=None) as client,
        ):
            await client.count("a")
            flowing.clear()
            assert await client.count("a", timeout=100) == 1  # the test itself ends before
            assert up.asked == ["Range"]

    run(test())


def test_a_write_on_a_member_that_does_not_answer_waits_for_it() -> None:
    def put(call: UnaryCall, _: bytes) -> None:
        call.reply(rpc_pb2.PutResponse(header={"revision": 7}).SerializeToString())

    async def test() -> None:
        async with (
            member({RANGE: found, methods.PUT.path: put}) as behind,
            member({RANGE: found, methods.PUT.path: put}) as up,
            pausable(behind.port) as (paused, flowing),
            AsyncClient([paused, up.endpoint], timeout=60) as client,
        ):
            # A handshake that took long makes the client patient: longer than the keepalive, which ends the write.
            client.channel._connector._keepalive_seconds = 600
            await client.count("a")
            flowing.clear()
            write = asyncio.create_task(client.put("a", "1"))
            await client.count("a")  # the next member answers
            assert up.asked == ["Range"]
            assert not write.done()
            flowing.set()
            assert (await write).header.revision == 7
            assert behind.asked == ["Range", "Range", "Put"] or behind.asked == ["Range", "Put", "Range"]
            assert "Put" not in up.asked

    run(test())


def test_an_open_client_leaves_no_descriptor_after_it_is_closed() -> None:
    async def test() -> None:
        absent = [free_port() for _ in range(5)]  # before the count: a new block of ports has a lock file
        async with member({RANGE: found}) as up:
            before = len(os.listdir("/proc/self/fd"))
            for port in absent:
                async with AsyncClient([f"127.0.0.1:{port}", up.endpoint]) as client:
                    await client.count("a")
            await until(lambda: len(os.listdir("/proc/self/fd")) <= before)

    run(test())
