"""Settings and fixtures of all tests: profile of property tests, timeouts times TEST_SLOWNESS, one shared etcd a session."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.support import properties
from tests.support.waiting import SLOWNESS

if TYPE_CHECKING:
    from tests.support.etcd import Etcd

_SERVER_PACKAGES = {"clients", "cluster", "differential", "mixed"}

properties.load_profile()


def pytest_configure(config: pytest.Config) -> None:
    # A shell starts background jobs with SIGINT ignored, and their children inherit that: tests that interrupt a command fail.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(trylast=True)  # after hypothesis has marked its tests
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.name in _SERVER_PACKAGES:
            item.add_marker(pytest.mark.server_process)
    default = float(config.getini("timeout"))
    for item in items:
        factor = SLOWNESS * (properties.FACTOR if item.get_closest_marker("hypothesis") else 1)
        if factor != 1:
            mark = item.get_closest_marker("timeout")
            seconds = float(mark.args[0]) if mark and mark.args else default
            item.add_marker(pytest.mark.timeout(seconds * factor), append=False)


@pytest.fixture(scope="session")
def shared_etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """A real etcd for tests that do not depend on what is stored."""
    from tests.support.etcd import running_etcd  # grpcio is loaded where it is needed

    with running_etcd(tmp_path_factory.mktemp("etcd"), "--strict-reconfig-check=false") as etcd:
        yield etcd
