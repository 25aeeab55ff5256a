"""What the connections of one server share: methods, options, deadlines, counters, and the flush at the end of a turn."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from tercet.client_memory import ClientMemory
from tercet.intake import intake_of_running_loop
from tercet.rpc.bounded_connection import BoundedConnection
from tercet.rpc.client_traffic import ClientTraffic
from tercet.rpc.deadlines import Deadlines
from tercet.rpc.headers import value_of
from tercet.rpc.http2 import Headers
from tercet.rpc.http_exchange import HttpHandler
from tercet.rpc.method import Method

logger = logging.getLogger(__name__)


class InProcessClient(Protocol):
    """A connection without a socket (in_process_connection.py)."""

    def drain(self) -> None: ...
    def abort(self) -> None: ...


class Abandoned(Protocol):
    """A call whose connection has ended."""

    def abandon(self) -> None: ...


_ABANDONED_TOGETHER = 100  # calls, one unit of a turn each: what has a task cancels it in a turn of its own
_FLUSH_WORK = 2000  # of intake.py
_CACHED_HEADERS_MAX = 1024
_CLIENT_VERSION = b"client-api-version"
_VERSIONS_MAX = 100
_CACHED_HEADER_BYTES_MAX = 2048  # a block with a token fits; what clients can store here stays below 2 MiB


class ServerOptions(NamedTuple):
    """Defaults are etcd's. Seconds may be fractions; 0 switches the server's own pings off."""

    max_message_bytes: int = 1572864 + 524288
    max_concurrent_streams: int = 0xFFFFFFFF
    keepalive_min_seconds: float = 5.0
    keepalive_permit_without_calls: bool = False
    keepalive_interval_seconds: float = 7200.0
    keepalive_timeout_seconds: float = 20.0
    measure_durations: bool = False  # --metrics=extensive
    trace_headers: Callable[[Headers], None] | None = None
    """Called with each request's header block."""


class ServerState:
    def __init__(self, methods: dict[bytes, Method], options: ServerOptions, http_handler: HttpHandler | None) -> None:
        self.methods = methods
        self.options = options
        self.http_handler = http_handler
        self.loop = asyncio.get_running_loop()
        self.traffic = ClientTraffic()
        self.memory = ClientMemory(self.loop)
        self.deadlines = Deadlines(self.loop)
        self.intake = intake_of_running_loop()
        self.connections: set[BoundedConnection] = set()
        self.in_process: set[InProcessClient] = set()
        # Header blocks of plain unary requests, each with its method and timeout. A client sends the same block over and
        # over, and comparing it whole is cheaper than parsing it.
        self.header_cache: dict[Headers, tuple[Method, float | None, list[int]]] = {}
        # Calls by kind ("unary", "stream") and the client's version: lists of one number, to be incremented in place.
        self.calls_by_version: dict[tuple[str, str], list[int]] = {}
        self.dirty: list[BoundedConnection] = []  # have something to send; a flush is scheduled
        self._is_held = False
        self._abandoned: deque[Abandoned] = deque()
        self.draining = False
        self.all_lost: asyncio.Future[None] | None = None  # resolved when the last connection is lost

    def hold(self) -> None:
        """Until `release`, which the owner calls in this turn, schedule no flush: its turn of the loop would find nothing."""
        self._is_held = True

    def release(self) -> None:
        self._is_held = False
        self.flush()

    def flush(self) -> None:
        """Send what all connections have queued, or as much as a turn may. Runs at its end, or earlier when the owner calls."""
        dirty, self.dirty = self.dirty, []
        work = 0
        for number, connection in enumerate(dirty):
            if work >= _FLUSH_WORK:
                self.dirty = dirty[number:] + self.dirty
                self.loop.call_soon(self.flush)
                return
            try:
                work += connection.flush()
            except Exception:  # a bug that one connection triggers must not affect the others, nor the caller
                logger.exception("flush of a connection failed")
                connection.abort()

    # For connections

    def flush_later(self, connection: BoundedConnection) -> None:
        """Flush `connection` at the end of this turn."""
        if not self.dirty and not self._is_held:
            self.loop.call_soon(self.flush)
        self.dirty.append(connection)

    def abandon(self, calls: Iterable[Abandoned]) -> None:
        """End the calls of an ended connection; over several turns if there are many.

        As fast as other connections may begin calls, or a client that begins many and disconnects would fill the memory.
        """
        is_scheduled = bool(self._abandoned)
        self._abandoned.extend(calls)
        if not is_scheduled:
            self._abandon_some()

    def _abandon_some(self) -> None:
        abandoned = self._abandoned
        for _ in range(min(_ABANDONED_TOGETHER, len(abandoned))):
            abandoned.popleft().abandon()
        if abandoned:
            self.intake.run(self._abandon_some, _ABANDONED_TOGETHER)

    def lost(self, connection: BoundedConnection) -> None:
        self.connections.discard(connection)
        self._check_all_lost()

    def left(self, connection: InProcessClient) -> None:
        self.in_process.discard(connection)
        self._check_all_lost()

    def _check_all_lost(self) -> None:
        if self.all_lost is not None and not (self.connections or self.in_process or self.all_lost.done()):
            self.all_lost.set_result(None)

    def calls_of_version(self, headers: Headers, *, is_unary: bool) -> list[int]:
        """The counter of calls with this `client-api-version`; no more than a bounded number of versions are told apart."""
        value = value_of(headers, _CLIENT_VERSION)
        version = "unknown" if value is None else value.decode("utf-8", "replace")
        kind = "unary" if is_unary else "stream"
        if len(self.calls_by_version) >= _VERSIONS_MAX and (kind, version) not in self.calls_by_version:
            version = "unknown"
        return self.calls_by_version.setdefault((kind, version), [0])

    def cache_headers(self, headers: Headers, method: Method, timeout_seconds: float | None, calls: list[int]) -> None:
        if self.options.trace_headers is not None:
            return  # requests with a cached block are not traced
        if sum(len(name) + len(value) for name, value in headers) > _CACHED_HEADER_BYTES_MAX:
            return
        if len(self.header_cache) >= _CACHED_HEADERS_MAX:
            self.header_cache.clear()
        self.header_cache[headers] = (method, timeout_seconds, calls)
