"""One real etcd for all tests that only ask it questions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.peer.real_etcd import Etcd, etcd


@pytest.fixture(scope="session")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    with etcd(tmp_path_factory.mktemp("judge")) as running:
        yield running
