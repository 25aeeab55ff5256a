"""The address from which a member dials its peers."""

from __future__ import annotations

import asyncio

import pytest

from tercet.http1.client import HttpClient
from tercet.http1.origin import parse_origin
from tercet.server.dial_address import dial_address
from tests.config.configured import config

GATE = "--feature-gates=SetMemberLocalAddr=true"


def advertised(*hosts: str) -> str:
    return "--initial-advertise-peer-urls=" + ",".join(f"http://{host}:2380" for host in hosts)


def chosen(*flags: str) -> str:
    return dial_address(config("--name=n1", *flags, "--initial-cluster=" + cluster_of(flags[0])))


def cluster_of(flag: str) -> str:
    return ",".join(f"n1={url}" for url in flag.partition("=")[2].split(","))


@pytest.mark.parametrize(
    ("hosts", "address"),
    [
        (("127.0.0.1", "10.0.0.7", "10.0.0.8"), "10.0.0.7"),
        (("[::1]", "[2001:db8::1]"), "2001:db8::1"),
        (("m.example.com", "10.0.0.7"), "10.0.0.7"),
        (("127.0.0.1", "m.example.com"), ""),
    ],
)
def test_the_first_address_that_others_can_reach_is_the_source(hosts: tuple[str, ...], address: str) -> None:
    assert chosen(advertised(*hosts), GATE) == address


def test_without_the_gate_the_system_chooses() -> None:
    assert chosen(advertised("10.0.0.7")) == ""


@pytest.mark.parametrize("local", ["127.0.0.1", "127.0.0.3"])
def test_a_connection_comes_from_the_chosen_address(local: str) -> None:
    sources: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sources.append(writer.get_extra_info("peername")[0])
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    async def scenario() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        client = HttpClient(local_address=local)
        origin = parse_origin(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        async with server:
            await client.request(origin, "GET", "/", {}, timeout=60)
            await client.close()

    asyncio.run(scenario())
    assert sources == [local]
