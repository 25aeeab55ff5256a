"""The asynchronous client as a fixture of pytest-asyncio, whose strict mode wants a decorator of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from tercet.testing.plugin import use

if TYPE_CHECKING:
    from tercet.testing.servers import TestServer


async def _client(request: pytest.FixtureRequest, tercet_server: TestServer) -> AsyncIterator[Any]:
    """An AsyncClient of `tercet_server`. After the test everything that it stored is gone."""
    namespace = request.getfixturevalue("tercet_namespace")
    async with use(request, tercet_server).async_client(namespace) as client:
        yield client
    await asyncio.to_thread(tercet_server.clean_namespace, namespace)  # its client blocks


tercet_async_client = import_module("pytest_asyncio").fixture(_client, name="tercet_async_client")
