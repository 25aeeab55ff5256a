"""The host lock: a second operator waits and learns the holder; a lost session releases the lock."""

from __future__ import annotations

import asyncio
import getpass
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from tercet.deploy.run.host_lock import locked_hosts
from tercet.deploy.ssh.connections import connect
from tercet.deploy.ssh.host_error import HostError
from tests.deploy.sshd import Operator
from tests.support.waiting import scaled


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, scaled(30)))


def test_the_second_operator_learns_the_holder_and_can_lock_afterwards(operator: Operator, tmp_path: Path) -> None:
    async def scenario() -> None:
        first, second = await connect(operator.spec()), await connect(operator.spec())
        async with locked_hosts([first], unit="etcd", directory=str(tmp_path)):
            began = time.monotonic()
            with pytest.raises(HostError) as caught:
                async with locked_hosts([second], unit="etcd", directory=str(tmp_path), wait_seconds=1):
                    raise AssertionError("two held it at once")
            assert time.monotonic() - began >= 1
            assert str(caught.value).startswith(f"node1: lock: locked by {getpass.getuser()} on ")
            async with locked_hosts([second], unit="another", directory=str(tmp_path)):
                pass
        async with locked_hosts([second], unit="etcd", directory=str(tmp_path)):
            pass
        await first.close()
        await second.close()

    run(scenario())


def test_a_lost_session_releases_the_lock(operator: Operator, tmp_path: Path) -> None:
    async def scenario() -> None:
        first, second = await connect(operator.spec()), await connect(operator.spec())
        stack = locked_hosts([first], unit="etcd", directory=str(tmp_path))
        await stack.__aenter__()
        await first.close()
        async with locked_hosts([second], unit="etcd", directory=str(tmp_path)):
            pass
        await second.close()
        await stack.__aexit__(None, None, None)

    run(scenario())


def test_a_lock_that_cannot_be_created_is_an_error(operator: Operator, tmp_path: Path) -> None:
    async def scenario() -> None:
        host = await connect(operator.spec())
        with pytest.raises(HostError) as caught:
            async with locked_hosts([host], unit="etcd", directory=str(tmp_path / "absent")):
                raise AssertionError("held without a file")
        assert "absent" in str(caught.value)
        await host.close()

    run(scenario())
