"""Endpoints as users write them: `127.0.0.1:2379`, `https://db1:2379`, `[::1]:2379`, `:2379`, `unix:///run/etcd.sock`.

The scheme selects TLS: always with `https` and `unixs`, never with `http`; with `unix` or without a scheme, if certificates are
given. What follows `unix:` is the path of the socket, also in the form `unix://host:port`, where host is the name that the
server's certificate must have. Without a host, it is localhost.
`inprocess://NAME` is a server in the client's own event loop (rpc/in_process_connection.py).
Source: etcd's client, client/v3/internal/endpoint.
"""

from __future__ import annotations

import os
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from tercet.errors import ConfigError


class Endpoint(NamedTuple):
    """One member's client address; `text` is the user's notation, for messages."""

    text: str
    host: str
    port: int
    secure: bool | None
    """Whether to use TLS; None: if certificates are given."""
    unix_path: str = ""
    """The socket to connect to instead of host and port."""
    in_process: str = ""
    """The name of a server in this event loop, which needs no socket."""

    @property
    def authority(self) -> str | None:
        """The `:authority` of requests; None: host and port. Of a Unix socket it is the file's name, as with etcd's client."""
        return quote(os.path.basename(self.unix_path), safe=":[]") or None


def parse_endpoint(text: str) -> Endpoint:
    """Raises ConfigError for anything but host:port, an http or https URL, or the path of a Unix socket."""
    scheme, colon, rest = text.partition(":")
    if colon and scheme in ("unix", "unixs"):
        path = rest.removeprefix("//")
        if not path:
            raise ConfigError(f'endpoint "{text}" does not name a socket')
        label, _, digits = os.path.basename(path).rpartition(":")
        server = label if label and digits.isdigit() else "localhost"
        return Endpoint(text, server, 0, True if scheme == "unixs" else None, path)
    scheme, separator, name = text.partition("://")
    scheme = scheme.lower()
    if scheme == "inprocess" and separator:
        if not name:
            raise ConfigError(f'endpoint "{text}" does not name a server')
        return Endpoint(text, name, 0, False, in_process=name)
    if separator and scheme not in ("http", "https"):
        raise ConfigError(f'endpoint "{text}": scheme {scheme} is not supported, use http, https, unix or unixs')
    try:
        parts = urlsplit(text if separator else f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError as error:  # the port is not a number up to 65535, or the host is no IPv6 address in its brackets
        raise ConfigError(f'endpoint "{text}" does not have the form host:port') from error
    if port is None or "@" in parts.netloc:
        raise ConfigError(f'endpoint "{text}" does not have the form host:port')
    return Endpoint(text, host or "localhost", port, {"http": False, "https": True}.get(scheme) if separator else None)
