"""Typed clients of tests: keys of their own, and a bound in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from tercet import AsyncClient
from tests.support.waiting import scaled

Result = TypeVar("Result")


@asynccontextmanager
async def client_of(endpoints: str, name: str = "", **options: Any) -> AsyncIterator[AsyncClient]:
    """A client whose keys are under `name`; they are deleted at the end."""
    async with AsyncClient(endpoints, namespace=f"{name}/" if name else "", **options) as client:
        yield client
        if name:
            await client.delete_prefix("")


def run(test: Coroutine[Any, Any, Result], seconds: float = 60) -> Result:
    """Run a test; a hang fails."""

    async def bounded() -> Result:
        return await asyncio.wait_for(test, scaled(seconds))

    return asyncio.run(bounded())
