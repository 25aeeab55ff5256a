"""One client of `tercet.bench.clients`, measured in a process of its own.

    python -m tercet.bench.client_worker CLIENT ENDPOINT SECONDS FIRST_REVISION EVENTS

Prints one JSON object: operations a second and p99 for each load, and events a second of a watch that starts in the past.
Clients of other projects need other versions and implementations of protobuf, so each has a process.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib import import_module
from typing import Any

VALUE = b"v" * 256
KEYS = 1000
IN_FLIGHT = (1, 256)
WATCHED = b"watched/"

Operation = Callable[[bytes], Any]
Figures = dict[str, float]


class Asynchronous:
    """An asyncio client. events: yields the size of each group of events; None: its watch cannot start in the past."""

    def __init__(self, put: Operation, get: Operation, events: Callable[[int], AsyncIterator[int]] | None) -> None:
        self.put = put
        self.get = get
        self.events = events


class Blocking:
    """A client for threads."""

    def __init__(self, put: Operation, get: Operation, events: Callable[[int], Iterator[int]] | None) -> None:
        self.put = put
        self.get = get
        self.events = events


@asynccontextmanager
async def _async_client(endpoint: str) -> AsyncIterator[Asynchronous]:
    from tercet import AsyncClient

    async with AsyncClient(endpoint) as client:

        async def events(revision: int) -> AsyncIterator[int]:
            async with client.watch(WATCHED, prefix=True, since=revision) as watch:
                async for batch in watch:
                    yield len(batch.events)

        yield Asynchronous(lambda key: client.put(key, VALUE), client.get, events)


@asynccontextmanager
async def _aetcd(endpoint: str) -> AsyncIterator[Asynchronous]:
    host, port = endpoint.split(":")
    async with import_module("aetcd").Client(host, int(port)) as client:

        async def events(revision: int) -> AsyncIterator[int]:
            async for _ in await client.watch_prefix(WATCHED, start_revision=revision):
                yield 1

        yield Asynchronous(lambda key: client.put(key, VALUE), client.get, events)


@asynccontextmanager
async def _etcd_client_py(endpoint: str) -> AsyncIterator[Asynchronous]:
    async with import_module("etcd_client").Client([f"http://{endpoint}"]).connect() as client:
        yield Asynchronous(lambda key: client.put(key, VALUE), client.get, None)


@contextmanager
def _client(endpoint: str) -> Iterator[Blocking]:
    from tercet import Client

    with Client(endpoint) as client:

        def events(revision: int) -> Iterator[int]:
            with client.watch(WATCHED, prefix=True, since=revision) as watch:
                for batch in watch:
                    yield len(batch.events)

        yield Blocking(lambda key: client.put(key, VALUE), client.get, events)


@contextmanager
def _etcd3(endpoint: str, module: str = "etcd3") -> Iterator[Blocking]:
    host, port = endpoint.split(":")
    with import_module(module).client(host, int(port)) as client:

        def events(revision: int) -> Iterator[int]:
            responses, _ = client.watch_prefix_response(WATCHED, start_revision=revision)
            for response in responses:
                yield len(response.events)

        yield Blocking(lambda key: client.put(key, VALUE), client.get, events)


ASYNCHRONOUS: dict[str, Callable[[str], Any]] = {
    "tercet.AsyncClient": _async_client,
    "aetcd": _aetcd,
    "etcd-client-py": _etcd_client_py,
}
BLOCKING: dict[str, Callable[[str], Any]] = {
    "tercet.Client": _client,
    "tercet.compat.etcd3": lambda endpoint: _etcd3(endpoint, "tercet.compat.etcd3"),
    "etcd3": _etcd3,
}


async def measure_asynchronous(name: str, endpoint: str, seconds: float, revision: int, count: int) -> Figures:
    """All loads of an asyncio client."""
    figures: Figures = {}
    async with ASYNCHRONOUS[name](endpoint) as client:
        for (what, operation), in_flight in itertools.product((("put", client.put), ("get", client.get)), IN_FLIGHT):
            await _drive(operation, in_flight, seconds / 4)  # connections and caches
            figures.update(_summary(what, in_flight, seconds, await _drive(operation, in_flight, seconds)))
        if client.events is not None:
            begin, seen = time.perf_counter(), 0
            async for size in client.events(revision):
                seen += size
                if seen >= count:
                    break
            figures["watch"] = seen / (time.perf_counter() - begin)
    return figures


async def _drive(operation: Callable[[bytes], Awaitable[Any]], in_flight: int, seconds: float) -> list[float]:
    latencies: list[float] = []
    end = time.perf_counter() + seconds
    numbers = itertools.count()

    async def work() -> None:
        now = 0.0
        while now < end:  # once at least
            begin = time.perf_counter()
            await operation(b"bench/%06d" % (next(numbers) % KEYS))
            now = time.perf_counter()
            latencies.append(now - begin)

    await asyncio.gather(*(work() for _ in range(in_flight)))
    return latencies


def measure_blocking(name: str, endpoint: str, seconds: float, revision: int, count: int) -> Figures:
    """All loads of a client for threads: as many threads as requests in flight."""
    figures: Figures = {}
    with BLOCKING[name](endpoint) as client:
        for (what, operation), in_flight in itertools.product((("put", client.put), ("get", client.get)), IN_FLIGHT):
            _drive_threads(operation, in_flight, seconds / 4)
            figures.update(_summary(what, in_flight, seconds, _drive_threads(operation, in_flight, seconds)))
        if client.events is not None:
            begin, seen = time.perf_counter(), 0
            for size in client.events(revision):
                seen += size
                if seen >= count:
                    break
            figures["watch"] = seen / (time.perf_counter() - begin)
    return figures


def _drive_threads(operation: Operation, in_flight: int, seconds: float) -> list[float]:
    latencies: list[float] = []
    end = time.perf_counter() + seconds
    numbers = itertools.count()

    def work() -> None:
        now = 0.0
        while now < end:  # once at least
            begin = time.perf_counter()
            operation(b"bench/%06d" % (next(numbers) % KEYS))
            now = time.perf_counter()
            latencies.append(now - begin)

    threads = [threading.Thread(target=work) for _ in range(in_flight)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return latencies


def _summary(what: str, in_flight: int, seconds: float, latencies: list[float]) -> Figures:
    latencies.sort()
    p99 = latencies[min(len(latencies) - 1, len(latencies) * 99 // 100)] if latencies else 0.0
    return {f"{what} {in_flight}": len(latencies) / seconds, f"{what} {in_flight} p99": p99}


def main(name: str, endpoint: str, seconds: str, revision: str, count: str) -> None:
    arguments = name, endpoint, float(seconds), int(revision), int(count)
    figures = asyncio.run(measure_asynchronous(*arguments)) if name in ASYNCHRONOUS else measure_blocking(*arguments)
    print(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])
