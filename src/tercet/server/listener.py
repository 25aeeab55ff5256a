"""Listening sockets, and who gets a connection: gRPC or HTTP.

One address may speak both, and both with and without TLS:

    http    the first bytes say it: HTTP/2's preface means gRPC, anything else HTTP/1.1
    https   ALPN says it: h2 goes to the gRPC server, which passes plain requests on; the rest to HTTP/1.1
    both    the first byte says whether a TLS handshake begins

Sockets are opened early and served late: until the member is ready, the kernel lets clients connect and wait, as etcd does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

from tercet.errors import ConfigError
from tercet.gotext.host_port import join_host_port
from tercet.gotext.urls import Url
from tercet.server.logs.zap_format import fields
from tercet.server.tls.contexts import ServerTls
from tercet.server.tls.verification import PeerCheck

logger = logging.getLogger(__name__)
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_BACKLOG = 1024
_FIRST_BYTES_SECONDS = 300.0
_HANDSHAKE_SECONDS = 30.0
_TLS_HANDSHAKE = 0x16

ProtocolFactory = Callable[[bytes], asyncio.Protocol]
"""Makes the protocol of a connection, given what has been read of it already."""


@dataclass(frozen=True, slots=True)
class Address:
    """A bound socket and the URLs that name it: one, or an http and an https one."""

    socket: socket.socket
    urls: tuple[Url, ...]

    @property
    def has_plain(self) -> bool:
        return any(not url.is_secure for url in self.urls)

    @property
    def has_tls(self) -> bool:
        return any(url.is_secure for url in self.urls)

    @property
    def port(self) -> int:
        """The port in use, also where the URL said 0."""
        name = self.socket.getsockname()
        return int(name[1]) if isinstance(name, tuple) else 0


def open_addresses(urls: Iterable[Url], *, reuse_port: bool = False, reuse_address: bool = False) -> list[Address]:
    """Bind and listen on each address once. Raises ConfigError with Go's text, and leaves nothing open then."""
    by_address: dict[str, list[Url]] = {}
    for url in urls:
        by_address.setdefault(url.address, []).append(url)
    opened: list[Address] = []
    try:
        for named in by_address.values():
            opened.append(Address(_listen(named[0], reuse_port, reuse_address), tuple(named)))
    except ConfigError:
        for address in opened:
            address.socket.close()
        raise
    return opened


def _listen(url: Url, reuse_port: bool, reuse_address: bool) -> socket.socket:
    family, where, shown = _where(url)
    listening = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        if family != socket.AF_UNIX:
            # Go's listeners set it always; --socket-reuse-address is for systems where that is not enough.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        elif os.path.exists(url.address):
            os.unlink(url.address)  # left by a process that is gone
        if reuse_port:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if url.host == "::" else 1)
        listening.bind(where)
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise ConfigError(f"listen {shown}: bind: {os.strerror(error.errno or 0).lower()}") from error
    except OverflowError as error:
        listening.close()
        raise ConfigError(f"listen tcp: address {url.port}: invalid port") from error
    return listening


def _where(url: Url) -> tuple[socket.AddressFamily, Any, str]:
    """(family, what to bind, how Go prints it)."""
    if url.is_unix:
        return socket.AF_UNIX, url.address, f"unix {url.address}"
    host = "127.0.0.1" if url.host == "localhost" else url.host
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return family, (host, url.port), f"tcp {join_host_port(host, url.port)}"


@dataclass(frozen=True, slots=True)
class Services:
    """What an address serves. grpc takes HTTP/2, plain_http and secure_http HTTP/1.1; None refuses it."""

    grpc: ProtocolFactory | None
    plain_http: ProtocolFactory | None
    secure_http: ProtocolFactory | None


class Listener:
    """Serves one address. endpoint: "client" or "peer", for the log."""

    def __init__(self, address: Address, services: Services, *, tls: ServerTls | None = None, endpoint: str = "client") -> None:
        if address.has_tls and tls is None:
            raise ConfigError(f"cannot listen on TLS for {address.urls[0].address}: KeyFile and CertFile are not presented")
        self._address = address
        self._services = services
        self._tls = tls if address.has_tls else None
        self._check = PeerCheck(tls.files) if tls is not None else None
        self._endpoint = endpoint
        self._server: asyncio.AbstractServer | None = None
        self._acceptor: _Acceptor | None = None

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        if self._tls is not None and self._address.has_plain:
            self._acceptor = _Acceptor(loop, self._address.socket, self._plain, self._secure, self._tls.context)
            self._acceptor.start()
        elif self._tls is not None:
            self._server = await loop.create_server(
                self._secure,
                sock=self._address.socket,
                ssl=self._tls.context,
                ssl_handshake_timeout=_HANDSHAKE_SECONDS,
                backlog=_BACKLOG,
            )
        else:
            self._server = await loop.create_server(self._plain, sock=self._address.socket, backlog=_BACKLOG)

    def stop(self) -> None:
        """Accept no more connections; those that are open stay open."""
        if self._server is not None:
            self._server.close()
        if self._acceptor is not None:
            self._acceptor.stop()
        self._address.socket.close()

    def _plain(self) -> asyncio.Protocol:
        return _Sniffing(self._services)

    def _secure(self) -> asyncio.Protocol:
        return _Negotiated(self._services, self._check, self._endpoint)


class _Sniffing(asyncio.Protocol):
    """Looks at the first bytes of a connection without TLS, then hands it over with them."""

    __slots__ = ("_first", "_services", "_timer", "_transport")

    def __init__(self, services: Services) -> None:
        self._services = services
        self._first = b""
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._timer = asyncio.get_running_loop().call_later(_FIRST_BYTES_SECONDS, self._transport.close)

    def data_received(self, data: bytes) -> None:
        first = self._first = self._first + data
        if len(first) < len(PREFACE) and PREFACE.startswith(first):
            return  # still both are possible
        services = self._services
        _hand_over(self._transport, services.grpc if first.startswith(PREFACE) else services.plain_http, first)
        self._stop_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Negotiated(asyncio.Protocol):
    """Chooses by what the TLS handshake agreed on, after the rules about certificates."""

    __slots__ = ("_check", "_endpoint", "_services")

    def __init__(self, services: Services, check: PeerCheck | None, endpoint: str) -> None:
        self._services = services
        self._check = check
        self._endpoint = endpoint

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        connection: ssl.SSLObject = transport.get_extra_info("ssl_object")
        reason = self._check.reason(connection) if self._check is not None else ""
        if reason:
            _log_rejected(self._endpoint, transport, reason)
            cast(asyncio.Transport, transport).abort()
            return
        is_http2 = connection.selected_alpn_protocol() == "h2"
        _hand_over(transport, self._services.grpc if is_http2 else self._services.secure_http, b"")


def _hand_over(transport: asyncio.BaseTransport | None, factory: ProtocolFactory | None, first: bytes) -> None:
    if transport is None:
        return
    if factory is None:
        transport.close()
        return
    protocol = factory(first)
    transport.set_protocol(protocol)
    protocol.connection_made(transport)


class _Acceptor:
    """Accepts on an address that speaks with and without TLS, and looks at the first byte before the event loop does.

    asyncio cannot begin TLS on a connection of which bytes have been read, so the byte is only peeked at.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listening: socket.socket,
        plain: Callable[[], asyncio.Protocol],
        secure: Callable[[], asyncio.Protocol],
        context: ssl.SSLContext,
    ) -> None:
        self._loop = loop
        self._listening = listening
        self._plain = plain
        self._secure = secure
        self._context = context
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        self._spawn(self._accept())

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _spawn(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self) -> None:
        while True:
            try:
                connection, _ = await self._loop.sock_accept(self._listening)
            except OSError as error:  # out of file descriptors, or a client that left
                logger.warning("accept failed", extra=fields(error=str(error)))
                await asyncio.sleep(0.1)
                continue
            self._spawn(self._serve(connection))

    async def _serve(self, connection: socket.socket) -> None:
        try:
            async with asyncio.timeout(_FIRST_BYTES_SECONDS):
                await self._readable(connection)
            first = connection.recv(1, socket.MSG_PEEK)
            if first and first[0] == _TLS_HANDSHAKE:
                await self._loop.connect_accepted_socket(
                    self._secure, connection, ssl=self._context, ssl_handshake_timeout=_HANDSHAKE_SECONDS
                )
            else:
                await self._loop.connect_accepted_socket(self._plain, connection)
        except (OSError, TimeoutError) as error:  # ssl.SSLError is an OSError
            connection.close()
            logger.debug("connection ended before its first request", extra=fields(error=str(error)))
        except asyncio.CancelledError:
            connection.close()
            raise

    async def _readable(self, connection: socket.socket) -> None:
        ready = self._loop.create_future()
        self._loop.add_reader(connection.fileno(), _wake, ready)
        try:
            await ready
        finally:
            self._loop.remove_reader(connection.fileno())


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


def log_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """For `loop.set_exception_handler`: what strangers do to a connection is one line, the rest keeps its traceback."""
    error = context.get("exception")
    if isinstance(error, ssl.SSLError | ConnectionError | TimeoutError):
        transport = context.get("transport")
        if transport is not None:
            _log_rejected("client", cast(asyncio.BaseTransport, transport), str(error))
        else:
            logger.warning("rejected connection", extra=fields(error=str(error)))
        return
    logger.error(
        str(context.get("message", "error in the event loop")),
        exc_info=error if isinstance(error, BaseException) else None,
        extra=fields(where=str(context.get("handle") or context.get("task") or "")),
    )


def _log_rejected(endpoint: str, transport: asyncio.BaseTransport, reason: str) -> None:
    remote: Any = None
    with contextlib.suppress(Exception):  # a transport that is closing may refuse to say
        remote = transport.get_extra_info("peername")
    shown = join_host_port(str(remote[0]), int(remote[1])) if isinstance(remote, tuple) else str(remote or "")
    logger.warning(f"rejected connection on {endpoint} endpoint", extra=fields(remote_addr=shown, error=reason))
