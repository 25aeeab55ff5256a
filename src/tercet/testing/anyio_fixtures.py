"""The asynchronous client as a fixture of anyio's plugin."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest

from tercet.testing.plugin import use

if TYPE_CHECKING:
    from tercet.testing.servers import TestServer


@pytest.fixture
async def tercet_async_client(
    request: pytest.FixtureRequest, anyio_backend: Any, tercet_namespace: bytes, tercet_server: TestServer
) -> AsyncIterator[Any]:
    """An AsyncClient of `tercet_server`. After the test everything that it stored is gone."""
    async with use(request, tercet_server).async_client(tercet_namespace) as client:
        yield client
    await asyncio.to_thread(tercet_server.clean_namespace, tercet_namespace)  # its client blocks
