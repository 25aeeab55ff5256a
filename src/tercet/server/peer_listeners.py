"""The peer listeners: --listen-peer-urls.

The sockets are bound first, so that a port in use fails the start before data is written. They listen once the member's log
and backend are open: until then connections are refused, so that a peer that bootstraps does not wait for this member.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from socket import socket

from tercet.config.server_config import ServerConfig
from tercet.log_fields import fields
from tercet.server.listener import Listener, ProtocolFactory, Services, open_addresses
from tercet.server.tls.auto_tls import with_self_signed
from tercet.server.tls.contexts import PEER_PROTOCOLS, ClientTls, ServerTls
from tercet.server.tls.files import peer_tls

logger = logging.getLogger(__name__)


class PeerListeners:
    """Raises ConfigError if an address cannot be bound or TLS files do not load."""

    def __init__(self, config: ServerConfig, self_signed: Path, bound: Mapping[str, socket] | None = None) -> None:
        """self_signed: directory of the certificate that --peer-auto-tls generates. bound: as in `open_addresses`."""
        files = peer_tls(config)
        if config.peer_auto_tls and files.is_empty:
            years = config.self_signed_cert_validity
            files = with_self_signed(files, str(self_signed), config.listen_peer_urls, years=years)
        self.files = files
        """Empty without TLS."""
        self.dial_tls = ClientTls(files) if files.ca or not files.is_empty else None
        self._tls = ServerTls(files, PEER_PROTOCOLS) if not files.is_empty else None
        self._listeners: list[Listener] = []
        self._addresses = open_addresses(
            config.listen_peer_urls,
            reuse_port=config.socket_reuse_port,
            reuse_address=config.socket_reuse_address,
            listen=False,
            bound=bound,
        )

    async def open(self, accept: ProtocolFactory) -> None:
        """Serve the listeners with HTTP/1.1."""
        services = Services(None, accept, accept)
        for address in self._addresses:
            listener = Listener(address, services, tls=self._tls, endpoint="peer")
            await listener.start()
            self._listeners.append(listener)
            for url in address.urls:
                logger.info("serving peer traffic", extra=fields(address=url.address))

    def stop(self) -> None:
        """Accept no more connections; open ones stay open."""
        for listener, address in zip(self._listeners, self._addresses, strict=False):
            listener.stop()
            for url in address.urls:
                logger.info("stopped serving peer traffic", extra=fields(address=url.address))

    def close_sockets(self) -> None:
        for address in self._addresses:
            address.close()
