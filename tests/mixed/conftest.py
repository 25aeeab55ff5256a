"""Fixtures for clusters of etcd and tercet members. Members are always stopped, and a failed test shows their logs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tercet.pki import ClusterCertificates, ensure_certificates
from tests.mixed.mixture import mixture
from tests.support.processes import ETCD, TERCET, Cluster

Mix = Callable[..., Cluster]
"""`mix({name: program}, certificates=...)`: a cluster that is not started yet."""


_CLUSTERS: list[Cluster] = []  # running


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome: Any = yield
    if outcome.get_result().failed:
        for cluster in _CLUSTERS:
            cluster.show_logs()


@pytest.fixture(scope="session")
def bytecode(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cache of byte code, shared by all members."""
    return tmp_path_factory.mktemp("bytecode")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> ClusterCertificates:
    return ensure_certificates(tmp_path_factory.mktemp("certificates"), ["e1", "t1", "t2"])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, bytecode: Path) -> Iterator[Cluster]:
    """One etcd, e1, and two tercets, t1 and t2; every test leaves all three running with the same data."""
    made = mixture(tmp_path_factory.mktemp("mixed"), {"e1": ETCD, "t1": TERCET, "t2": TERCET}, bytecode=bytecode)
    with disposed(made):
        yield made.start()


@pytest.fixture
def mix(tmp_path: Path, bytecode: Path) -> Iterator[Mix]:
    with ExitStack() as stack:

        def make(kinds: dict[str, Any], **options: Any) -> Cluster:
            made = mixture(tmp_path, kinds, bytecode=bytecode, **options)
            stack.enter_context(disposed(made))
            return made

        yield make


@contextmanager
def disposed(cluster: Cluster) -> Iterator[None]:
    _CLUSTERS.append(cluster)
    try:
        yield
    finally:
        _CLUSTERS.remove(cluster)
        cluster.dispose()
