"""Hosts for the tests of this directory, which `make test-hosts` runs and plain `pytest` does not collect.

TEST_HOSTS=1 in the environment lets them be collected. The limits of the tests exclude fixtures (`func_only`), since the
first one of a session may make the image. With `-v` the transcript is shown: every command and what it said.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.image import LabUnavailable
from tests.hosts.lab import Lab, borrowed
from tests.hosts.network import ALL_HOSTS
from tests.hosts.session import Operator

collect_ignore_glob = [] if os.environ.get("TEST_HOSTS") else ["test_*.py"]


@pytest.fixture(scope="session")
def _lab() -> Iterator[Lab]:
    with contextlib.ExitStack() as stack:
        try:
            lab = stack.enter_context(borrowed("tests"))
        except LabUnavailable as unavailable:
            pytest.skip(str(unavailable))
        yield lab


@pytest.fixture(scope="module")
def operator(_lab: Lab, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Operator:
    """An operator with three fresh hosts and an empty directory: one for each file of tests."""
    _lab.up()
    return _operator(_lab, tmp_path_factory.mktemp("operator"), request)


@pytest.fixture
def operator_of_five(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Operator]:
    """An operator with five fresh hosts."""
    with contextlib.ExitStack() as stack:
        try:
            lab = stack.enter_context(borrowed("five", ALL_HOSTS))
        except LabUnavailable as unavailable:
            pytest.skip(str(unavailable))
        yield _operator(lab, tmp_path_factory.mktemp("operator"), request)


def _operator(lab: Lab, directory: Path, request: pytest.FixtureRequest) -> Operator:
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def show(text: str) -> None:
        if request.config.get_verbosity() < 0:
            return
        with capture.global_and_fixture_disabled():
            print(text, flush=True)

    show(f"\n--- {request.module.__name__}: {len(lab.machines)} fresh hosts")
    return Operator(lab, directory, show)
