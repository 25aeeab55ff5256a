"""A gRPC server without a listener: it makes the protocol objects for a listener's connections.

    server = Server({"/etcdserverpb.KV/Put": unary(put), "/etcdserverpb.Watch/Watch": bidi_stream(watch)})
    await loop.create_server(server.protocol, host, port, ssl=context)

A listener that first looks at a connection's bytes passes what it has read: `server.protocol(first_chunk)`, then sets it as the
transport's protocol and calls its `connection_made`. TLS contexts must offer ALPN `h2`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from tercet.rpc.handlers import Handler, method_table
from tercet.rpc.http2_unary import Http2UnaryCall
from tercet.rpc.http_exchange import HttpHandler
from tercet.rpc.server_connection import ServerConnection
from tercet.rpc.server_state import ServerOptions, ServerState


class Server(ServerState):
    """Methods, options and connections. Belongs to the loop it was made in."""

    def __init__(
        self,
        methods: Mapping[str, Handler],
        *,
        options: ServerOptions | None = None,
        http_handler: HttpHandler | None = None,
    ) -> None:
        options = options or ServerOptions()
        super().__init__(method_table(methods, timed=options.measure_durations), options, http_handler)

    def protocol(self, first_chunk: bytes = b"") -> ServerConnection:
        """The protocol object of one new connection, of which `first_chunk` has been read already."""
        return ServerConnection(self, first_chunk)

    async def drain(self, timeout_seconds: float) -> None:
        """Send GOAWAY on all connections, wait for open calls to end, close; abort what is left after the timeout.

        Stop listening first. Connections that arrive later are drained at once.
        """
        self.draining = True
        for connection in tuple(self.connections):
            connection.drain()
        for client in tuple(self.in_process):
            client.drain()
        if self.connections or self.in_process:
            self.all_lost = self.loop.create_future()
            await asyncio.wait((self.all_lost,), timeout=timeout_seconds)
        self.close()

    def close(self) -> None:
        """Abort all connections; their open calls are cancelled."""
        self.disconnect()
        self.deadlines.close()

    def disconnect(self) -> None:
        """Abort all connections; clients may connect again."""
        for connection in tuple(self.connections):
            connection.abort()
        for client in tuple(self.in_process):
            client.abort()

    def unary_calls(self) -> list[Http2UnaryCall]:
        """The unary calls that are being served."""
        calls: list[Http2UnaryCall] = []
        for connection in self.connections:
            assert isinstance(connection, ServerConnection)
            calls += connection.unary_calls()
        return calls

    def open_calls(self) -> int:
        return sum(connection.open_calls() for connection in self.connections)
