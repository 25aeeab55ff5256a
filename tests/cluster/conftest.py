"""Fixtures for clusters. Members are always stopped, and a failed test shows their logs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tercet.pki import ClusterCertificates, ensure_certificates
from tests.support.processes import Cluster

Planned = Callable[..., Cluster]
"""`plan(names=..., flags=..., programs=..., certificates=...)`: a cluster that is not started yet."""

_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome: Any = yield
    if outcome.get_result().failed:
        item.stash[_FAILED] = True


@pytest.fixture(scope="session")
def bytecode(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where members keep compiled modules, so that only the first of them compiles."""
    return tmp_path_factory.mktemp("bytecode")


@pytest.fixture
def plan(tmp_path: Path, bytecode: Path, request: pytest.FixtureRequest) -> Iterator[Planned]:
    clusters: list[Cluster] = []

    def make(*arguments: Any, directory: str = "cluster", **options: Any) -> Cluster:
        cluster = Cluster.plan(tmp_path / directory, *arguments, bytecode=bytecode, **options)
        clusters.append(cluster)
        return cluster

    yield make
    for cluster in clusters:
        if request.node.stash.get(_FAILED, False):
            cluster.show_logs()
        cluster.dispose()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> ClusterCertificates:
    return ensure_certificates(tmp_path_factory.mktemp("certificates"), ["n1", "n2", "n3"])
