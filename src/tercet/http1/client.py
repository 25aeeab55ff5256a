"""An HTTP/1.1 client for peers: one request at a time per connection, connections reused.

`HttpClient.request` returns the whole response. `HttpClient.open_stream` is for a GET whose body never ends: it reads the head
and hands over the connection. A listener closes idle connections after 5 s, so a reused one may be closed while a request is
sent; that request is sent once more on a new connection, which is safe for every request of the peer protocol.

Every failure is raised as an OSError, such as ConnectionError or TimeoutError, with a one-line text.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final, NamedTuple, Protocol, cast

import h11

from tercet.http1.messages import TextHeaders
from tercet.http1.origin import Origin
from tercet.tls import TlsProtocol

USER_AGENT: Final = "tercet"
RESPONSE_BYTES_MAX: Final = 4 << 20
_IDLE_SECONDS_MAX: Final = 4.0  # less than the 5 s after which a listener closes an idle connection
_IDLE_CONNECTIONS_MAX: Final = 64  # per origin; as many renewals are forwarded at a time
_WRITE_STALL_SECONDS: Final = 30.0
_HANDSHAKE_SECONDS: Final = 10.0  # etcd's TLSHandshakeTimeout, apart from the dial: see HttpClient
_STREAM_HEAD_SECONDS: Final = 5.0  # etcd's ConnReadTimeout of streams


class Answer(NamedTuple):
    """A response. `headers` have lower-case names; of a repeated one the first counts."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text, without the newline that ends etcd's errors."""
        return self.body.decode("utf-8", "replace").removesuffix("\n")


class ResponseTooLarge(ConnectionError):
    """The server has answered more than the caller wants to hold."""


class DialTls(Protocol):
    """The TLS of a client. server_name: the name that servers' certificates must have; "" for the host that is dialled."""

    server_name: str

    def context(self) -> ssl.SSLContext:
        """The context for one connection. Called for each, so that renewed certificates are used."""

    def reason(self, connection: ssl.SSLObject) -> str:
        """Why to refuse a server whose certificate the handshake has verified; "" to accept it."""


class HttpClient:
    """The connections of one member to its peers; `close` closes them all.

    dial_timeout: seconds for the TCP connection to be established.
    handshake_timeout: seconds for the TLS handshake after it. A handshake costs processor time on both sides: on loaded hosts a
    limit as short as the dial's would abandon handshakes half done and begin them again, without ever completing one.
    local_address: the IP address to dial from; "" for the one that the system chooses.
    reaches: whether an authority (`host:port`) can be reached now, asked before each request; None: all can.
    """

    def __init__(
        self,
        tls: DialTls | None = None,
        *,
        dial_timeout: float = 2.0,
        handshake_timeout: float = _HANDSHAKE_SECONDS,
        local_address: str = "",
        reaches: Callable[[str], bool] | None = None,
    ) -> None:
        self._reaches = reaches
        self._tls = tls
        self._local_address = (local_address, 0) if local_address else None
        self._dial_timeout = dial_timeout
        self._handshake_timeout = handshake_timeout
        self._idle: dict[Origin, list[ClientConnection]] = {}
        self._open: set[ClientConnection] = set()
        self._closed = False

    async def request(
        self,
        origin: Origin,
        method: str,
        path: str,
        headers: TextHeaders,
        body: bytes | AsyncIterator[bytes] = b"",
        *,
        timeout: float,
        response_bytes_max: int = RESPONSE_BYTES_MAX,
    ) -> Answer:
        """Send one request, return its response. timeout: seconds for the response once the body is sent.

        A body from an iterator is sent chunked, and never sent twice. Raises OSError (ConnectionError, of which
        ResponseTooLarge is one, TimeoutError).
        """
        self._check_reachable(origin)
        while True:
            connection, kept = await self._acquire(origin)
            connection.response_bytes_max = response_bytes_max
            try:
                answer = await connection.exchange(origin, method, path, headers, body, timeout)
            except ConnectionError:
                connection.abort()
                if kept and isinstance(body, bytes) and not connection.has_answered:
                    continue
                raise
            except BaseException:
                connection.abort()
                raise
            self._release(origin, connection)
            return answer

    async def open_stream(self, origin: Origin, path: str, headers: TextHeaders) -> tuple[Answer, asyncio.Transport, bytes]:
        """A GET with an endless response: its head, the connection, now the caller's, and the bytes that followed the head.

        With a status other than 200 the response is complete and the connection closed.
        """
        self._check_reachable(origin)
        connection = await self._dial(origin)
        try:
            answer = await connection.exchange(origin, "GET", path, headers, b"", _STREAM_HEAD_SECONDS, stream=True)
            if answer.status != 200:
                connection.abort()
                return answer, connection.transport, b""
            return answer, *connection.detach()
        except BaseException:
            connection.abort()
            raise

    async def close(self) -> None:
        self._closed = True
        for connection in list(self._open):
            connection.abort()
        await asyncio.sleep(0)  # transports call connection_lost in the next turn
        self._idle.clear()

    def _check_reachable(self, origin: Origin) -> None:
        if self._reaches is not None and not self._reaches(origin.authority):
            raise ConnectionError(f"{origin.authority} is cut off")

    async def _acquire(self, origin: Origin) -> tuple[ClientConnection, bool]:
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if connection.is_usable:
                connection.keep(None)
                return connection, True
        return await self._dial(origin), False

    def _release(self, origin: Origin, connection: ClientConnection) -> None:
        idle = self._idle.setdefault(origin, [])
        if self._closed or not connection.is_usable or len(idle) >= _IDLE_CONNECTIONS_MAX:
            connection.abort()
            return
        idle.append(connection)
        connection.keep(_IDLE_SECONDS_MAX)

    async def _dial(self, origin: Origin) -> ClientConnection:
        if self._closed:
            raise ConnectionError("the client is closed")
        tls = self._tls if origin.tls else None
        if origin.tls and tls is None:
            raise ConnectionError(f"https://{origin.authority} needs TLS, but no certificates are configured")
        connection = await self._connect(origin)
        try:
            if tls is not None:
                await self._handshake(connection, origin, tls)
            if self._is_closed():
                raise ConnectionError("the client is closed")
        except BaseException:
            connection.abort()
            raise
        reason = tls.reason(connection.transport.get_extra_info("ssl_object")) if tls is not None else ""
        if reason:
            connection.abort()
            raise ConnectionError(reason)
        return connection

    async def _connect(self, origin: Origin) -> ClientConnection:
        loop = asyncio.get_running_loop()

        def make() -> ClientConnection:
            return ClientConnection(self._open)

        try:
            async with asyncio.timeout(self._dial_timeout):
                if origin.unix_path:
                    _, connection = await loop.create_unix_connection(make, origin.unix_path)
                else:
                    _, connection = await loop.create_connection(make, origin.host, origin.port, local_addr=self._local_address)
        except TimeoutError:
            raise TimeoutError(f"no connection to {origin.authority} within {self._dial_timeout:g} s") from None
        except UnicodeError as error:
            raise ConnectionError(f"bad host name in {origin.authority}: {error}") from error
        return connection

    async def _handshake(self, connection: ClientConnection, origin: Origin, tls: DialTls) -> None:
        try:
            async with asyncio.timeout(self._handshake_timeout):
                await connection.start_tls(tls.context(), tls.server_name or origin.host)
        except TimeoutError:
            seconds = self._handshake_timeout
            raise TimeoutError(f"no TLS handshake with {origin.authority} within {seconds:g} s") from None
        except UnicodeError as error:
            raise ConnectionError(f"bad host name in {origin.authority}: {error}") from error

    def _is_closed(self) -> bool:
        return self._closed  # a method, so that mypy does not assume the value from before an await


class ClientConnection(asyncio.Protocol):
    """One connection, with one `exchange` at a time."""

    def __init__(self, register: set[ClientConnection]) -> None:
        self._register = register
        self._http = h11.Connection(h11.CLIENT)
        self._loop = asyncio.get_running_loop()
        self._lost: str | None = None
        self._waiter: asyncio.Future[None] | None = None  # for bytes
        self._drained: asyncio.Future[None] | None = None  # for resume_writing
        self._idle_timer: asyncio.TimerHandle | None = None
        self._busy = False
        self.has_answered = False  # a byte of the response to the current request has arrived
        self.response_bytes_max = RESPONSE_BYTES_MAX
        self.transport: asyncio.Transport

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._register.add(self)

    def data_received(self, data: bytes) -> None:
        self.has_answered = True
        if not self._busy:  # a response without a request
            self.abort()
            return
        self._http.receive_data(data)
        # The bytes wait in h11 until the request's coroutine takes them; it resumes reading when it needs more.
        self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        if self._busy:
            self._http.receive_data(b"")
        self._lost = self._lost or "the peer closed the connection"
        self._wake()

    def pause_writing(self) -> None:
        self._drained = self._loop.create_future()

    def resume_writing(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        self._lost = str(error) if error is not None else self._lost or "the connection was lost"
        self._register.discard(self)
        self.keep(None)
        self.resume_writing()
        self._wake()

    # For HttpClient

    async def start_tls(self, context: ssl.SSLContext, server_name: str) -> None:
        """Raises ConnectionError; the transport is closed then."""
        try:
            if self.transport.is_closing():
                raise ConnectionAbortedError(self._lost or "the connection was closed before its TLS handshake")
            dialled = _DialledTls(self, context, server_name)
            self.transport.set_protocol(dialled.protocol)
            dialled.protocol.connection_made(self.transport)
            await dialled.completed
        except BaseException:
            self._register.discard(self)  # connection_lost is not called for a connection lost during its handshake
            raise

    def refused(self, reason: str) -> None:
        """In TLS 1.3 the server looks at the certificate after the dialer's handshake."""
        self._lost = reason

    @property
    def is_usable(self) -> bool:
        return self._lost is None and not self.transport.is_closing() and self._http.our_state is h11.IDLE

    def keep(self, seconds: float | None) -> None:
        """Close the connection after `seconds` without use; None: it is in use."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        self._idle_timer = self._loop.call_later(seconds, self.abort) if seconds is not None else None

    def abort(self) -> None:
        self.transport.abort()

    def detach(self) -> tuple[asyncio.Transport, bytes]:
        """Hand over the connection, with the bytes that h11 has read beyond the head."""
        self._register.discard(self)
        rest, _ = self._http.trailing_data
        if self._lost is None and not self.transport.is_closing():
            self.transport.resume_reading()
        return self.transport, bytes(rest)

    async def exchange(
        self,
        origin: Origin,
        method: str,
        path: str,
        headers: TextHeaders,
        body: bytes | AsyncIterator[bytes],
        timeout: float,
        *,
        stream: bool = False,
    ) -> Answer:
        """Send the request, read the response; with `stream`, only the head of a 200."""
        self._busy = True
        self.has_answered = False
        all_headers = [("Host", origin.authority), ("User-Agent", USER_AGENT), *headers]
        try:
            if isinstance(body, bytes):
                if body or method == "POST":
                    all_headers.append(("Content-Length", str(len(body))))
                out = self._http.send(h11.Request(method=method, target=path, headers=all_headers)) or b""
                out += (self._http.send(h11.Data(data=body)) or b"") if body else b""
                self.transport.write(out + (self._http.send(h11.EndOfMessage()) or b""))
            else:
                all_headers.append(("Transfer-Encoding", "chunked"))
                self.transport.write(self._http.send(h11.Request(method=method, target=path, headers=all_headers)) or b"")
                await self._send_chunks(body)
            return await self._read_answer(timeout, stream)
        except h11.ProtocolError as error:
            raise ConnectionError(f"invalid HTTP response from {origin.authority}: {error}") from error

    async def _send_chunks(self, body: AsyncIterator[bytes]) -> None:
        async for chunk in body:
            if self._lost is not None and not self.has_answered:
                raise ConnectionResetError(self._lost)
            if self.has_answered:  # refused before the end of the body: the rest would be discarded
                return
            if chunk:
                self.transport.write(self._http.send(h11.Data(data=chunk)) or b"")
            if self._drained is not None:
                try:
                    async with asyncio.timeout(_WRITE_STALL_SECONDS):
                        await self._drained
                except TimeoutError:
                    raise TimeoutError(f"the peer read nothing for {_WRITE_STALL_SECONDS:g} s") from None
        self.transport.write(self._http.send(h11.EndOfMessage()) or b"")

    async def _read_answer(self, timeout: float, stream: bool) -> Answer:
        try:
            async with asyncio.timeout(timeout):
                return await self._read_events(stream)
        except TimeoutError:
            raise TimeoutError(f"no response within {timeout:g} s") from None

    async def _read_events(self, stream: bool) -> Answer:
        status = 0
        headers: dict[str, str] = {}
        body = bytearray()
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                await self._more()
            elif isinstance(event, h11.Response):
                status = event.status_code
                for name, value in event.headers:
                    headers.setdefault(name.decode("latin-1"), value.decode("latin-1"))
                if stream and status == 200:
                    if headers.get("transfer-encoding", "").lower() != "chunked":
                        raise ConnectionError("the body of a stream is not chunked")
                    return Answer(status, headers, b"")
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > self.response_bytes_max:
                    raise ResponseTooLarge(f"the response exceeds {self.response_bytes_max} bytes")
            elif isinstance(event, h11.EndOfMessage):
                break
            elif isinstance(event, h11.ConnectionClosed):
                raise ConnectionResetError(self._lost or "the peer closed the connection")
        self._busy = False
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        if self._lost is None and not self.transport.is_closing():
            self.transport.resume_reading()  # to notice when the peer closes an idle connection
        return Answer(status, headers, bytes(body))

    async def _more(self) -> None:
        if self._lost is not None:
            raise ConnectionResetError(self._lost)
        self._waiter = self._loop.create_future()
        if not self.transport.is_closing():
            self.transport.resume_reading()
        await self._waiter

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class _DialledTls:
    """The TLS of a dialled connection. `completed`: by the handshake, or by the ConnectionError that it ends with."""

    def __init__(self, connection: ClientConnection, context: ssl.SSLContext, server_name: str) -> None:
        self._connection = connection
        self.completed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.protocol = TlsProtocol(
            context,
            self._complete,
            on_rejected=self._refuse,
            on_lost=self._lose,
            server_hostname=server_name,
            is_server=False,
        )

    def _complete(self) -> ClientConnection:
        if not self.completed.done():
            self.completed.set_result(None)
        return self._connection

    def _refuse(self, transport: asyncio.BaseTransport, reason: str) -> None:
        if self.completed.done():
            self._connection.refused(reason)
        else:
            self.completed.set_exception(ConnectionError(reason))

    def _lose(self) -> None:
        if not self.completed.done():
            self.completed.set_exception(ConnectionResetError("the connection was lost during the TLS handshake"))
