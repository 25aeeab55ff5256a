"""A member in memory gives the same responses as one on disk: random histories, snapshots of both, restarts and kills."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

import tercet
from tercet.embed.threaded import ThreadedServer
from tercet.proto import rpc_pb2
from tests.differential.twins import Twins, ask
from tests.differential.wild import wild_request
from tests.mvcc.histories import Histories
from tests.support.client import Client
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ThreadedServer, ThreadedServer]]:
    directory = tmp_path_factory.mktemp("disk")
    with (
        tercet.Server.start_in_thread(data_dir=directory / "data") as disk,
        tercet.Server.start_in_thread() as memory,
    ):
        yield disk, memory


@pytest.fixture(scope="module")
def twins(servers: tuple[ThreadedServer, ThreadedServer]) -> Iterator[Twins]:
    disk, memory = (Client(server.endpoint.removeprefix("http://")) for server in servers)
    yield Twins(disk, memory)
    disk.close()
    memory.close()


@pytest.mark.parametrize("seed", range(4))
def test_random_histories_get_the_same_responses(twins: Twins, seed: int) -> None:
    histories = Histories(5000 + seed)
    for step in range(150):
        histories.revision, histories.compacted = twins.revision, twins.compacted
        compare(twins, histories.request())
        if step % 25 == 0:
            compare_hashes(twins)


@pytest.mark.parametrize("seed", range(2))
def test_random_requests_get_the_same_responses(twins: Twins, seed: int) -> None:
    chance = random.Random(9000 + seed)
    for _ in range(150):
        compare(twins, wild_request(chance, twins.revision))
    compare_hashes(twins)


def test_they_stay_equal_after_restarts_and_kills(twins: Twins, servers: tuple[ThreadedServer, ThreadedServer]) -> None:
    histories = Histories(6000)
    for step in range(60):
        histories.revision, histories.compacted = twins.revision, twins.compacted
        compare(twins, histories.request())
        if step % 20 == 10:
            for server in servers:
                server.kill()
                server.start()
            for client in (twins.etcd, twins.tercet):
                client.wait_connected(30)
            compare_hashes(twins)


def test_their_snapshots_hold_the_same(servers: tuple[ThreadedServer, ThreadedServer], tmp_path: Path) -> None:
    from tercet.bolt import BoltFile

    def contents(server: ThreadedServer) -> list[tuple[bytes, bytes]]:
        server.snapshot(tmp_path / "db")
        with BoltFile(tmp_path / "db") as file:
            return list(file.items(b"key"))

    assert contents(servers[0])
    wait_until(lambda: contents(servers[0]) == contents(servers[1]), "both have removed the compacted revisions")


def compare(twins: Twins, request: object) -> None:
    """`Twins.call` allows what etcd 3.5.1 does differently; these two are of one version."""
    answers = [ask(one, request) for one in (twins.etcd, twins.tercet)]  # type: ignore[arg-type]
    assert answers[0] == answers[1], request
    if not isinstance(answers[0], tuple):
        twins.revision = max(twins.revision, answers[0].header.revision)
        if isinstance(request, rpc_pb2.CompactionRequest):
            twins.compacted = request.revision


def compare_hashes(twins: Twins) -> None:
    hashes = [ask(one, rpc_pb2.HashKVRequest()) for one in (twins.etcd, twins.tercet)]
    assert hashes[0] == hashes[1]
