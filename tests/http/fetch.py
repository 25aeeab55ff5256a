"""An HTTP client that returns status, headers and body unchanged."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.support.waiting import scaled


@dataclass(frozen=True)
class Answer:
    """headers: without Date and the framing of the body, names in their original case."""

    status: int
    headers: dict[str, str]
    body: bytes


_FRAMING = {"Date", "Content-Length", "Transfer-Encoding", "Connection"}


def fetch(url: str, method: str = "GET", headers: Mapping[str, str] | None = None, body: bytes | None = None) -> Answer:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=scaled(10))
    try:
        target = url.partition(parts.netloc)[2]
        connection.request(method, target, body=body, headers=dict(headers or {}))
        response = connection.getresponse()
        shown = {name: value for name, value in response.getheaders() if name not in _FRAMING}
        return Answer(response.status, shown, response.read())
    finally:
        connection.close()
