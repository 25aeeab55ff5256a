"""The servers of the client's tests: a real etcd, and a tercet in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from tercet.testing import Cluster, factories

if TYPE_CHECKING:
    from tests.support.etcd import Etcd

tercet_here = factories.server(scope="module")


class Server(NamedTuple):
    """Where a server listens. endpoint: host:port."""

    endpoint: str

    @property
    def client_port(self) -> int:
        return int(self.endpoint.rpartition(":")[2])


@pytest.fixture(params=["etcd", "tercet"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each of the two, for tests that use keys of their own."""
    if request.param == "etcd":
        etcd: Etcd = request.getfixturevalue("shared_etcd")
        return Server(etcd.endpoint)
    cluster: Cluster = request.getfixturevalue("tercet_here")
    return Server(cluster.endpoints[0].rpartition("/")[2])
