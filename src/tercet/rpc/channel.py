"""A client's connection to one server.

    channel = Channel("127.0.0.1", 2379)
    await channel.connect()
    reply = await channel.unary("/etcdserverpb.KV/Put", request, timeout=5)
    channel.start_unary("/etcdserverpb.KV/Put", request, callback)      # hot: all calls of a loop turn leave in one write

A channel is one connection. It does not reconnect or resolve names again by itself: that is for the owner, who may have other
endpoints. A lost connection ends its calls with UNAVAILABLE, and `on_lost(reason)` is called.
"""

from __future__ import annotations

import asyncio
import socket
import ssl as tls
from collections.abc import Callable

from tercet.errors import CONNECTION_CLOSING, Code, require
from tercet.rpc import http2
from tercet.rpc.client_call import RpcError
from tercet.rpc.client_connection import ChannelOptions, ClientConnection
from tercet.rpc.client_stream import ClientStream
from tercet.rpc.client_traffic import TrafficCount
from tercet.rpc.client_unary import ClientUnary, UnaryCallback
from tercet.rpc.headers import Metadata, encode_metadata
from tercet.rpc.http2 import Header, Headers, HTTP2Error
from tercet.rpc.wire import format_timeout, frame

_TIMED_HEADS_MAX = 256


class Channel:
    """Calls to one server over one connection."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        ssl: tls.SSLContext | None = None,
        authority: str | None = None,
        server_hostname: str | None = None,
        unix_path: str | None = None,
        options: ChannelOptions | None = None,
        on_lost: Callable[[str], object] | None = None,
    ) -> None:
        """ssl: must offer ALPN h2.

        authority: the `:authority` of requests, default host:port.
        server_hostname: the name that the server's certificate must have, default `host`.
        unix_path: connect to this socket; host and port are then only names.
        """
        self._host = host
        self._port = port
        self._ssl = ssl
        self._server_hostname = server_hostname
        self._unix_path = unix_path
        self._options = options or ChannelOptions()
        self._on_lost = on_lost or (lambda reason: None)
        name = f"[{host}]" if ":" in host else host
        self._authority = (authority or f"{name}:{port}").encode("ascii")
        self._connection: ClientConnection | None = None
        self._heads: dict[str, Headers] = {}
        self._timed_heads: dict[tuple[str, float], Headers] = {}

    async def connect(self, sock: socket.socket | None = None) -> None:
        """Connect, or reconnect after a loss; return when the server's SETTINGS have arrived. Raises RpcError (UNAVAILABLE).

        sock: connected already, and closed by this call if it fails.
        """
        require(self._connection is None or self._connection.closing, "a channel is connected twice")
        loop = asyncio.get_running_loop()
        connection = ClientConnection(loop, self._options, self._on_lost)
        try:
            async with asyncio.timeout(self._options.connect_timeout_seconds):
                await self._open_transport(loop, connection, sock)
                await connection.ready
        except (OSError, TimeoutError) as error:  # a certificate that does not verify is an OSError too
            self._discard(connection, sock)
            closed = "the server closed the connection during the handshake"  # asyncio gives this error no text
            text = str(error) or ("timed out" if isinstance(error, TimeoutError) else closed)
            raise RpcError(Code.UNAVAILABLE, f"connection error: {text}", unprocessed=True, reason=error) from error
        except BaseException:
            self._discard(connection, sock)
            raise
        self._connection = connection

    async def _open_transport(
        self, loop: asyncio.AbstractEventLoop, connection: ClientConnection, sock: socket.socket | None
    ) -> None:
        name = (self._server_hostname or self._host) if self._ssl else None
        transport: asyncio.BaseTransport
        if self._unix_path is not None:
            transport, _ = await loop.create_unix_connection(
                lambda: connection, self._unix_path, ssl=self._ssl, server_hostname=name
            )
        elif sock is not None:
            transport, _ = await loop.create_connection(lambda: connection, sock=sock, ssl=self._ssl, server_hostname=name)
        else:
            transport, _ = await loop.create_connection(
                lambda: connection, self._host, self._port, ssl=self._ssl, server_hostname=name
            )
        if self._ssl and transport.get_extra_info("ssl_object").selected_alpn_protocol() != "h2":
            raise ConnectionError("the server does not offer HTTP/2 (ALPN h2)")

    @staticmethod
    def _discard(connection: ClientConnection, sock: socket.socket | None) -> None:
        """Release a connection that failed to open: its transport, its timer, and the exception in `ready`."""
        connection._on_lost = lambda reason: None
        if hasattr(connection, "transport"):
            connection.abort()
        elif sock is not None:
            sock.close()
        connection._pinger.stop()
        connection.ready.cancel()

    @property
    def is_usable(self) -> bool:
        """Whether a new call can be started: connected, and no GOAWAY received."""
        connection = self._connection
        return connection is not None and not connection.closing and not connection.going_away

    def carries(self, stream: object) -> bool:
        """Whether a stream was started on the connection in use."""
        return isinstance(stream, ClientStream) and stream.connection is self._connection

    @property
    def traffic(self) -> TrafficCount:
        """Bytes of the current connection."""
        return TrafficCount() if self._connection is None else self._connection.traffic

    @property
    def descriptor(self) -> int:
        """The file descriptor of the socket; -1 without a connection."""
        connection = self._connection
        if connection is None or connection.closing:
            return -1
        found = connection.transport.get_extra_info("socket")
        return -1 if found is None else int(found.fileno())

    @property
    def last_heard(self) -> float:
        """When the last bytes arrived, on the loop's clock; 0 without a connection."""
        return 0.0 if self._connection is None else self._connection.last_heard

    @property
    def open_calls(self) -> int:
        return 0 if self._connection is None else len(self._connection.calls)

    @property
    def waiting_calls(self) -> int:
        """The open calls that have a timeout: someone waits for their end."""
        return 0 if self._connection is None else len(self._connection.deadlines)

    def ping(self) -> None:
        """Ask the server for a sign of life: `last_heard` changes when it answers."""
        if self._connection is not None and not self._connection.closing:
            self._connection.ping()

    def abandon(self, reason: str) -> None:
        """End the streams and the repeatable calls with UNAVAILABLE. The others go on waiting for the server."""
        if self._connection is not None:
            for call in tuple(self._connection.calls.values()):
                if not isinstance(call, ClientUnary) or call.is_repeatable:
                    call.abandon(reason)

    def start_unary(
        self,
        path: str,
        message: bytes,
        callback: UnaryCallback,
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> ClientUnary:
        """Send a request. `callback(code, text, message)` is called exactly once, and not before this returns.

        timeout: seconds, sent to the server and enforced here too. Returns the call, to `cancel()` it. Raises RpcError if
        not connected.
        """
        connection = self._connected()
        headers = self._heads.get(path) or self._learn_head(path)
        if metadata:
            headers = self._full_head(headers, timeout, metadata)
        elif timeout is not None:
            headers = self._timed_heads.get((path, timeout)) or self._learn_timed_head(path, headers, timeout)
        call = ClientUnary(connection, connection.calls, callback)
        session = connection.session
        try:
            call.stream_id = stream_id = session.send_request(headers)
            session.send_data(stream_id, frame(message), end_stream=True)
        except HTTP2Error as error:
            connection.fail_later(call, str(error))
            return call
        connection.calls[stream_id] = call
        if timeout is not None:
            call.deadline = connection.loop.time() + timeout
            connection.deadlines.add(call, call.deadline)
        if not connection.dirty:
            connection.mark_dirty()
        return call

    async def unary(
        self,
        path: str,
        message: bytes,
        timeout: float | None = None,
        metadata: Metadata = (),
        is_repeatable: bool = False,
    ) -> bytes:
        """One call, one answer. Cancelling the task cancels the call. Raises RpcError. is_repeatable: see `abandon`."""
        done: asyncio.Future[tuple[int, str, bytes]] = asyncio.get_running_loop().create_future()

        def ended(code: int, text: str, reply: bytes) -> None:
            if not done.done():
                done.set_result((code, text, reply))

        call = self.start_unary(path, message, ended, timeout, metadata)
        call.is_repeatable = is_repeatable
        try:
            code, text, reply = await done
        except asyncio.CancelledError:
            call.cancel()
            raise
        if code:
            raise RpcError(Code(code), text, unprocessed=call.unprocessed)
        return reply

    def stream(self, path: str, timeout: float | None = None, metadata: Metadata = ()) -> ClientStream:
        """Start a streaming call of any kind; the stream's methods raise its errors. Raises RpcError if not connected."""
        connection = self._connected()
        headers = self._full_head(self._heads.get(path) or self._learn_head(path), timeout, metadata)
        call = ClientStream(connection, connection.calls)
        try:
            call.opened(connection.session.send_request(headers))
        except HTTP2Error as error:
            call.opened(0)
            connection.fail_later(call, str(error))
            return call
        connection.calls[call.stream_id] = call
        if timeout is not None:
            call.deadline = connection.loop.time() + timeout
            connection.deadlines.add(call, call.deadline)
        connection.mark_dirty()
        return call

    async def close(self) -> None:
        """End all calls with CANCELLED, send GOAWAY, close."""
        connection = self._connection
        if connection is None:
            return
        connection._on_lost = lambda reason: None
        for call in tuple(connection.calls.values()):
            call.finish(Code.CANCELLED, CONNECTION_CLOSING)
        connection.goaway(http2.NO_ERROR, b"")
        await asyncio.wait((connection.lost,), timeout=1.0)
        if not connection.lost.done():
            connection.transport.abort()  # the server does not read

    def _connected(self) -> ClientConnection:
        connection = self._connection
        if connection is None or connection.closing:
            reason = "not connected" if connection is None else connection.reason or "the connection is closing"
            raise RpcError(Code.UNAVAILABLE, reason, unprocessed=True)
        return connection

    def _learn_head(self, path: str) -> Headers:
        head: Headers = (
            (b":method", b"POST"),
            (b":scheme", b"https" if self._ssl else b"http"),
            (b":path", path.encode("ascii")),
            (b":authority", self._authority),
            (b"content-type", b"application/grpc"),
            (b"user-agent", self._options.user_agent.encode("ascii")),
            (b"te", b"trailers"),
        )
        self._heads[path] = head
        return head

    def _learn_timed_head(self, path: str, head: Headers, timeout: float) -> Headers:
        if len(self._timed_heads) >= _TIMED_HEADS_MAX:
            self._timed_heads.clear()
        self._timed_heads[path, timeout] = head = self._full_head(head, timeout, ())
        return head

    @staticmethod
    def _full_head(head: Headers, timeout: float | None, metadata: Metadata) -> Headers:
        more: list[Header] = encode_metadata(metadata)
        if timeout is not None:
            more.append((b"grpc-timeout", format_timeout(timeout)))
        return (*head, *more)
