"""The client listeners: --listen-client-urls, --listen-client-http-urls and --listen-metrics-urls.

The sockets are bound first, so that a port in use fails the start before data is written. They are served once the member is
ready; until then connections wait in the kernel's queue.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

from tercet.client_memory import ClientMemory
from tercet.config.server_config import ServerConfig
from tercet.errors import ConfigError, ListenerError
from tercet.gotext.urls import Url
from tercet.http.debug_vars import RaftStatus
from tercet.http.health import Health
from tercet.http.routes import Access, Routes, Versions
from tercet.http.scrape_pages import Page, ScrapePages
from tercet.http1.messages import Headers, Response
from tercet.http1.protocol import HttpLimits, HttpProtocol
from tercet.log_fields import fields
from tercet.replica.replica import Replica
from tercet.rpc import Handler, Server, ServerOptions
from tercet.server.header_trace import header_trace
from tercet.server.hosting import Hosting
from tercet.server.listener import Address, Listener, ProtocolFactory, Services, open_addresses
from tercet.server.peer_api import versions
from tercet.server.probes import MemberProbes, raft_status
from tercet.server.replica_driver import ReplicaDriver
from tercet.server.startup_checks import serves_clients_with_tls
from tercet.server.tls.auto_tls import with_self_signed
from tercet.server.tls.contexts import CLIENT_PROTOCOLS, ServerTls
from tercet.server.tls.files import TlsFiles, client_tls

if TYPE_CHECKING:
    from tercet.gateway import Gateway

logger = logging.getLogger(__name__)

Scrape = Callable[[bool], Page]
"""(Accept, Accept-Encoding) -> (Content-Type, Content-Encoding or b"", body) of /metrics."""

_GRPC_OVERHEAD_BYTES = 512 * 1024


class ClientListeners:
    """Raises ConfigError if an address cannot be bound, ListenerError if TLS files do not load."""

    def __init__(self, config: ServerConfig, self_signed: Path, hosting: Hosting) -> None:
        """self_signed: directory of the certificate that --auto-tls generates."""
        self._config = config
        self._hosting = hosting
        self._client_addresses: list[Address] = []
        self._http_addresses: list[Address] = []
        self._metrics_addresses: list[Address] = []
        self._listeners: list[Listener] = []
        self._server: Server | None = None
        self.is_refusing = False
        """After `refuse`."""
        files = client_tls(config) if serves_clients_with_tls(config) else TlsFiles()
        if config.auto_tls and files.is_empty:
            years = config.self_signed_cert_validity
            files = with_self_signed(files, str(self_signed), config.listen_client_urls, years=years)
        self.files = files
        """Empty without TLS."""
        with_http = not config.listen_client_http_urls
        try:
            self._tls = ServerTls(files, CLIENT_PROTOCOLS if with_http else ("h2",)) if not files.is_empty else None
            self._http_tls = ServerTls(files, ("http/1.1",)) if not files.is_empty else None
        except ConfigError as error:
            raise ListenerError(str(error)) from error
        try:
            self._client_addresses = self._bind(config.listen_client_urls)
            self._http_addresses = self._bind(config.listen_client_http_urls)
            self._metrics_addresses = self._bind(config.listen_metrics_urls)
        except BaseException:
            self.close_sockets()
            raise

    def _bind(self, urls: Sequence[Url]) -> list[Address]:
        config = self._config
        return open_addresses(
            urls,
            reuse_port=config.socket_reuse_port,
            reuse_address=config.socket_reuse_address,
            bound=self._hosting.sockets,
        )

    async def open(self, member: ReplicaDriver, handlers: Mapping[str, Handler], health: Health, scrape: Scrape) -> Server:
        """Serve the listeners. Returns the gRPC server, whose counters the metrics read."""
        config = self._config
        options = server_options(config)
        pages = ScrapePages(scrape)
        routes = self._routes(member, pages, health, metrics_only=False)
        server = self._server = Server(handlers, options=options, http_handler=routes.handle)
        if config.enable_grpc_gateway:
            self._open_gateway(routes, server, options.max_message_bytes, member.replica)
        limits = HttpLimits(body_bytes=_body_bytes_max(options.max_message_bytes))
        plain, secure = (_http(routes, limits, server.memory, is_secure=secure) for secure in (False, True))
        with_http = not self._http_addresses
        services = Services(cast(ProtocolFactory, server.protocol), plain if with_http else None, secure if with_http else None)
        await self._listen(self._client_addresses, services, self._tls)
        await self._listen(self._http_addresses, Services(None, plain, secure), self._http_tls)
        metrics = _http(self._routes(member, pages, health, metrics_only=True), limits, server.memory, is_secure=True)
        await self._listen(self._metrics_addresses, Services(None, metrics, metrics), self._http_tls)
        return server

    def _open_gateway(self, routes: Routes, server: Server, message_bytes_max: int, replica: Replica) -> None:
        made: list[Gateway] = []

        def gateway() -> Gateway:
            if not made:
                from tercet.gateway import Gateway  # with the first JSON request: most members never get one

                made.append(Gateway(server.methods, message_bytes_max=message_bytes_max))
            return made[0]

        async def handle(method: bytes, target: bytes, headers: Headers, body: bytes) -> Response:
            if not made:  # in a thread: without cached bytecode it takes a third of a second
                await asyncio.get_running_loop().run_in_executor(None, import_module, "tercet.gateway")
            return await gateway().handle(method, target, headers, body)

        body_bytes_max = _body_bytes_max(message_bytes_max)

        def websocket(target: bytes, headers: Headers) -> asyncio.Protocol:
            from tercet.gateway.websocket import GatewaySession  # few members ever serve a WebSocket
            from tercet.http1.websocket import WebSocket

            session = GatewaySession(gateway(), target, headers)
            return WebSocket(session, target, headers, message_bytes_max=body_bytes_max, subprotocols=("Bearer",))

        def refuses_names() -> bool:
            return self._config.client_cert_auth and replica.auth.is_enabled

        routes.serve_gateway(handle, websocket, refuses_names=refuses_names)

    async def _listen(self, addresses: Sequence[Address], services: Services, tls: ServerTls | None) -> None:
        for address in addresses:
            listener = Listener(address, services, tls=tls)
            await listener.start()
            self._listeners.append(listener)
            for url in address.urls:
                if addresses is self._metrics_addresses:
                    logger.info("serving metrics", extra=fields(address=url.text))
                    continue
                text = "securely" if url.is_secure else "insecurely; this is strongly discouraged!"
                logger.info(f"serving client traffic {text}", extra=fields(traffic=_traffic(services), address=url.address))

    def _routes(self, member: ReplicaDriver, pages: ScrapePages, health: Health, *, metrics_only: bool) -> Routes:
        config, replica = self._config, member.replica

        def current_versions() -> Versions:
            found = versions(replica)
            return Versions(found["etcdserver"], found["etcdcluster"], found["storage"])

        def status() -> RaftStatus:
            return raft_status(replica)

        return Routes(
            health,
            metrics=pages.page,
            versions=current_versions,
            raft_status=status,
            access=Access(cors=frozenset(config.cors), hosts=frozenset(config.host_whitelist)),
            metrics_only=metrics_only,
            own=self._hosting.routes,
        )

    def refuse(self) -> None:
        """Accept no more connections, and break those of gRPC that are open, until `accept`."""
        self.is_refusing = True
        for listener in self._listeners:
            listener.stop()
        if self._server is not None:
            self._server.disconnect()

    async def accept(self, bound: Mapping[str, socket.socket]) -> None:
        """After `refuse`, serve again. bound: see `Hosting.sockets`. Raises ConfigError if an address cannot be bound."""
        self.is_refusing = False
        for listener in self._listeners:
            await listener.start_again(bound)

    async def close(self, timeout_seconds: float) -> None:
        """Stop accepting, and wait up to `timeout_seconds` for running requests."""
        for listener in self._listeners:
            listener.stop()
        if self._server is not None:
            await self._server.drain(timeout_seconds)

    def close_sockets(self) -> None:
        for address in (*self._client_addresses, *self._http_addresses, *self._metrics_addresses):
            address.close()


def make_health(member: ReplicaDriver, config: ServerConfig) -> Health:
    return Health(MemberProbes(member.replica), timeout_seconds=config.request_timeout_seconds)


def _traffic(services: Services) -> str:
    """What a listener serves, as etcd logs it."""
    return "+".join(name for name, served in (("grpc", services.grpc), ("http", services.secure_http)) if served is not None)


def _http(routes: Routes, limits: HttpLimits, memory: ClientMemory, *, is_secure: bool) -> ProtocolFactory:
    handler = routes.handle if is_secure else routes.handle_plain
    upgrade = routes.upgrade if is_secure else routes.upgrade_plain

    def make(first_chunk: bytes) -> HttpProtocol:
        return HttpProtocol(handler, limits, first_chunk, upgrade=upgrade, memory=memory)

    return make


def _body_bytes_max(message_bytes_max: int) -> int:
    """Of an HTTP request: base64 needs four bytes for three, and JSON some more."""
    return message_bytes_max // 3 * 4 + (64 << 10)


def server_options(config: ServerConfig) -> ServerOptions:
    """What the flags say about gRPC connections."""
    interval, timeout = config.grpc_keepalive_interval_seconds, config.grpc_keepalive_timeout_seconds
    if timeout <= 0:  # as in etcd: gRPC's own. A client that had to answer at once would lose its connection
        interval, timeout = 7200.0, 20.0
    shortest = config.grpc_keepalive_min_time_seconds
    if shortest <= 0:  # likewise gRPC's own
        shortest = 300.0
    return ServerOptions(
        max_message_bytes=config.max_request_bytes + _GRPC_OVERHEAD_BYTES,
        max_concurrent_streams=config.max_concurrent_streams,
        keepalive_min_seconds=shortest,
        keepalive_interval_seconds=interval,
        keepalive_timeout_seconds=timeout,
        measure_durations=config.metrics == "extensive",
        trace_headers=header_trace(os.environ),
    )
