"""One client that puts, one put after the other, in a process of its own: how long do others make it wait?

with PutProbe(endpoints) as probe:
    ...                                # load the cluster
    probe.longest_seconds()            # the longest put since the last call, retries included
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Final

import uvloop

from tercet.client import parse_endpoint
from tercet.proto import rpc_pb2
from tercet.rpc import Channel, RpcError

_PUT_PATH: Final = "/etcdserverpb.KV/Put"
_PUT_SECONDS_MAX: Final = 5.0
_PAUSE_SECONDS: Final = 0.002
_RETRY_SECONDS: Final = 0.05


class PutProbe:
    """endpoints: client URLs; the first one is used until it fails."""

    def __init__(self, endpoints: Sequence[str]) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_run, args=(list(endpoints), theirs), daemon=True)

    def __enter__(self) -> PutProbe:
        self._process.start()
        self._pipe.recv()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.join()

    def longest_seconds(self) -> float:
        """The longest put since the last call. One that is still under way counts too, and its rest in the next call."""
        self._pipe.send(None)
        longest: float = self._pipe.recv()
        return longest


def _run(endpoints: list[str], pipe: Connection) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_put_forever(endpoints, pipe))


async def _put_forever(endpoints: list[str], pipe: Connection) -> None:
    longest = 0.0
    began = time.perf_counter()

    def report() -> None:
        nonlocal began, longest
        pipe.recv()
        now = time.perf_counter()
        pipe.send(max(longest, now - began if is_waiting else 0.0))
        longest, began = 0.0, now

    is_waiting = False
    asyncio.get_running_loop().add_reader(pipe.fileno(), report)
    number = 0
    channel = await _connect(endpoints[0])
    pipe.send(None)
    while True:
        number += 1
        body = rpc_pb2.PutRequest(key=b"probe", value=b"%d" % number).SerializeToString()
        began, is_waiting = time.perf_counter(), True
        while True:
            try:
                await channel.unary(_PUT_PATH, body, timeout=_PUT_SECONDS_MAX)
                break
            except RpcError:
                await asyncio.sleep(_RETRY_SECONDS)
                endpoints.append(endpoints.pop(0))
                channel = await _connect(endpoints[0])
        longest, is_waiting = max(longest, time.perf_counter() - began), False
        await asyncio.sleep(_PAUSE_SECONDS)


async def _connect(url: str) -> Channel:
    endpoint = parse_endpoint(url)
    channel = Channel(endpoint.host, endpoint.port)
    with suppress(RpcError):  # the next call fails, and another member is tried
        await channel.connect()
    return channel
