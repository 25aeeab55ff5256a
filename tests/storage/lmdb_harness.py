"""A backend over LMDB in the loop of a test."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tercet.storage.interfaces import ReadView
from tercet.storage.lmdb_backend import LmdbBackend
from tercet.storage.lmdb_view import LmdbView
from tests.support.waiting import scaled


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(test(), timeout=scaled(20))

    asyncio.run(bounded())


def make(tmp_path: Path, **options: Any) -> LmdbBackend:
    return LmdbBackend(str(tmp_path / "db"), loop=asyncio.get_running_loop(), **options)


async def committed(backend: LmdbBackend) -> None:
    done = asyncio.Event()
    backend.commit(done.set)
    await done.wait()


async def open_view(backend: LmdbBackend) -> LmdbView:
    views: asyncio.Queue[ReadView] = asyncio.Queue()
    backend.view(views.put_nowait)
    view = await views.get()
    assert isinstance(view, LmdbView)
    return view


def key(number: int) -> bytes:
    return b"%08d" % number
