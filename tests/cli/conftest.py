"""The pair of servers that the tests of tercetctl share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.etcd_pair import ADVERTISED
from tests.support.etcd import running_etcd


@dataclass(frozen=True)
class Pair:
    """Endpoints of the two, as `host:port`."""

    theirs: str
    ours: str


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with ExitStack() as stack:
        places: list[Path] = [tmp_path_factory.mktemp(name) for name in ("theirs", "ours")]
        options = {"advertise": ADVERTISED, "initial_peer_url": ADVERTISED}
        etcds = [stack.enter_context(running_etcd(place, "--bcrypt-cost=4", **options)) for place in places]
        yield Pair(*(etcd.endpoint for etcd in etcds))
