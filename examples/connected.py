"""The client of the examples: of the cluster on the command line, or of a server in this process."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import tercet


@asynccontextmanager
async def connected() -> AsyncIterator[tercet.AsyncClient]:
    if len(sys.argv) > 1:
        async with tercet.AsyncClient(sys.argv[1], namespace="example/") as client:
            yield client
    else:
        async with tercet.Server() as server, server.client(namespace="example/") as client:
            yield client
