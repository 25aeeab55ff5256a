"""Requests and responses as plain data, for HTTP/1.1 and HTTP/2 alike.

Header names of a request are lower case; HTTP/2's `:authority` takes the place of `host`.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

Headers = Sequence[tuple[bytes, bytes]]
TextHeaders = list[tuple[str, str]]
"""Headers between members: every name and value is ASCII."""
Response = tuple[int, Headers, bytes | AsyncIterator[bytes]]
HttpHandler = Callable[[bytes, bytes, Headers, bytes], Awaitable[Response]]
"""(method, path with query, headers, body) -> (status, headers, body).

An iterator that holds the whole response until it has been sent has an attribute `held_bytes`, its size.
"""

_ABSOLUTE_FORM = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)([^#]*)", re.DOTALL)

CLIENT_NAME = b":client-name"
"""A pseudo-header that the server adds: the common name of a verified client certificate. No client can send it."""

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")  # English in every locale
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

TEXT = b"text/plain; charset=utf-8"
JSON = b"application/json"


def header(headers: Headers, name: bytes) -> bytes:
    """The first value of a header, by lower-case name; b"" if absent."""
    return next((value for key, value in headers if key == name), b"")


def date(now: float | None = None) -> str:
    """The value of a response's Date, RFC 9110 §5.6.7. Not `email.utils.formatdate`, which needs eleven modules."""
    at = time.gmtime(time.time() if now is None else now)  # in a simulation time.time is virtual, the default of gmtime is not
    day = f"{_DAYS[at.tm_wday]}, {at.tm_mday:02d} {_MONTHS[at.tm_mon - 1]} {at.tm_year:04d}"
    return f"{day} {at.tm_hour:02d}:{at.tm_min:02d}:{at.tm_sec:02d} GMT"


def client_name(transport: asyncio.BaseTransport | None) -> Headers:
    """CLIENT_NAME for a connection whose client has a verified certificate with a common name."""
    certificate = transport.get_extra_info("peercert") if transport is not None else None
    subject = (certificate or {}).get("subject", ())
    names = [str(value) for part in subject for key, value in part if key == "commonName"]
    name = names[-1] if names else ""  # the last of several, as in Go
    return [(CLIENT_NAME, name.encode("utf-8", "replace"))] if name else []


def host_of(headers: Headers) -> str:
    """The request's host, without the port."""
    authority = (header(headers, b":authority") or header(headers, b"host")).decode("latin-1")
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    name, colon, _port = authority.rpartition(":")
    return name if colon and ":" not in name else authority


def split_target(target: bytes) -> tuple[bytes, bytes] | None:
    """The authority and the path with query of a request target, as in RFC 9112 §3.2; None if it is malformed.

    The authority is b"" for `/path`, and takes the place of Host for `http://authority/path`.
    """
    if target[:1] == b"/":
        return b"", target
    absolute = _ABSOLUTE_FORM.fullmatch(target)
    if absolute is None:
        return None
    path = absolute[2]
    return absolute[1].rpartition(b"@")[2], path if path[:1] == b"/" else b"/" + path


def plain(status: int, body: bytes) -> Response:
    return status, [(b"Content-Type", TEXT)], body


def error(status: int, text: bytes, *more: tuple[bytes, bytes]) -> Response:
    """An error as Go's http.Error writes it."""
    return status, [*more, (b"Content-Type", TEXT), (b"X-Content-Type-Options", b"nosniff")], text + b"\n"


def not_found() -> Response:
    return error(404, b"404 page not found")


def only_get(method: bytes) -> Response | None:
    """None for GET, else 405."""
    return None if method == b"GET" else error(405, b"Method Not Allowed", (b"Allow", b"GET"))
