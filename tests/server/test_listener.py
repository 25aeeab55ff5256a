"""Sockets of a listener, and dispatch of connections by their first bytes, under both event loops."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tercet.errors import ConfigError
from tercet.gotext.urls import parse_urls
from tercet.intake import TURN_WORK
from tercet.server.client_listeners import server_options
from tercet.server.listener import PREFACE, Listener, Services, open_addresses
from tests.config.configured import config
from tests.server.listening import SERVICES, Scenario, answers, listening
from tests.support.ports import free_port
from tests.support.turns import Turns
from tests.support.wire import Wire


def test_first_bytes_select_the_protocol_without_tls(run: Callable[[Scenario], None]) -> None:
    async def scenario() -> None:
        listener, port = listening()
        await listener.start()
        assert await answers(port, PREFACE + b"more") == b"grpc:" + PREFACE + b"more;"
        assert await answers(port, PREFACE[:3], PREFACE[3:10], PREFACE[10:]) == b"grpc:" + PREFACE + b";"
        assert await answers(port, b"GET / HTTP/1.1\r\n") == b"plain:GET / HTTP/1.1\r\n;"
        assert await answers(port, b"PRI", b" / HTTP/1.1") == b"plain:PRI / HTTP/1.1;"
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for part in (b"x", b"y"):
            writer.write(part)
            assert await reader.readuntil(b";") == b"plain:" + part + b";"
        writer.close()
        listener.stop()

    run(scenario)


def test_no_time_for_the_answer_to_a_ping_stands_for_grpcs_own() -> None:
    """As in etcd, whose help says "0 to disable": a client that must answer at once would lose its connection."""
    ends = server_options(config("--grpc-keepalive-interval=10s", "--grpc-keepalive-timeout=0"))
    assert (ends.keepalive_interval_seconds, ends.keepalive_timeout_seconds) == (7200, 20)
    given = server_options(config("--grpc-keepalive-interval=10s", "--grpc-keepalive-timeout=3s"))
    assert (given.keepalive_interval_seconds, given.keepalive_timeout_seconds) == (10, 3)


def test_no_minimum_between_pings_stands_for_grpcs_own() -> None:
    assert server_options(config("--grpc-keepalive-min-time=0")).keepalive_min_seconds == 300
    assert server_options(config("--grpc-keepalive-min-time=1s")).keepalive_min_seconds == 1


def test_a_connection_for_a_protocol_that_is_not_served_is_closed(run: Callable[[Scenario], None]) -> None:
    async def scenario() -> None:
        listener, port = listening(services=Services(SERVICES.grpc, None, None))
        await listener.start()
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await answers(port, b"GET / HTTP/1.1\r\n")
        assert (await answers(port, PREFACE)).startswith(b"grpc:")
        listener.stop()

    run(scenario)


@pytest.mark.parametrize("endpoint", ["client", "peer"])
def test_clients_leave_descriptors_for_files_and_peers(
    run: Callable[[Scenario], None], endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        (address,) = open_addresses(parse_urls("http://127.0.0.1:0"))
        listener = Listener(address, SERVICES, endpoint=endpoint)
        await listener.start()
        monkeypatch.setattr(resource, "getrlimit", lambda which: (8, 8))
        if endpoint == "client":
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await answers(address.port, PREFACE)
        else:
            assert (await answers(address.port, PREFACE)).startswith(b"grpc:")
        listener.stop()

    run(scenario)


def test_connections_that_begin_together_are_taken_over_several_turns(run: Callable[[Scenario], None]) -> None:
    async def scenario() -> None:
        turns = Turns()

        def begin(first: bytes) -> asyncio.Protocol:
            turns.note()
            return asyncio.Protocol()

        listener, _ = listening(services=Services(begin, begin, None))
        wires = [Wire() for _ in range(1000)]
        for wire in wires:
            protocol = listener._plain()
            protocol.connection_made(wire)
            protocol.data_received(PREFACE)
        assert not wires[-1].is_reading_now
        wires[-1].abort()
        while sum(turns.events) < 999:
            await asyncio.sleep(0)
        assert max(turns.events) <= TURN_WORK // 4
        await asyncio.sleep(0)
        assert sum(turns.events) == 999, "nothing is made for a lost connection"
        assert all(wire.is_reading_now for wire in wires[:-1])
        listener.stop()

    run(scenario)


def test_connections_before_start_are_served_after_it(run: Callable[[Scenario], None]) -> None:
    async def scenario() -> None:
        listener, port = listening()
        early = asyncio.ensure_future(answers(port, b"GET early"))
        await asyncio.sleep(0.05)
        assert not early.done()
        await listener.start()
        assert await early == b"plain:GET early;"
        listener.stop()

    run(scenario)


def test_a_bound_address_refuses_connections_until_it_listens(run: Callable[[Scenario], None]) -> None:
    async def scenario() -> None:
        (address,) = open_addresses(parse_urls("http://127.0.0.1:0"), listen=False)
        with pytest.raises(OSError, match=r"refused|Connect call failed"):
            await asyncio.open_connection("127.0.0.1", address.port)
        listener = Listener(address, SERVICES)
        await listener.start()
        assert await answers(address.port, b"GET") == b"plain:GET;"
        listener.stop()

    run(scenario)


def test_an_address_taken_before_it_listens_is_a_config_error(run: Callable[[Scenario], None]) -> None:
    async def scenario() -> None:
        (first,) = open_addresses(parse_urls("http://127.0.0.1:0"), listen=False)
        (second,) = open_addresses(parse_urls(f"http://127.0.0.1:{first.port}"), listen=False)
        one, other = Listener(first, SERVICES), Listener(second, SERVICES)
        await one.start()
        with pytest.raises(ConfigError, match=f"listen tcp 127.0.0.1:{first.port}: bind: address already in use"):
            await other.start()
        one.stop()
        other.stop()

    run(scenario)


def test_a_stopped_listener_keeps_open_connections(run: Callable[[Scenario], None]) -> None:
    async def scenario() -> None:
        listener, port = listening()
        await listener.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"one")
        await reader.readuntil(b";")
        listener.stop()
        writer.write(b"two")
        assert await reader.readuntil(b";") == b"plain:two;"
        with pytest.raises(OSError, match=r"refused|Connect call failed"):
            await asyncio.open_connection("127.0.0.1", port)
        writer.close()

    run(scenario)


def test_unix_sockets(run: Callable[[Scenario], None], tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("left behind")

    async def scenario() -> None:
        listener, _ = listening(f"unix://{path}")
        await listener.start()
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(b"GET /")
        assert await reader.readuntil(b";") == b"plain:GET /;"
        writer.close()
        listener.stop()
        assert not path.exists()
        listener.stop()

    run(scenario)


def test_a_unix_socket_that_another_process_has_bound_since_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    (ours,) = open_addresses(parse_urls(f"unix://{path}"))
    (theirs,) = open_addresses(parse_urls(f"unix://{path}"))
    ours.close()
    assert path.is_socket()
    theirs.close()
    assert not path.exists()
    with pytest.raises(ConfigError):
        open_addresses(parse_urls(f"unix://{path},http://192.0.2.1:1"))
    assert not path.exists()


def test_an_ipv4_mapped_address_is_bound_as_ipv4() -> None:
    (address,) = open_addresses(parse_urls("http://[::ffff:127.0.0.1]:0"))
    with address.socket, socket.create_connection(("127.0.0.1", address.port)):
        pass


def test_a_failed_bind_has_gos_text_and_closes_the_other_sockets() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port()))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"^listen tcp 127.0.0.1:{port}: bind: address already in use$"):
            open_addresses(parse_urls(f"http://localhost:{port}"))
    with pytest.raises(ConfigError, match=r"^listen tcp 192.0.2.1:1: bind: cannot assign requested address$"):
        open_addresses(parse_urls(f"http://127.0.0.1:{port},http://192.0.2.1:1"))
    for address in open_addresses(parse_urls(f"http://127.0.0.1:{port}")):
        address.socket.close()
    with pytest.raises(ConfigError, match="invalid port"):
        open_addresses(parse_urls("http://127.0.0.1:99999"))


def test_a_port_is_shared_only_with_socket_reuse_port() -> None:
    (first,) = open_addresses(parse_urls("http://127.0.0.1:0"), reuse_port=True)
    urls = parse_urls(f"http://127.0.0.1:{first.port}")
    (second,) = open_addresses(urls, reuse_port=True)
    with pytest.raises(ConfigError, match="address already in use"):
        open_addresses(urls)
    first.socket.close()
    second.socket.close()


def test_the_path_of_a_unix_socket_that_is_too_long_is_an_invalid_argument(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 120)
    with pytest.raises(ConfigError, match=r"^listen unix .*/x+: bind: invalid argument$"):
        open_addresses(parse_urls(f"unix://{path}"))
