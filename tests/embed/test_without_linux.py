"""What only Linux has, the server does without: Python developers start it on macOS too."""

from __future__ import annotations

import asyncio
import json
import sys
import urllib.request

import pytest

from tercet.client import AsyncClient
from tercet.embed import process, ready_socket
from tercet.embed.process import ServerProcess
from tests.support.waiting import stretched

pytestmark = pytest.mark.server_process


def test_a_member_keeps_what_it_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready_socket, "_HAS_ABSTRACT", False)
    monkeypatch.delattr(process.os, "waitid")
    program = [sys.executable, "-m", "tests.support.without_linux"]

    async def use(server: ServerProcess) -> bytes | None:
        async with AsyncClient(server.endpoints, timeout=stretched(60)) as client:
            entry = await client.get("a")
            await client.put("a", "1")
            await client.compact((await client.put("a", "2")).header.revision)
            await client.maintenance.defragment()
            return entry.value if entry is not None else None

    with ServerProcess(program=program) as server:
        assert asyncio.run(use(server)) is None
        server.pause().undo()
        server.kill()
        server.start()
        assert asyncio.run(use(server)) == b"2"
        with urllib.request.urlopen(f"{server.endpoint}/debug/vars", timeout=stretched(20)) as page:
            assert json.load(page)["memstats"]["NumThread"] >= 1
        with urllib.request.urlopen(f"{server.endpoint}/metrics", timeout=stretched(20)) as page:
            assert b"process_max_fds" in page.read()
