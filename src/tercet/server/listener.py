"""Listening sockets and the dispatch of their connections to gRPC or HTTP.

One address can serve both, each with and without TLS:

    http    by the first bytes: the preface of HTTP/2 selects gRPC, anything else HTTP/1.1
    https   by ALPN: h2 selects the gRPC server, which passes plain requests on; anything else HTTP/1.1
    both    by the first byte, which begins a TLS handshake or not

Sockets are bound early and served late: until the member is ready, connections wait in the kernel's queue, as with etcd.

The last descriptors that the process may open are not for clients: files and peers need them. A client beyond is disconnected
at once (etcd lets it wait).

Source: etcd server/embed/serve.go, client/pkg/transport/listener_tls.go (the line "rejected connection").
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import resource
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, cast

from tercet.errors import ConfigError
from tercet.gotext.host_port import join_host_port, unmapped
from tercet.gotext.urls import Url
from tercet.intake import intake_of_running_loop
from tercet.log_fields import fields
from tercet.server.tls.contexts import ServerTls
from tercet.server.tls.verification import PeerCheck, alternative_names
from tercet.tls import TlsProtocol

logger = logging.getLogger(__name__)
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_BACKLOG = 1024
_FIRST_BYTES_SECONDS = 300.0
_RESERVED_DESCRIPTORS = 150  # etcd's reservedInternalFDNum
_HANDSHAKE_RECORD = 0x16
_CONNECTION_WORK = 8  # of a turn of the loop, to make what serves a connection: 40 us

ProtocolFactory = Callable[[bytes], asyncio.Protocol]
"""Makes the protocol of a connection. Argument: the bytes already read from it."""


class Address(NamedTuple):
    """A bound socket and its URLs: one, or one with http and one with https.

    file: device and inode of a Unix socket that this process has bound.
    """

    socket: socket.socket
    urls: tuple[Url, ...]
    file: tuple[int, int] | None = None

    @property
    def has_plain(self) -> bool:
        return any(not url.is_secure for url in self.urls)

    @property
    def has_tls(self) -> bool:
        return any(url.is_secure for url in self.urls)

    @property
    def port(self) -> int:
        """The bound port, also if the URL has port 0."""
        name = self.socket.getsockname()
        return int(name[1]) if isinstance(name, tuple) else 0

    def close(self) -> None:
        """Also remove the file of a Unix socket, as Go does, unless another process has bound its path by now."""
        self.socket.close()
        path = self.urls[0].address
        if self.file is not None:
            with contextlib.suppress(OSError):
                if _identity(path) == self.file:
                    os.unlink(path)


def open_addresses(
    urls: Iterable[Url],
    *,
    reuse_port: bool = False,
    reuse_address: bool = False,
    listen: bool = True,
    bound: Mapping[str, socket.socket] | None = None,
) -> list[Address]:
    """Bind each address once, and listen. Raises ConfigError with Go's text, after closing the other sockets.

    listen=False: connections are refused until a Listener starts, instead of waiting for it.
    bound: sockets that an embedding program has bound already, by address; they become the listeners'.
    """
    by_address: dict[str, list[Url]] = {}
    for url in urls:
        by_address.setdefault(url.address, []).append(url)
    opened: list[Address] = []
    try:
        for named in by_address.values():
            url = named[0]
            given = (bound or {}).get(url.address)
            file = None
            if given is None:
                given = _bind(url, reuse_port, reuse_address, listen)
                file = _identity(url.address) if url.is_unix else None
            opened.append(Address(given, tuple(named), file))
    except ConfigError:
        for address in opened:
            address.close()
        raise
    return opened


def _identity(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _bind(url: Url, reuse_port: bool, reuse_address: bool, listen: bool) -> socket.socket:
    family, where, shown = _where(url)
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setblocking(False)
        if family != socket.AF_UNIX:
            # Go's listeners always set it; --socket-reuse-address has no further effect here.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        elif os.path.exists(url.address):
            os.unlink(url.address)  # left by a process that has exited
        if reuse_port:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if url.host == "::" else 1)
        listening.bind(where)
        if listen:
            listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise _bind_error(shown, error) from error
    except OverflowError as error:
        listening.close()
        raise ConfigError(f"listen tcp: address {url.port}: invalid port") from error
    return listening


def _bind_error(shown: str, error: OSError) -> ConfigError:
    code = error.errno or errno.EINVAL  # Python refuses the path of a Unix socket that is too long before the system does
    return ConfigError(f"listen {shown}: bind: {os.strerror(code).lower()}")


def _where(url: Url) -> tuple[socket.AddressFamily, Any, str]:
    """(family, address to bind, its text in Go's errors)."""
    if url.is_unix:
        return socket.AF_UNIX, url.address, f"unix {url.address}"
    host = "127.0.0.1" if url.host == "localhost" else unmapped(url.host)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return family, (host, url.port), f"tcp {join_host_port(host, url.port)}"


class Services(NamedTuple):
    """Protocols by kind of connection; a connection for None is closed. grpc: HTTP/2. plain_http, secure_http: HTTP/1.1."""

    grpc: ProtocolFactory | None
    plain_http: ProtocolFactory | None
    secure_http: ProtocolFactory | None


class Listener:
    """Serves one address. endpoint: "client" or "peer", for the log. Raises ConfigError for a TLS URL without `tls`."""

    def __init__(self, address: Address, services: Services, *, tls: ServerTls | None = None, endpoint: str = "client") -> None:
        if address.has_tls and tls is None:
            raise ConfigError(f"cannot listen on TLS for {address.urls[0].address}: KeyFile and CertFile are not presented")
        self._address = address
        self._services = services
        self._tls = tls if address.has_tls else None
        self._check = PeerCheck(tls.files) if tls is not None else None
        self._endpoint = endpoint
        self._server: asyncio.AbstractServer | None = None

    async def start(self) -> None:
        """Raises ConfigError if another process listens on the address by now."""
        if self._tls is None:
            factory: Callable[[], asyncio.BaseProtocol] = self._plain
        else:
            factory = self._either if self._address.has_plain else self._secure
        loop = asyncio.get_running_loop()
        try:
            self._address.socket.listen(_BACKLOG)  # uvloop does not raise the error of its own
        except OSError as error:
            raise _bind_error(_where(self._address.urls[0])[2], error) from error
        self._server = await loop.create_server(factory, sock=self._address.socket, backlog=_BACKLOG)

    async def start_again(self, bound: Mapping[str, socket.socket]) -> None:
        """After `stop`. bound: see `open_addresses`. Raises ConfigError if the address cannot be bound."""
        (self._address,) = open_addresses(self._address.urls, bound=bound)
        await self.start()

    def stop(self) -> None:
        """Accept no more connections; open ones stay open."""
        if self._server is not None:
            self._server.close()
        self._address.close()

    def _plain(self) -> asyncio.Protocol:
        return _Sniffing(self._services, None, self._has_room)

    def _either(self) -> asyncio.Protocol:
        return _Sniffing(self._services, self._secure, self._has_room)

    def _secure(self) -> TlsProtocol:
        assert self._tls is not None
        return TlsProtocol(self._tls.context(), self._negotiated, on_rejected=self._rejected, admits=self._has_room)

    def _negotiated(self) -> asyncio.Protocol:
        return _Negotiated(self._services, self._check, self._rejected)

    def _has_room(self, transport: asyncio.BaseTransport) -> bool:
        return self._endpoint == "peer" or has_room(transport)

    def _rejected(self, transport: asyncio.BaseTransport, reason: str) -> None:
        log_rejected(self._endpoint, transport, reason)


def has_room(transport: asyncio.BaseTransport) -> bool:
    """May this connection stay open? The kernel gives the lowest free descriptor, so its number tells how many are open."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return True
    accepted: socket.socket | None = transport.get_extra_info("socket")  # a simulated connection has none
    return accepted is None or accepted.fileno() < limit - min(_RESERVED_DESCRIPTORS, limit // 2)


class _Sniffing(asyncio.Protocol):
    """Reads the first bytes of a connection, then hands it over with them. secure: makes the protocol for TLS, if served."""

    __slots__ = ("_admits", "_first", "_secure", "_services", "_timer", "_transport")

    def __init__(
        self,
        services: Services,
        secure: Callable[[], TlsProtocol] | None,
        admits: Callable[[asyncio.BaseTransport], bool],
    ) -> None:
        self._admits = admits
        self._services = services
        self._secure = secure
        self._first = b""
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self._admits(transport):
            self._transport.abort()
            return
        self._timer = asyncio.get_running_loop().call_later(_FIRST_BYTES_SECONDS, self._transport.close)

    def data_received(self, data: bytes) -> None:
        first = self._first = self._first + data
        if self._secure is not None and first[0] == _HANDSHAKE_RECORD:
            self._begin_tls(self._secure(), first)
        elif len(first) < len(PREFACE) and PREFACE.startswith(first):
            return  # may still be either
        else:
            self._take_turn()
        self._stop_timer()

    def _take_turn(self) -> None:
        """Hand over now, or in a turn that allows it: thousands of clients may come back at once."""
        intake, transport = intake_of_running_loop(), self._transport
        if intake.admits() or transport is None:
            intake.spend(_CONNECTION_WORK)
            self._finish()
        else:
            transport.pause_reading()
            intake.run(self._resume, _CONNECTION_WORK)

    def _resume(self) -> None:
        transport = self._transport
        if transport is not None and not transport.is_closing():
            transport.resume_reading()
            self._finish()

    def _finish(self) -> None:
        services, first = self._services, self._first
        _hand_over(self._transport, services.grpc if first.startswith(PREFACE) else services.plain_http, first)

    def _begin_tls(self, protocol: TlsProtocol, first: bytes) -> None:
        transport = self._transport
        assert transport is not None
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.receive(first)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Negotiated(asyncio.Protocol):
    """After a TLS handshake: checks the client's certificate, then hands over by ALPN."""

    __slots__ = ("_check", "_on_rejected", "_services", "_task")

    def __init__(
        self, services: Services, check: PeerCheck | None, on_rejected: Callable[[asyncio.BaseTransport, str], None]
    ) -> None:
        self._services = services
        self._check = check
        self._on_rejected = on_rejected
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        connection: ssl.SSLObject = transport.get_extra_info("ssl_object")
        reason = self._check.reason(connection) if self._check is not None else ""
        remote = transport.get_extra_info("peername")
        if reason:
            self._reject(transport, reason)
        elif self._check is not None and self._check.checks_address and isinstance(remote, tuple):
            cast(asyncio.Transport, transport).pause_reading()
            self._task = asyncio.get_running_loop().create_task(self._check_address(self._check, transport, str(remote[0])))
        else:
            self._select(transport)

    async def _check_address(self, check: PeerCheck, transport: asyncio.BaseTransport, remote: str) -> None:
        reason = await check.address_reason(transport.get_extra_info("ssl_object"), remote)
        if reason:
            self._reject(transport, reason)
        else:
            self._select(transport)
            cast(asyncio.Transport, transport).resume_reading()

    def _select(self, transport: asyncio.BaseTransport) -> None:
        is_http2 = transport.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
        _hand_over(transport, self._services.grpc if is_http2 else self._services.secure_http, b"")

    def _reject(self, transport: asyncio.BaseTransport, reason: str) -> None:
        self._on_rejected(transport, reason)
        cast(asyncio.Transport, transport).abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._task is not None:
            self._task.cancel()


def _hand_over(transport: asyncio.BaseTransport | None, factory: ProtocolFactory | None, first: bytes) -> None:
    if transport is None:
        return
    if factory is None:
        transport.close()
        return
    protocol = factory(first)
    transport.set_protocol(protocol)
    protocol.connection_made(transport)


def log_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """For `loop.set_exception_handler`: connection errors are a line without a traceback."""
    error = context.get("exception")
    if isinstance(error, ssl.SSLError | ConnectionError | TimeoutError):
        logger.warning("connection failed", extra=fields(error=str(error)))
        return
    logger.error(
        str(context.get("message", "error in the event loop")),
        exc_info=error if isinstance(error, BaseException) else None,
        extra=fields(where=str(context.get("handle") or context.get("task") or "")),
    )


def log_rejected(endpoint: str, transport: asyncio.BaseTransport, reason: str) -> None:
    """etcd's line about a connection that was closed before its first request. endpoint: "client" or "peer"."""
    remote = transport.get_extra_info("peername")
    shown = join_host_port(str(remote[0]), int(remote[1])) if isinstance(remote, tuple) else str(remote or "")
    names = _names_presented(transport)
    logger.warning(f"rejected connection on {endpoint} endpoint", extra=fields(names, remote_addr=shown, error=reason))


def _names_presented(transport: asyncio.BaseTransport) -> dict[str, object]:
    """Of the certificate of a connection that is refused after its handshake: whose it was."""
    connection: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    try:
        certificate = connection.getpeercert() if connection is not None else None
    except ValueError:  # the handshake has failed
        certificate = None
    if not certificate:
        return {}
    addresses, names = alternative_names(certificate, "IP Address"), alternative_names(certificate, "DNS")
    return {"ip-addresses": addresses, "dns-names": names}
