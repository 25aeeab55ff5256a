"""`tercet.ServerProcess`: a member that is killed and stopped for real."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

import tercet
from tercet.client import AsyncClient
from tercet.embed.process import ProcessFailed, ServerProcess
from tests.support.processes import ETCD
from tests.support.waiting import stretched

pytestmark = pytest.mark.server_process


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with tercet.ServerProcess() as started:
        yield started


def put(server: ServerProcess, key: str, timeout: float = 60) -> None:
    async def run() -> None:
        async with AsyncClient(server.endpoints, timeout=stretched(timeout)) as client:
            await client.put(key, "1")

    asyncio.run(run())


def test_what_is_acknowledged_survives_sigkill(server: ServerProcess) -> None:
    put(server, "a")
    endpoint, pid = server.endpoint, server.pid
    server.kill()
    assert not server.is_running
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    server.start()
    assert server.endpoint == endpoint

    async def read() -> None:
        async with AsyncClient(server.endpoints) as client:
            assert await client.count("a") == 1

    asyncio.run(read())


def test_a_stopped_process_answers_nothing_until_it_continues(server: ServerProcess) -> None:
    server.pause()
    with pytest.raises(tercet.TercetError):
        put(server, "b", timeout=0.3)
    server.resume()
    put(server, "b")


def test_a_start_that_fails_shows_the_log() -> None:
    server = tercet.ServerProcess(config={"heartbeat_interval": 1000, "election_timeout": 100})
    try:
        with pytest.raises(ProcessFailed, match="should be at least as 5 times as"):
            server.start()
    finally:
        server.close()
    assert not server.directory.exists()


def test_a_real_etcd_takes_the_same_place() -> None:
    with tercet.ServerProcess(program=[ETCD[0]], config={"unsafe_no_fsync": True}) as etcd:
        put(etcd, "a")
        assert any("3.5.1" in line for line in etcd.logs)
        etcd.stop()
        assert not etcd.is_running


def test_the_child_has_no_part_in_ctrl_c(server: ServerProcess) -> None:
    assert os.getsid(server.pid) == server.pid != os.getsid(0)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
