"""A gRPC server without a listener: it makes the protocol objects that a listener hands its connections to.

    server = Server({"/etcdserverpb.KV/Put": unary(put), "/etcdserverpb.Watch/Watch": bidi_stream(watch)})
    await loop.create_server(server.protocol, host, port, ssl=context)

A listener that first looks at a connection's bytes passes what it has read: `server.protocol(first_chunk)`, then sets it as the
transport's protocol and calls its `connection_made`. TLS contexts must offer ALPN `h2`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from tercet.rpc.connection import TrafficCount
from tercet.rpc.deadlines import Deadlines
from tercet.rpc.http2 import Headers
from tercet.rpc.http_exchange import HttpHandler
from tercet.rpc.methods import Handler, Method, table
from tercet.rpc.server_connection import ServerConnection

logger = logging.getLogger(__name__)

_HEADER_CACHE_MAX = 1024
_KNOWN_HEAD_BYTES_MAX = 2048  # room for a token; together they may not become a place to store things in


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Defaults are etcd's. Seconds may be fractions; 0 switches the server's own pings off."""

    max_message_bytes: int = 1572864 + 524288
    max_concurrent_streams: int = 0xFFFFFFFF
    keepalive_min_seconds: float = 5.0
    keepalive_permit_without_calls: bool = False
    keepalive_interval_seconds: float = 7200.0
    keepalive_timeout_seconds: float = 20.0
    measure_durations: bool = False  # --metrics=extensive


class Server:
    """Methods, options and what all connections share. Belongs to the loop it was made in."""

    def __init__(
        self,
        methods: Mapping[str, Handler],
        *,
        options: ServerOptions | None = None,
        http_handler: HttpHandler | None = None,
    ) -> None:
        self.options = options or ServerOptions()
        self.loop = asyncio.get_running_loop()
        self.methods: dict[bytes, Method] = table(methods, timed=self.options.measure_durations)
        self.http_handler = http_handler
        self.traffic = TrafficCount()
        self.connections: set[ServerConnection] = set()
        self.deadlines = Deadlines(self.loop)
        # Header blocks of plain unary requests, the method they call and the timeout they set. A client sends the same
        # block over and over, and to compare it whole is cheaper than to read it.
        self.header_cache: dict[Headers, tuple[Method, float | None]] = {}
        self._services = {method.service for method in self.methods.values()}
        self.touched: list[ServerConnection] = []  # with something to send; a flush is on its way
        self.draining = False
        self._all_lost: asyncio.Future[None] | None = None

    def protocol(self, first_chunk: bytes = b"") -> ServerConnection:
        """The protocol object of one new connection, of which `first_chunk` has been read already."""
        return ServerConnection(self, first_chunk)

    async def drain(self, timeout_seconds: float) -> None:
        """Send GOAWAY on all connections, wait for open calls to end, close; cut what is left after the timeout.

        Stop listening first. Connections that come nevertheless are drained at once.
        """
        self.draining = True
        for connection in tuple(self.connections):
            connection.drain()
        if self.connections:
            self._all_lost = self.loop.create_future()
            await asyncio.wait((self._all_lost,), timeout=timeout_seconds)
        self.close()

    def close(self) -> None:
        """Cut all connections; their open calls are cancelled."""
        for connection in tuple(self.connections):
            connection.abort()
        self.deadlines.close()

    def open_calls(self) -> int:
        return sum(len(connection.calls) for connection in self.connections)

    def flush(self) -> None:
        """Send what all connections have to say. Happens by itself at the end of a turn, or earlier if somebody asks."""
        touched = list(self.touched)
        self.touched.clear()
        for connection in touched:
            try:
                connection.flush()
            except Exception:  # a bug that one client has found is nothing to the others, nor to who asked for the flush
                logger.exception("a connection could not be flushed")
                connection.abort()

    # For connections

    def lost(self, connection: ServerConnection) -> None:
        self.connections.discard(connection)
        if not self.connections and self._all_lost is not None and not self._all_lost.done():
            self._all_lost.set_result(None)

    def learn_head(self, headers: Headers, method: Method, timeout_seconds: float | None) -> None:
        if sum(len(name) + len(value) for name, value in headers) > _KNOWN_HEAD_BYTES_MAX:
            return
        if len(self.header_cache) >= _HEADER_CACHE_MAX:
            self.header_cache.clear()
        self.header_cache[headers] = (method, timeout_seconds)

    def why_unknown(self, path: bytes) -> str:
        """grpc-go's words for a path that has no method."""
        text = path.decode("latin-1")
        service, slash, name = text.removeprefix("/").rpartition("/")
        if not slash:
            return f'malformed method name: "{text}"'
        if service in self._services:
            return f"unknown method {name} for service {service}"
        return f"unknown service {service}"
