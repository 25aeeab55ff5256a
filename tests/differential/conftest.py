"""One etcd and one tercet for all tests of this folder; each test goes on where the last one ended."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.processes import ETCD, TERCET, Cluster
from tests.differential.twins import Twins


@pytest.fixture(scope="package")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    directory = tmp_path_factory.mktemp("twins")
    etcd = Cluster.plan(directory, ["etcd"], ["--unsafe-no-fsync"], programs={"etcd": ETCD})
    tercet = Cluster.plan(directory, ["tercet"], programs={"tercet": TERCET})
    try:
        for cluster in (etcd, tercet):
            cluster.members[0].start()
        for cluster in (etcd, tercet):
            cluster.members[0].wait_ready()
        yield Twins(etcd.members[0].client, tercet.members[0].client)
        assert tercet.members[0].is_running
    finally:
        etcd.dispose()
        tercet.dispose()
