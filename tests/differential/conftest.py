"""One etcd and one tercet shared by all tests of this folder; each test continues from the state that the last one left."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.differential.twins import Twins
from tests.support.processes import ETCD, TERCET, Cluster, Member


@pytest.fixture(scope="package")
def tercet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    cluster = Cluster.plan(tmp_path_factory.mktemp("tercet"), ["tercet"], programs={"tercet": TERCET})
    try:
        yield cluster.members[0].start()
        assert cluster.members[0].is_running
    finally:
        cluster.dispose()


@pytest.fixture(scope="package")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    cluster = Cluster.plan(tmp_path_factory.mktemp("etcd"), ["etcd"], ["--unsafe-no-fsync"], programs={"etcd": ETCD})
    try:
        yield cluster.members[0].start()
    finally:
        cluster.dispose()


@pytest.fixture(scope="package")
def twins(etcd: Member, tercet: Member) -> Twins:
    for member in (etcd, tercet):
        member.wait_ready()
    return Twins(etcd.client, tercet.client)
