"""Prints how long embedded members take on this machine: python -m tercet.embed.measure [ROUNDS]"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable

from tercet.embed.cluster import Cluster
from tercet.embed.process import ServerProcess
from tercet.embed.server import Server


def main(rounds: int) -> None:
    """Print the best and the median of so many rounds, in milliseconds."""
    _report("start of one member in the event loop", [asyncio.run(_start_one()) for _ in range(rounds)])
    starts, resets = zip(*(_start_three() for _ in range(rounds)), strict=True)
    _report("start of three members in threads", list(starts))
    _report("reset of three members", list(resets))
    _report("start of a process", [_start_process() for _ in range(min(rounds, 5))])


async def _start_one() -> float:
    server = Server()
    began = time.perf_counter()
    async with server:
        return time.perf_counter() - began


def _start_three() -> tuple[float, float]:
    cluster = Cluster(3)
    began = time.perf_counter()
    with cluster:
        return time.perf_counter() - began, _timed(cluster.reset)


def _start_process() -> float:
    server = ServerProcess()
    try:
        return _timed(server.start)
    finally:
        server.close()


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _report(what: str, seconds: list[float]) -> None:
    ordered = sorted(seconds)
    print(f"{what:40} best {ordered[0] * 1e3:7.1f} ms   median {ordered[len(ordered) // 2] * 1e3:7.1f} ms")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
