"""One metadata field of more than 64 KiB: nghttp2's decoder cannot read it, and closes the connection.

SETTINGS_MAX_HEADER_LIST_SIZE says so beforehand. grpc-go obeys: it fails the call itself, and other calls go on. grpcio ignores
the setting: it loses the connection, and makes a new one for its next call.
"""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import grpc
import pytest

from tests.rpc import raw
from tests.rpc.harness import run, serving
from tests.rpc.raw import RawPeer
from tests.support.go import go_source
from tests.support.waiting import scaled

SETTINGS_MAX_HEADER_LIST_SIZE = 0x6


def test_the_limit_is_advertised() -> None:
    async def main() -> None:
        async with serving() as (_, port):
            peer = await RawPeer.connect(port)
            payload = await peer.expect(raw.SETTINGS)
            settings = {
                int.from_bytes(payload[at : at + 2], "big"): int.from_bytes(payload[at + 2 : at + 6], "big")
                for at in range(0, len(payload), 6)
            }
            assert settings[SETTINGS_MAX_HEADER_LIST_SIZE] == 64 << 10
            peer.close()

    run(main())


def test_grpc_go_fails_such_a_call_itself_and_its_other_calls_go_on() -> None:
    program = go_source(Path(__file__).with_name("large_metadata.go"), "google.golang.org/grpc", "v1.83.2")

    async def main() -> subprocess.CompletedProcess[str]:
        async with serving() as (_, port):
            words = [program, f"127.0.0.1:{port}"]
            return await asyncio.to_thread(subprocess.run, words, capture_output=True, text=True, timeout=scaled(60))

    outcome = run(main())
    assert outcome.stdout.splitlines() == [
        "0 OK x",
        "60000 OK x",
        "70000 Internal ",
        "2000000 Internal ",
        "the stream opened before them: <nil> X",
    ], outcome


def test_grpcio_loses_the_connection_and_its_next_call_makes_another() -> None:
    async def main() -> None:
        async with serving() as (_, port):
            await asyncio.to_thread(client, port)

    def client(port: int) -> None:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            echo = channel.unary_unary("/test.Test/Echo")
            assert echo(b"x", metadata=(("large", "~" * 60_000),), timeout=scaled(20)) == b"x"
            for _ in range(2):
                with pytest.raises(grpc.RpcError) as error:
                    echo(b"x", metadata=(("large", "~" * 70_000),), timeout=scaled(20))
                assert error.value.code() is grpc.StatusCode.UNAVAILABLE
                assert echo(b"y", timeout=scaled(20), wait_for_ready=True) == b"y"

    run(main())
