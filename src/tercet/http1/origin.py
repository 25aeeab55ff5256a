"""The scheme, host and port of a URL."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit


class Origin(NamedTuple):
    """Where a connection leads. `authority` is the URL's own text, for the Host header."""

    host: str
    port: int
    tls: bool
    authority: str


def parse_origin(url: str) -> Origin:
    """`http://host:port` or `https://host:port`. Raises ValueError, with the URL in its text."""
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError as error:
        raise ValueError(f"bad URL {url!r}: {error}") from error
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"bad URL {url!r}: the scheme must be http or https")
    if not parts.hostname or port is None:
        raise ValueError(f"bad URL {url!r}: it needs a host and a port")
    if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username is not None:
        raise ValueError(f"bad URL {url!r}: only scheme, host and port are allowed")
    return Origin(parts.hostname, port, parts.scheme == "https", parts.netloc)
