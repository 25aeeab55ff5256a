"""Addresses of embedded members; ports are chosen by the kernel.

A member's URLs must be known before it starts, and stay the same when it starts again. A `Port` holds its number with a socket
that is bound and never listens; each start binds another one beside it. So there is no moment at which another process could
get the number, and while the member is stopped connections are refused.
"""

from __future__ import annotations

import socket

from tercet.errors import ConfigError


class Port:
    """Raises OSError if the address cannot be bound. number: 0 for one that the kernel chooses. secure: peers use TLS."""

    def __init__(self, host: str = "127.0.0.1", number: int = 0, *, secure: bool = False) -> None:
        self.host = host
        self._scheme = "https" if secure else "http"
        self._holder = _bind(host, number)
        self.number: int = self._holder.getsockname()[1]

    @property
    def address(self) -> str:
        """`host:port`, with brackets around an IPv6 address."""
        return f"[{self.host}]:{self.number}" if ":" in self.host else f"{self.host}:{self.number}"

    @property
    def url(self) -> str:
        return f"{self._scheme}://{self.address}"

    def bind(self) -> socket.socket:
        """A socket to listen on; its user closes it."""
        return _bind(self.host, self.number)

    def close(self) -> None:
        self._holder.close()


class Addresses:
    """Where a member listens. peer: its port for peers, held by the caller; None for one of its own.

    listen: `host:port` or `unix:///path`. secure: clients use TLS.
    Raises ConfigError for another form, OSError if an address cannot be bound.
    """

    def __init__(self, listen: str, peer: Port | None, *, secure: bool) -> None:
        self._client: Port | None = None
        self.client_url = listen
        if not listen.startswith("unix:"):
            host, colon, number = listen.rpartition(":")
            if not colon or not number.isdecimal():
                raise ConfigError(f"listen={listen!r} does not have the form host:port or unix:///path")
            self._client = Port(host.strip("[]") or "127.0.0.1", int(number))
            self.client_url = f"{'https' if secure else 'http'}://{self._client.address}"
        self._owns_peer = peer is None
        self._peer = peer or Port()
        self.peer_url = self._peer.url
        self._sockets: dict[str, socket.socket] = {}

    def listen(self) -> None:
        """Let peers connect from now on; they are served after the start. So members that start together find each other."""
        self.bind()[self._peer.address].listen()

    def bind(self) -> dict[str, socket.socket]:
        """Sockets to listen on, by address, until `release`."""
        if not self._sockets:
            self._sockets = {port.address: port.bind() for port in (self._peer, self._client) if port is not None}
        return self._sockets

    def bind_client(self) -> dict[str, socket.socket]:
        """Another socket for clients, in place of one that has been closed, by address; none for a Unix socket."""
        if self._client is None:
            return {}
        bound = self._sockets[self._client.address] = self._client.bind()
        return {self._client.address: bound}

    def release(self) -> None:
        """Close the sockets; the ports stay reserved."""
        for bound in self._sockets.values():
            bound.close()
        self._sockets = {}

    def close(self) -> None:
        """Release the ports."""
        self.release()
        if self._client is not None:
            self._client.close()
        if self._owns_peer:
            self._peer.close()


def _bind(host: str, number: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setblocking(False)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, number))
    except BaseException:
        bound.close()
        raise
    return bound
