"""One call of a remote host, over a connection of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from tercet.deploy.ssh.connections import connect
from tercet.deploy.ssh.remote import Host, HostError
from tests.deploy.sshd import Operator
from tests.support.waiting import scaled

Result = TypeVar("Result")


def with_host(operator: Operator, act: Callable[[Host], Awaitable[Result]], **settings: object) -> Result:
    async def scenario() -> Result:
        host = await connect(operator.spec(**settings))  # type: ignore[arg-type]
        try:
            return await act(host)
        finally:
            await host.close()

    return asyncio.run(asyncio.wait_for(scenario(), scaled(30)))


def failure(operator: Operator, act: Callable[[Host], Awaitable[object]], **settings: object) -> HostError:
    with pytest.raises(HostError) as raised:
        with_host(operator, act, **settings)
    assert raised.value.host == "node1"
    assert "Traceback" not in str(raised.value)
    return raised.value
