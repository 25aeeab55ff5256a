"""One etcd and one tercet for all tests of this folder; each test goes on where the last one ended."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.processes import ETCD, TERCET, Cluster, Member
from tests.differential.twins import Twins


@pytest.fixture(scope="package")
def tercet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    cluster = Cluster.plan(tmp_path_factory.mktemp("tercet"), ["tercet"], programs={"tercet": TERCET})
    try:
        yield cluster.members[0].start()
        assert cluster.members[0].is_running
    finally:
        cluster.dispose()


@pytest.fixture(scope="package")
def twins(tmp_path_factory: pytest.TempPathFactory, tercet: Member) -> Iterator[Twins]:
    cluster = Cluster.plan(tmp_path_factory.mktemp("etcd"), ["etcd"], ["--unsafe-no-fsync"], programs={"etcd": ETCD})
    etcd = cluster.members[0].start()
    try:
        for member in (etcd, tercet):
            member.wait_ready()
        yield Twins(etcd.client, tercet.client)
    finally:
        cluster.dispose()
