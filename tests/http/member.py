"""A fake member with settable health, and its routes on a port."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tercet.errors import StatusError
from tercet.http import Access, HttpLimits, HttpProtocol, Routes, Versions
from tercet.http.health import Health
from tercet.http.scrape_pages import ScrapePages
from tests.support.waiting import scaled

RAFT_STATUS = {"id": "8e9e05c52164694d", "term": 2}


@dataclass
class FakeMember:
    """Implements Probes."""

    error: StatusError | None = None
    hangs: bool = False
    alarm_names: list[str] = field(default_factory=list)
    leader: bool = True
    learner: bool = False

    async def linearizable_read(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        await self.serializable_read()

    async def serializable_read(self) -> None:
        if self.error is not None:
            raise self.error

    def alarms(self) -> list[str]:
        return self.alarm_names

    def has_leader(self) -> bool:
        return self.leader

    def is_learner(self) -> bool:
        return self.learner


def make_routes(
    member: FakeMember | None = None,
    *,
    access: Access | None = None,
    metrics_only: bool = False,
    versions: Versions | None = None,
    timeout_seconds: float = 5.0,
) -> tuple[Routes, Health]:
    health = Health(member or FakeMember(), timeout_seconds=timeout_seconds)
    routes = Routes(
        health,
        metrics=ScrapePages(lambda is_compressed: (b"text/plain; version=0.0.4; charset=utf-8", b"", b"x 1\n")).page,
        versions=lambda: versions or Versions("3.7.1", "3.7.0", "3.7.0"),
        raft_status=lambda: RAFT_STATUS,
        access=access,
        metrics_only=metrics_only,
    )
    return routes, health


@contextmanager
def served(routes: Routes, *, limits: HttpLimits | None = None) -> Iterator[int]:
    """The port of the routes, served without TLS from a loop in a thread."""
    ready = threading.Event()
    box: list[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]] = []

    async def serve() -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        server = await loop.create_server(lambda: HttpProtocol(routes.handle_plain, limits), "127.0.0.1", 0)
        box.append((loop, stop, server.sockets[0].getsockname()[1]))
        ready.set()
        await stop.wait()
        server.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    assert ready.wait(scaled(10))
    loop, stop, port = box[0]
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(60)
