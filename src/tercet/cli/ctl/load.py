"""Writing at a fixed rate from many clients, and the statistics of `check`: the rate, the slowest request, the deviation."""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from tercet.client import ClusterChannel
from tercet.errors import StatusError
from tercet.proto import rpc_pb2

_CATCH_UP_SECONDS = 0.1


@dataclass
class Statistics:
    """Of the requests that succeeded, in seconds; `errors` counts the others by text."""

    count: int = 0
    slowest: float = 0.0
    errors: Counter[str] = field(default_factory=Counter)
    elapsed: float = 0.0
    _sum: float = 0.0
    _squares: float = 0.0

    def add(self, seconds: float) -> None:
        self.count += 1
        self.slowest = max(self.slowest, seconds)
        self._sum += seconds
        self._squares += seconds * seconds

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.count / self.elapsed if self.elapsed else 0.0

    @property
    def deviation(self) -> float:
        if not self.count:
            return 0.0
        mean = self._sum / self.count
        return math.sqrt(max(self._squares / self.count - mean * mean, 0.0))


async def write(
    clients: Sequence[ClusterChannel],
    requests: AsyncIterator[rpc_pb2.PutRequest],
    text_of: Callable[[StatusError], str],
    done: Callable[[int], None],
) -> Statistics:
    """Send the requests, one at a time from each client. `done` is called after each."""
    statistics = Statistics()
    queue: asyncio.Queue[rpc_pb2.PutRequest | None] = asyncio.Queue(maxsize=len(clients))

    async def work(client: ClusterChannel) -> None:
        while (request := await queue.get()) is not None:
            began = time.perf_counter()
            try:
                await client.kv.put(request)
            except StatusError as error:
                statistics.errors[text_of(error)] += 1
            else:
                statistics.add(time.perf_counter() - began)
            done(1)

    began = time.perf_counter()
    workers = [asyncio.create_task(work(client)) for client in clients]
    async for request in requests:
        await queue.put(request)
    for _ in workers:
        await queue.put(None)
    await asyncio.gather(*workers)
    statistics.elapsed = time.perf_counter() - began
    return statistics


async def paced(prefix: bytes, rate: int, seconds: int, key_bytes: int, value_bytes: int) -> AsyncIterator[rpc_pb2.PutRequest]:
    """Puts of random keys, `rate` a second. As in etcdctl, puts that the cluster was too slow to take are left out.

    Those that this process was late to send, by up to `_CATCH_UP_SECONDS`, follow at once: they say nothing of the cluster.
    """
    value = bytes(value_bytes)
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    due = loop.time()
    while due < end:
        pause = due - loop.time()
        if pause > 0:
            await asyncio.sleep(pause)
        yield rpc_pb2.PutRequest(key=prefix + random_key(key_bytes), value=value)
        due = max(due + 1 / rate, loop.time() - _CATCH_UP_SECONDS)


async def counted(prefix: bytes, count: int, key_bytes: int, value_bytes: int) -> AsyncIterator[rpc_pb2.PutRequest]:
    """`count` puts of random keys."""
    value = bytes(value_bytes)
    for _ in range(count):
        yield rpc_pb2.PutRequest(key=prefix + random_key(key_bytes), value=value)


def random_key(size: int) -> bytes:
    return os.urandom(8) + bytes(size - 8)
