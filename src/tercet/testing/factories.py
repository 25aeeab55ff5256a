"""Fixtures of your own names:

    etcd = factories.server(size=3, auto_compaction_retention="1h")
    client = factories.client("etcd")

Put them into a conftest.py. They run in this process; what the options name does not matter to them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import pytest

from tercet.client import Client
from tercet.embed.member import StorageKind
from tercet.embed.settings import Setting
from tercet.testing.cluster import Cluster

Scope = Literal["function", "class", "module", "package", "session"]


def server(*, size: int = 1, scope: Scope = "session", storage: StorageKind = "memory", **config: Setting) -> Any:
    """A fixture that gives a Cluster. config: etcd's flags, with `_` for `-`."""

    @pytest.fixture(scope=scope)
    def started() -> Iterator[Cluster]:
        with Cluster(size, storage=storage, config=config) as cluster:
            yield cluster

    return started


def client(of: str, **options: Any) -> Any:
    """A fixture that gives a Client of the fixture named `of`, and resets it after the test. options: of Client."""

    @pytest.fixture
    def connected(request: pytest.FixtureRequest) -> Iterator[Client]:
        cluster: Cluster = request.getfixturevalue(of)
        with Client(cluster.endpoints, **options) as one:
            yield one
        cluster.reset()

    return connected
