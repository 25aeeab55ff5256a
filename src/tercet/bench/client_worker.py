"""One client of `tercet.bench.clients`, measured in a process of its own.

    python -m tercet.bench.client_worker CLIENT ENDPOINT SECONDS FIRST_REVISION EVENTS

Prints one JSON object: operations a second, p99 and processor time (of this process, in seconds an operation) for each load,
events a second of watches that start in the past, the memory of an idle watch, and processor time and modules of the import.
The key and the value of each event are read. Of the watch of transactions the time begins with the first event: all others
are sent with it, so that the server's pace is not measured.
Clients of other projects need other versions and implementations of protobuf, so each has a process.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import resource
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

VALUE = b"v" * 256
KEYS = 1000
IN_FLIGHT = (1, 256)
WATCHES = 1000
"""Idle watches of one client whose memory is measured."""
WATCHED = b"watched/"
"""Keys that were put one by one."""
WATCHED_TXNS = b"watched-txns/"
"""Keys that were put by transactions."""

TXN_WATCH = "watch of transactions"
WATCHES_OF = {"watch": WATCHED, TXN_WATCH: WATCHED_TXNS}
"""The prefixes of which all events are received, by what the figures call them."""

Operation = Callable[[bytes], Any]
Figures = dict[str, float]


class Asynchronous:
    """An asyncio client. events: yields the size of each group of events of a prefix; None: no watch can start in the past.

    watch: creates a watch of a key, and returns what must be kept; None: it has no watch that can be left idle.
    """

    def __init__(
        self,
        put: Operation,
        get: Operation,
        events: Callable[[bytes, int], AsyncIterator[int]] | None,
        watch: Operation | None,
    ) -> None:
        self.put = put
        self.get = get
        self.events = events
        self.watch = watch


class Blocking:
    """A client for threads."""

    def __init__(
        self, put: Operation, get: Operation, events: Callable[[bytes, int], Iterator[int]] | None, watch: Operation | None
    ) -> None:
        self.put = put
        self.get = get
        self.events = events
        self.watch = watch


@asynccontextmanager
async def _async_client(endpoint: str) -> AsyncIterator[Asynchronous]:
    from tercet import AsyncClient

    async with AsyncClient(endpoint) as client:

        async def events(prefix: bytes, revision: int) -> AsyncIterator[int]:
            async with client.watch(prefix, prefix=True, since=revision) as watch:
                async for batch in watch:
                    for event in batch:
                        _read(event.key, event.value)
                    yield len(batch.events)

        def watch(key: bytes) -> Any:
            return client.watch(key).__aenter__()

        yield Asynchronous(lambda key: client.put(key, VALUE), client.get, events, watch)


@asynccontextmanager
async def _aetcd(endpoint: str) -> AsyncIterator[Asynchronous]:
    host, port = endpoint.split(":")
    async with import_module("aetcd").Client(host, int(port)) as client:

        async def events(prefix: bytes, revision: int) -> AsyncIterator[int]:
            async for event in await client.watch_prefix(prefix, start_revision=revision):
                _read(event.kv.key, event.kv.value)
                yield 1

        yield Asynchronous(lambda key: client.put(key, VALUE), client.get, events, client.watch)


@asynccontextmanager
async def _etcd_client_py(endpoint: str) -> AsyncIterator[Asynchronous]:
    async with import_module("etcd_client").Client([f"http://{endpoint}"]).connect() as client:
        yield Asynchronous(lambda key: client.put(key, VALUE), client.get, None, None)


@contextmanager
def _client(endpoint: str) -> Iterator[Blocking]:
    from tercet import Client

    with Client(endpoint) as client:

        def events(prefix: bytes, revision: int) -> Iterator[int]:
            with client.watch(prefix, prefix=True, since=revision) as watch:
                for batch in watch:
                    for event in batch:
                        _read(event.key, event.value)
                    yield len(batch.events)

        yield Blocking(lambda key: client.put(key, VALUE), client.get, events, lambda key: client.watch(key).__enter__())


@contextmanager
def _etcd3(endpoint: str, module: str = "etcd3") -> Iterator[Blocking]:
    host, port = endpoint.split(":")
    with import_module(module).client(host, int(port)) as client:

        def events(prefix: bytes, revision: int) -> Iterator[int]:
            responses, _ = client.watch_prefix_response(prefix, start_revision=revision)
            for response in responses:
                for event in response.events:
                    _read(event.key, event.value)
                    yield 1

        yield Blocking(lambda key: client.put(key, VALUE), client.get, events, client.watch)


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


IMPORTS = {
    "tercet.AsyncClient": ("tercet.client", "AsyncClient"),
    "aetcd": ("aetcd", "Client"),
    "etcd-client-py": ("etcd_client", "Client"),
    "tercet.Client": ("tercet.client", "Client"),
    "tercet.compat.etcd3": ("tercet.compat.etcd3", "client"),
    "etcd3": ("etcd3", "client"),
}
"""The module of each client, and the name whose import loads what the client needs."""


def measure_import(name: str) -> Figures:
    """Processor time of the import, in seconds, and the modules that it adds to those of asyncio and this module."""
    module, attribute = IMPORTS[name]
    before, used = len(sys.modules), time.process_time()
    getattr(import_module(module), attribute)
    return {"import": time.process_time() - used, "modules": len(sys.modules) - before}


async def measure_asynchronous(name: str, endpoint: str, seconds: float, revision: int, count: int) -> Figures:
    """All loads of an asyncio client."""
    figures: Figures = {}
    async with ASYNCHRONOUS[name](endpoint) as client:
        await client.get(b"idle/000000")  # connect
        if client.watch is not None:
            # First: the loads leave memory that is free for reuse.
            before = resident_bytes()
            kept = [await client.watch(b"idle/%06d" % number) for number in range(WATCHES)]
            figures["watch bytes"] = (resident_bytes() - before) / len(kept)
        for (what, operation), in_flight in itertools.product((("put", client.put), ("get", client.get)), IN_FLIGHT):
            await _drive(operation, in_flight, seconds / 4)  # connections and caches
            used = time.process_time()
            latencies = await _drive(operation, in_flight, seconds)
            figures.update(_summary(what, in_flight, seconds, latencies, time.process_time() - used))
        for what, prefix in WATCHES_OF.items() if client.events is not None else ():
            timed = Timed(count)
            async for size in client.events(prefix, revision):
                if timed.is_last(size):
                    break
            figures.update(timed.summary(what))
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
        client.get(b"idle/000000")  # connect
        if client.watch is not None:
            # First: the loads leave memory that is free for reuse.
            before = resident_bytes()
            kept = [client.watch(b"idle/%06d" % number) for number in range(WATCHES)]
            figures["watch bytes"] = (resident_bytes() - before) / len(kept)
        for (what, operation), in_flight in itertools.product((("put", client.put), ("get", client.get)), IN_FLIGHT):
            _drive_threads(operation, in_flight, seconds / 4)
            used = time.process_time()
            latencies = _drive_threads(operation, in_flight, seconds)
            figures.update(_summary(what, in_flight, seconds, latencies, time.process_time() - used))
        for what, prefix in WATCHES_OF.items() if client.events is not None else ():
            timed = Timed(count)
            for size in client.events(prefix, revision):
                if timed.is_last(size):
                    break
            figures.update(timed.summary(what))
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


class Timed:
    """The time of a watch of `count` events."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._seen = 0
        self._at_first = 0
        self._begin = self._first = time.perf_counter()
        self._used = time.process_time()

    def is_last(self, size: int) -> bool:
        """Count a group of events. Returns whether all have arrived."""
        if not self._seen:
            self._at_first, self._first = size, time.perf_counter()
        self._seen += size
        return self._seen >= self._count

    def summary(self, what: str) -> Figures:
        cpu, now = time.process_time() - self._used, time.perf_counter()
        counted, since = self._seen, self._begin
        if what == TXN_WATCH and self._seen > self._at_first:
            counted, since = self._seen - self._at_first, self._first
        return {what: counted / (now - since), f"{what} cpu": cpu / self._seen}


def _read(key: bytes, value: bytes) -> None:
    """What a program does with an event."""


def _summary(what: str, in_flight: int, seconds: float, latencies: list[float], cpu_seconds: float) -> Figures:
    latencies.sort()
    p99 = latencies[len(latencies) * 99 // 100]
    return {
        f"{what} {in_flight}": len(latencies) / seconds,
        f"{what} {in_flight} p99": p99,
        f"{what} {in_flight} cpu": cpu_seconds / len(latencies),
    }


def resident_bytes() -> int:
    """Memory of this process, after a collection of garbage."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main(name: str, endpoint: str, seconds: str, revision: str, count: str) -> None:
    arguments = name, endpoint, float(seconds), int(revision), int(count)
    figures = measure_import(name)
    figures |= asyncio.run(measure_asynchronous(*arguments)) if name in ASYNCHRONOUS else measure_blocking(*arguments)
    print(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])
