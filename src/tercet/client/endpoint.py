"""Endpoints as users write them: `127.0.0.1:2379`, `https://db1:2379`, `[::1]:2379`.

The scheme selects TLS: always with `https`, never with `http`; without a scheme, if certificates are given.
Source: etcd's client, client/v3/internal/endpoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from tercet.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One member's client address; `text` is the user's notation, for messages."""

    text: str
    host: str
    port: int
    secure: bool | None
    """Whether to use TLS; None: if certificates are given."""


def parse_endpoint(text: str) -> Endpoint:
    """Raises ConfigError for anything but host:port or an http or https URL."""
    scheme, separator, _ = text.partition("://")
    if separator and scheme not in ("http", "https"):
        raise ConfigError(f'endpoint "{text}": scheme {scheme} is not supported, use http or https')
    try:
        parts = urlsplit(text if separator else f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f'endpoint "{text}": {error}') from error
    if not host or port is None:
        raise ConfigError(f'endpoint "{text}" does not have the form host:port')
    return Endpoint(text, host, port, {"http": False, "https": True}.get(scheme) if separator else None)
