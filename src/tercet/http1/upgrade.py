"""Requests to continue a connection as a WebSocket, and what a server does with them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tercet.http1.messages import Headers, header

Upgrade = Callable[[bytes, Headers], asyncio.Protocol | None]
"""Makes the protocol that takes over a connection, for a path; None: the request is served as usual. Raises BadUpgrade."""


class BadUpgrade(Exception):
    """A request to upgrade that is no WebSocket handshake."""


def wants_websocket(method: bytes, headers: Headers) -> bool:
    """Whether a request asks to continue as a WebSocket."""
    tokens = [part.strip().lower() for name, value in headers if name == b"connection" for part in value.split(b",")]
    return method == b"GET" and b"upgrade" in tokens and header(headers, b"upgrade").lower() == b"websocket"
