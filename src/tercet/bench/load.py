"""The load generator: a fixed number of requests in flight; each response is followed by the next request on its connection.

The generator shares its host with the servers it measures, so it must be small: requests are prepared (requests.py), the answer
to one is a plain function that sends the next, and all that a loop turn sends leaves in one write per connection. No coroutine
and no timer per request; about 12 µs of CPU each, and every run says how much it was.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tercet.bench.latency import Measurement
from tercet.client import parse_endpoint
from tercet.errors import Code, TercetError
from tercet.rpc import Channel, RpcError

_TICK_SECONDS = 0.1
_STALL_SECONDS = 30.0

Progress = Callable[[int, float], None]
"""Called now and then with the requests answered and the seconds since the measured part began."""


class LoadFailed(TercetError):
    """The run failed: no connection, or no answer for a long time."""


@dataclass(frozen=True)
class Extent:
    """When a run ends: after `total` requests or `seconds`, whichever is given; `warmup` seconds before are not counted."""

    total: int | None = None
    seconds: float | None = None
    warmup: float = 0.0


Request = bytes | tuple[str, bytes]
"""An encoded request of the load's method, or the path of a method and a request of it."""


class Load:
    """One run. `requests` are encoded; it ends early when they run out. token: sent with each request, if there is one."""

    def __init__(self, path: str, requests: Iterator[Request], extent: Extent, token: str = "") -> None:
        self.path = path
        self.metadata = (("token", token),) if token else ()
        self.requests = requests
        self.extent = extent
        self.latencies = array("d")
        self.errors: Counter[str] = Counter()
        self.in_flight = 0
        self.left = -1 if extent.total is None else extent.total  # negative: no limit
        self.stopped = False
        self.idle = asyncio.Event()

    async def run(
        self,
        channels: Sequence[Channel],
        clients: int,
        progress: Progress | None = None,
        on_begin: Callable[[], None] | None = None,
    ) -> Measurement:
        """Keep `clients` requests in flight over `channels`; `on_begin` is called after the warm-up. Raises LoadFailed."""
        for number in range(clients):
            self.begin_slot(channels[number % len(channels)])
        if self.extent.warmup:
            await self._wait(self.extent.warmup, None)
            self.latencies = array("d")
            self.errors.clear()
        if on_begin is not None:
            on_begin()
        began, cpu = time.perf_counter(), time.process_time()
        await self._wait(self.extent.seconds, progress)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        measured, errors = self.latencies, Counter(self.errors)
        self.stopped = True
        await self._drain()
        return Measurement(seconds, array("d", sorted(measured)), errors, cpu)

    def begin_slot(self, channel: Channel) -> None:
        """Begin to keep one request in flight."""
        _Slot(self, channel).send_next()

    async def _wait(self, seconds: float | None, progress: Progress | None) -> None:
        """Until the time is over or nothing is in flight any more."""
        began = heard_at = time.perf_counter()
        heard = -1
        while self.in_flight:
            now = time.perf_counter()
            if seconds is not None and now - began >= seconds:
                return
            done = len(self.latencies) + self.errors.total()
            if done != heard:
                heard, heard_at = done, now
            elif now - heard_at > _STALL_SECONDS:
                raise LoadFailed(f"no answer for {_STALL_SECONDS:.0f} s to any of {self.in_flight} requests")
            if progress is not None:
                progress(len(self.latencies), now - began)
            left = _TICK_SECONDS if seconds is None else min(_TICK_SECONDS, max(began + seconds - now, 0.001))
            try:
                await asyncio.wait_for(self.idle.wait(), left)
            except TimeoutError:
                continue
        if not self.latencies:
            raise LoadFailed(f"no request succeeded: {', '.join(self.errors) or 'no requests'}")

    async def _drain(self) -> None:
        """Wait a few seconds for requests in flight; the rest ends with its connection."""
        if self.in_flight:
            try:
                await asyncio.wait_for(self.idle.wait(), 5.0)
            except TimeoutError:
                return


class _Slot:
    """One request in flight at a time."""

    __slots__ = ("_began", "_channel", "_load", "_start")

    def __init__(self, load: Load, channel: Channel) -> None:
        self._load = load
        self._channel = channel
        self._start = channel.start_unary
        self._began = 0.0
        load.in_flight += 1

    def send_next(self, clock: Callable[[], float] = time.perf_counter) -> None:
        load = self._load
        if load.left == 0 or load.stopped:
            self._retire()
            return
        request = next(load.requests, None)
        if request is None:
            self._retire()
            return
        load.left -= 1
        path = load.path
        if isinstance(request, tuple):
            path, request = request
        self._began = clock()
        self._start(path, request, self._answered, metadata=load.metadata)

    def _answered(self, code: int, text: str, _: bytes, clock: Callable[[], float] = time.perf_counter) -> None:
        load = self._load
        if code:
            load.errors[text or Code(code).name] += 1
            if not self._channel.is_usable:
                self._retire()  # the connection is lost: more requests would fail at once
                return
        else:
            load.latencies.append(clock() - self._began)
        self.send_next()

    def _retire(self) -> None:
        load = self._load
        load.in_flight -= 1
        if not load.in_flight:
            load.idle.set()


async def open_channels(endpoints: Sequence[str], count: int, tls: ssl.SSLContext | None) -> list[Channel]:
    """`count` connections, spread over the endpoints. Raises LoadFailed, ConfigError."""
    channels: list[Channel] = []
    try:
        for number in range(count):
            endpoint = parse_endpoint(endpoints[number % len(endpoints)])
            context = tls if endpoint.secure is not False else None
            channel = Channel(endpoint.host, endpoint.port, ssl=context)
            channels.append(channel)
            await channel.connect()
    except RpcError as error:
        await close_channels(channels)
        raise LoadFailed(f"{endpoint.text}: {error.message}") from error
    return channels


async def close_channels(channels: Sequence[Channel]) -> None:
    await asyncio.gather(*(channel.close() for channel in channels))
