"""A connection that the server ends leaves the client what was sent before, also when the client is still sending."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tercet.rpc import Server
from tests.rpc import raw
from tests.rpc.harness import run, serving
from tests.rpc.raw import PREFACE, frame
from tests.support.waiting import until

HELLO = PREFACE + frame(raw.SETTINGS, 0, 0)
GOODBYE = frame(raw.GOAWAY, 0, 0, bytes(8))
PING = frame(raw.PING, 0, 0, bytes(8))


@asynccontextmanager
async def ended_connection(more: bytes = b"") -> AsyncIterator[tuple[Server, socket.socket]]:
    """A client that has sent GOAWAY without an open stream, then `more`; after the GOAWAY the server has ended its side."""
    loop = asyncio.get_running_loop()
    async with serving() as (server, port):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.setblocking(False)
            await loop.sock_sendall(client, HELLO)
            await until(lambda: bool(server.connections))
            (connection,) = server.connections
            await loop.sock_sendall(client, GOODBYE + more)
            await until(lambda: connection.closing)
            yield server, client


async def read_all(client: socket.socket) -> bytes:
    parts = []
    while part := await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 65536), 60):
        parts.append(part)
    return b"".join(parts)


def test_a_client_that_still_sends_reads_the_end_and_no_reset() -> None:
    async def main() -> None:
        # More than the server reads at a time: bytes are left unread when it ends the connection.
        async with ended_connection(PING * 40_000) as (server, client):
            received = await read_all(client)
            assert received[3] == raw.SETTINGS
            client.close()
            await until(lambda: not server.connections)

    run(main())


def test_a_client_that_does_not_hang_up_is_left_after_a_while() -> None:
    async def main() -> None:
        async with ended_connection() as (server, client):
            await read_all(client)
            await until(lambda: not server.connections)

    run(main())


def test_closing_the_server_waits_for_no_client() -> None:
    async def main() -> None:
        async with ended_connection() as (server, _):
            server.disconnect()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert not server.connections

    run(main())


def test_a_client_that_resets_the_connection_costs_the_drain_nothing() -> None:
    async def main() -> None:
        async with serving() as (server, port):
            client = socket.create_connection(("127.0.0.1", port))
            await until(lambda: bool(server.connections))
            client.recv(4096)
            client.close()  # the server's loop does not see the FIN before its next turn, and the GOAWAY below meets RST
            (connection,) = server.connections
            connection.drain()
            await until(lambda: not server.connections)

    run(main(), asyncio.new_event_loop)  # asyncio's own transport, unlike uvloop's, raises
