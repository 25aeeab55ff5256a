"""Where the URL of a member leads: a TCP address or a Unix socket, with or without TLS."""

from __future__ import annotations

from typing import NamedTuple

from tercet.gotext.urls import parse_url


class Origin(NamedTuple):
    """authority: the URL's own text, for the Host header. unix_path: of the socket, "" for TCP."""

    host: str
    port: int
    tls: bool
    authority: str
    unix_path: str = ""


def parse_origin(url: str) -> Origin:
    """Parse `http://host:port`, `unix://path` and the same with TLS. Raises ValueError, with the URL in its text."""
    try:
        text = url.strip()
        parsed = parse_url(text.removesuffix("/") if text.startswith("http") else text)
        host, port = parsed.host, parsed.port
    except ValueError as error:
        raise ValueError(f"bad URL {url!r}: {error}") from error
    if parsed.is_unix:
        if not parsed.address:
            raise ValueError(f"bad URL {url!r}: it needs the path of a socket")
        # etcd's sockets are named like addresses, unix://localhost:2380, and the part before the colon is the host's name.
        name = parsed.address.partition(":")[0]
        return Origin("localhost" if "/" in name else name, 0, parsed.is_secure, "localhost", parsed.address)
    if not host or not 0 < port < 1 << 16:
        raise ValueError(f"bad URL {url!r}: it needs a host and a port")
    return Origin(host, port, parsed.is_secure, parsed.address)
