"""A client's connection: one at a time, to the first endpoint that answers, and to the next one when it fails.

    connector = Connector(endpoints, tls, Limits())
    channel = await connector.connected(deadline)

If no endpoint answers, all are tried again with a growing pause, until the deadline.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import re
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tercet.client import forks
from tercet.client.dial import dial
from tercet.client.endpoint import Endpoint, parse_endpoint
from tercet.client.errors import CLIENT_CLOSED
from tercet.client.events import Events
from tercet.client.proxy import dial_through, proxy_for
from tercet.client.quiet_streams import QuietStreams
from tercet.client.silence import Silence
from tercet.client.tls import ReloadedTLS, TLSFiles
from tercet.errors import Code, ConfigError, StatusError
from tercet.rpc import Channel, ChannelOptions, RpcError

if TYPE_CHECKING:
    from tercet.client.connections import Connection, Stream
    from tercet.client.srv import SrvDomain
    from tercet.rpc import InProcessConnection

logger = logging.getLogger("tercet.client")
_TOO_MANY_PINGS = "too_many_pings"
_ERRNO = re.compile(r"^\[Errno -?\d+\] ")
_CUT_OFF = "error reading from server: "
_DIAL_SECONDS_MAX = 20.0
_PAUSE_SECONDS = 0.05
_PAUSE_SECONDS_MAX = 1.0


@dataclass(frozen=True)
class Limits:
    """A client's limits. A keepalive below 10 s is raised to 10 s: servers close connections that ping more often.

    dial_timeout_seconds: 0 or less is gRPC's limit of one dial, 20 s, as for etcd's clients.
    quiet_seconds: how long open streams may bring nothing before the member is asked for its health.
    """

    dial_timeout_seconds: float = 2.0
    request_bytes_max: int = 2 << 20
    response_bytes_max: int = 0x7FFFFFFF
    keepalive_seconds: float = 10.0
    keepalive_timeout_seconds: float = 6.0
    quiet_seconds: float = 3.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "keepalive_seconds", max(self.keepalive_seconds, 10.0))
        if self.dial_timeout_seconds <= 0:
            object.__setattr__(self, "dial_timeout_seconds", _DIAL_SECONDS_MAX)


def _closed() -> StatusError:
    return StatusError(Code.CANCELLED, CLIENT_CLOSED)


class Unreachable(StatusError):
    """No endpoint answered. Nothing was sent, so even a write may be retried. `reason`: why the last attempt failed."""

    def __init__(self, code: Code, message: str, endpoint: Endpoint, reason: str) -> None:
        super().__init__(code, message)
        self.endpoint = endpoint
        self.reason = reason


class Connector:
    """Holds the connection; shared by all tasks of a client."""

    def __init__(
        self,
        endpoints: Sequence[str],
        tls: TLSFiles | ssl.SSLContext | None,
        limits: Limits,
        events: Events,
        *,
        domain: SrvDomain | None = None,
        on_connected: Callable[[], object] = lambda: None,
    ) -> None:
        """domain: whose SRV records name the endpoints, looked up before the first connection and when no endpoint answers.

        on_connected: called after each connection. Raises ConfigError for endpoints or TLS files that cannot be used.
        """
        self._given_tls = ReloadedTLS(tls) if isinstance(tls, TLSFiles) else tls
        if domain is not None:
            self._given: tuple[Endpoint, ...] = (Endpoint(f"SRV records of {domain.domain}", domain.domain, 0, None),)
        elif endpoints:
            self._given = tuple(parse_endpoint(text) for text in endpoints)
        else:
            raise ConfigError("no endpoints given")
        self._domain = domain
        self._on_connected = on_connected
        self._endpoints = list(self._given)
        self._cas = tls.cacert if isinstance(tls, TLSFiles) and tls.cacert else "the system's CA certificates"
        self._default_tls: ssl.SSLContext | None = None
        self._limits = limits
        self._events = events
        self._keepalive_seconds = limits.keepalive_seconds
        self._at = 0
        self._channel: Connection | None = None
        self._silence: Silence | None = None
        self._quiet: QuietStreams | None = None
        self._retired: list[Connection] = []
        self._dialing = asyncio.Lock()
        self._is_closed = False
        self._abandoned: list[Connection] = []

    @property
    def endpoints(self) -> list[Endpoint]:
        return self._endpoints

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint in use, or to be tried next."""
        return self._endpoints[self._at]

    @property
    def usable(self) -> Connection | None:
        """The open channel, if there is one that takes calls."""
        channel = self._channel
        return channel if channel is not None and channel.is_usable else None

    async def connected(self, deadline: float) -> Connection:
        """An open channel, connected first if necessary. `deadline` is on the loop's clock. Raises Unreachable.

        Raises StatusError after `close`.
        """
        channel = self.usable
        if channel is not None:
            return channel
        async with self._dialing:
            if self._channel is not None and not self._channel.is_usable:
                self._retired.append(self._channel)  # the server has sent GOAWAY: calls in flight may still be answered
                self._channel = None
            if self._channel is None:
                channel = await self._dial_until(deadline)
                if self._is_closed:  # while it was dialled
                    self._stop_checks()
                    await channel.close()
                    raise _closed()
                self._channel = channel
            return self._channel

    def call_begins(self) -> None:
        """A call is made on the open channel: watch for silence."""
        if self._silence is not None:
            self._silence.call_begins()

    def stream_begins(self, channel: Connection) -> None:
        """A stream is opened on this channel: ask the member for its health while it brings nothing."""
        if self._quiet is not None and channel is self._channel and len(self._endpoints) > 1:
            self._quiet.stream_begins()

    def _move_on(self, channel: Channel) -> None:
        """A member does not answer: use the next endpoint. Its connection stays open for the writes that wait there."""
        if channel is not self._channel or len(self._endpoints) == 1:
            return
        logger.info("%s does not answer, not even a ping: using the next endpoint", self.endpoint.text)
        self._retire()
        channel.abandon("the member does not answer")

    def _retire(self) -> None:
        """Use the next endpoint."""
        self._stop_checks()
        if self._channel is not None:
            self._retired.append(self._channel)
        self._channel = None
        self._at = (self._at + 1) % len(self._endpoints)

    def _stop_checks(self) -> None:
        for check in (self._silence, self._quiet):
            if check is not None:
                check.stop()
        self._silence = self._quiet = None

    def replace(self, endpoints: Sequence[str]) -> None:
        """Use these endpoints from now on, after the one that is connected; those given at first remain as the last resort."""
        current = self.endpoint
        found = [parse_endpoint(text) for text in endpoints]
        known = {endpoint.text for endpoint in found}
        self._endpoints = found + [endpoint for endpoint in self._given if endpoint.text not in known]
        if current not in self._endpoints:
            self._endpoints.insert(0, current)
        self._at = self._endpoints.index(current)

    async def drop(self, channel: Connection) -> None:
        """A call failed on this channel: use the next endpoint, unless another task has already moved on.

        Other calls may still succeed on it (a member without a leader serves serializable reads): it is closed after the last.
        """
        if channel is self._channel:
            self._retire()
        idle = [retired for retired in self._retired if not retired.open_calls]
        self._retired = [retired for retired in self._retired if retired.open_calls]
        for one in idle:
            await one.close()

    async def leave(self, stream: Stream) -> None:
        """The member that carries this stream is not fit for it: use the next endpoint, unless another task has moved on."""
        channel = self._channel
        if channel is not None and channel.carries(stream):
            await self.drop(channel)

    async def close(self) -> None:
        """Close the connections. Calls in flight fail, and so do later ones."""
        self._is_closed = True
        channels = [*self._retired, *([self._channel] if self._channel else [])]
        self._channel, self._retired = None, []
        self._stop_checks()
        for channel in channels:
            await channel.close()

    def after_fork(self) -> None:
        """In a child process: the connections are the parent's. They are kept: garbage would be closed on its selector."""
        for channel in (*self._retired, *([self._channel] if self._channel else [])):
            descriptor = channel.descriptor
            if descriptor >= 0:
                forks.disconnect(descriptor)
            self._abandoned.append(channel)
        self._channel, self._silence, self._quiet, self._retired = None, None, None, []
        self._dialing = asyncio.Lock()

    async def _dial_until(self, deadline: float) -> Connection:
        loop = asyncio.get_running_loop()
        pause = _PAUSE_SECONDS
        reason = ""
        if self._domain is not None and self._endpoints[0].port == 0:
            await self._discover(self._domain, deadline)
        while True:
            if self._is_closed:
                raise _closed()
            failures: list[BaseException] = []
            tried: list[str] = []
            for _ in self._endpoints:
                try:
                    dialing = self._dial(min(self._limits.dial_timeout_seconds, deadline - loop.time()))
                    return await self._events.around("connect", dialing, endpoint=self.endpoint.text)
                except RpcError as error:
                    failures.append(error.reason or error)
                    endpoint = self.endpoint
                    tried.append(self._why(failures[-1], endpoint))
                    self._at = (self._at + 1) % len(self._endpoints)
            if not reason or not all(isinstance(failure, TimeoutError) for failure in failures):
                reason = "; ".join(tried)  # else the deadline has cut the attempts short, and the reason is an earlier one
            if all(isinstance(failure, ssl.SSLError) for failure in failures):
                # Retrying does not help against a bad certificate.
                raise Unreachable(Code.UNAVAILABLE, reason, endpoint, reason)
            if loop.time() + pause >= deadline:
                raise Unreachable(Code.DEADLINE_EXCEEDED, "context deadline exceeded", endpoint, reason)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _PAUSE_SECONDS_MAX)
            if self._domain is not None:
                await self._discover(self._domain, deadline)

    async def _discover(self, domain: SrvDomain, deadline: float) -> None:
        """Use the endpoints of the domain's SRV records. Raises Unreachable if they never could be looked up."""
        from tercet.client.srv import LookupFailed, client_endpoints  # few clients have a domain

        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(None if deadline == math.inf else deadline):
                found = await loop.run_in_executor(None, client_endpoints, domain.domain, domain.name, domain.resolver)
        except (LookupFailed, TimeoutError) as error:
            if self._endpoints[0].port:
                logger.info("the endpoints are kept as they are: %s", error)
                return
            reason = str(error) or "the lookup of SRV records timed out"
            raise Unreachable(Code.UNAVAILABLE, reason, self.endpoint, reason) from error
        self._given = tuple(parse_endpoint(text) for text in found)
        self._endpoints, self._at = list(self._given), 0

    def _why(self, error: BaseException, endpoint: Endpoint) -> str:
        """Why an endpoint could not be used; with several endpoints, which one."""
        text = _reason(error, uses_tls=self._tls_for(endpoint) is not None)
        if isinstance(error, ssl.SSLCertVerificationError):
            from datetime import UTC, datetime

            clock = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            text += f" (server name {endpoint.host}; verified with {self._cas}; this host's clock: {clock})"
        return text if len(self._endpoints) == 1 else f"{endpoint.text}: {text}"

    async def _dial(self, timeout: float) -> Connection:
        """Connect to the current endpoint. timeout: for the connection, and again for TLS and HTTP/2. Raises RpcError."""
        endpoint = self.endpoint
        if endpoint.in_process:
            return self._enter(endpoint)
        channel, seconds = await self._connect(endpoint, timeout)
        self._use(channel, seconds)
        return channel

    def _use(self, channel: Channel, connecting_seconds: float) -> None:
        """Check this connection from now on."""
        self._stop_checks()
        loop = asyncio.get_running_loop()
        silence = self._silence = Silence(loop, channel, connecting_seconds, lambda: self._move_on(channel))
        self._quiet = QuietStreams(loop, channel, self._limits.quiet_seconds, silence.call_begins)
        self._on_connected()

    async def go_home(self, home: Endpoint) -> None:
        """Use this endpoint, one of `endpoints`, if it answers. Calls in flight go on where they are."""
        async with self._dialing:
            if self.endpoint == home or home not in self._endpoints:
                return
            try:
                channel, seconds = await self._connect(home, self._limits.dial_timeout_seconds)
            except RpcError:
                return
            before = self._channel
            self._retire()
            self._at = self._endpoints.index(home)
            self._channel = channel
            self._use(channel, seconds)
        if before is not None:
            await self.drop(before)

    async def _connect(self, endpoint: Endpoint, timeout: float) -> tuple[Channel, float]:
        """Returns the connection, and the seconds that it took. Raises RpcError."""
        timeout = max(timeout, 0.001)
        options = ChannelOptions(
            connect_timeout_seconds=timeout,
            max_message_bytes=self._limits.response_bytes_max,
            keepalive_interval_seconds=self._keepalive_seconds,
            keepalive_timeout_seconds=self._limits.keepalive_timeout_seconds,
            keepalive_when_idle=False,
        )
        channel = Channel(
            endpoint.host,
            endpoint.port,
            ssl=self._tls_for(endpoint),
            authority=endpoint.authority,
            unix_path=endpoint.unix_path or None,
            options=options,
            on_lost=self._on_lost,
        )
        loop = asyncio.get_running_loop()
        began = loop.time()
        await channel.connect(None if endpoint.unix_path else await _open_socket(endpoint, timeout))
        logger.debug("connected to %s", endpoint.text)
        return channel, loop.time() - began

    def _enter(self, endpoint: Endpoint) -> InProcessConnection:
        """Raises RpcError."""
        from tercet.rpc import in_process_connection  # few clients have their server in the same process

        self._stop_checks()
        return in_process_connection.connect(
            endpoint.in_process, answer_bytes_max=self._limits.response_bytes_max, on_lost=self._on_lost
        )

    def _on_lost(self, reason: str) -> None:
        logger.debug("connection lost: %s", reason)
        if _TOO_MANY_PINGS in reason:
            self._keepalive_seconds *= 2  # for the client's life, as gRFC A8 asks
            logger.warning("the server refuses pings as frequent as now; from now on every %g s", self._keepalive_seconds)

    def _tls_for(self, endpoint: Endpoint) -> ssl.SSLContext | None:
        if endpoint.secure is False:
            return None
        if self._given_tls is not None:
            return self._given_tls.context() if isinstance(self._given_tls, ReloadedTLS) else self._given_tls
        if endpoint.secure is None:
            return None
        self._default_tls = self._default_tls or TLSFiles().context()
        return self._default_tls


async def _open_socket(endpoint: Endpoint, timeout: float) -> socket.socket:
    """A TCP connection, through a proxy where the environment says so. Raises RpcError."""
    proxy = proxy_for(endpoint.host, endpoint.port, os.environ)
    try:
        if proxy is None:
            return await dial(endpoint.host, endpoint.port, timeout=timeout)
        return await dial_through(proxy, endpoint.host, endpoint.port, timeout=timeout)
    except OSError as error:  # TimeoutError is one
        text = str(error) or "timed out"
        raise RpcError(Code.UNAVAILABLE, f"connection error: {text}", unprocessed=True, reason=error) from error


def _reason(error: BaseException, *, uses_tls: bool) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"authentication handshake failed: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason == "WRONG_VERSION_NUMBER":
        return (
            "authentication handshake failed: tls: first record does not look like a TLS handshake (is it a plain HTTP port?)"
        )
    if isinstance(error, ssl.SSLError):
        return f"authentication handshake failed: {error.reason or error}"
    if isinstance(error, TimeoutError):
        return "connection timed out"
    if uses_tls and (isinstance(error, ConnectionResetError) or not str(error)):
        return "the server closed the connection during the TLS handshake (is it a plain HTTP port?)"
    text = _ERRNO.sub("", str(error))
    if not uses_tls and text.startswith(_CUT_OFF):  # before the server has said anything
        text += " (is it a TLS port?)"
    return text
