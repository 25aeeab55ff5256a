"""Fixtures of the server's tests: a certificate authority, and both event loops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from tercet.server.listener import log_loop_error
from tests.server.certificates import Authority
from tests.server.listening import Scenario
from tests.support.waiting import scaled


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Scenario], None]:
    """Runs a scenario of at most ten seconds, once in each kind of loop."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def run_in_loop(scenario: Scenario) -> None:
        async def bounded() -> None:
            asyncio.get_running_loop().set_exception_handler(log_loop_error)
            async with asyncio.timeout(scaled(10)):
                await scenario()

        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(bounded())

    return run_in_loop


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)
