"""Where a member can be reached: one of its peer URLs, the next one after each failure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlsplit


class Origin(NamedTuple):
    """What a connection is opened to. `authority` is the Host header: the URL's own text."""

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
        raise ValueError(f"bad peer URL {url!r}: {error}") from error
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"bad peer URL {url!r}: the scheme must be http or https")
    if not parts.hostname or port is None:
        raise ValueError(f"bad peer URL {url!r}: it needs a host and a port")
    if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username is not None:
        raise ValueError(f"bad peer URL {url!r}: only scheme, host and port are allowed")
    return Origin(parts.hostname, port, parts.scheme == "https", parts.netloc)


class UrlPicker:
    """The URL to try now. Everything that talks to one member shares one picker, so that one failure teaches all."""

    __slots__ = ("_origins", "_picked")

    def __init__(self, urls: Sequence[str]) -> None:
        self.update(urls)

    def update(self, urls: Sequence[str]) -> None:
        """Raises ValueError for an empty list or a bad URL, and then keeps the old ones."""
        origins = [parse_origin(url) for url in urls]
        if not origins:
            raise ValueError("a member needs at least one peer URL")
        self._origins = origins
        self._picked = 0

    def pick(self) -> Origin:
        return self._origins[self._picked]

    def unreachable(self, origin: Origin) -> None:
        """Move on, unless somebody else already did."""
        if self._origins[self._picked] == origin:
            self._picked = (self._picked + 1) % len(self._origins)
