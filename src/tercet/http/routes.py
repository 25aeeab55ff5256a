"""Routing and access control, the same for HTTP/1.1 and HTTP/2.

Without TLS the Host header must be one of --host-whitelist, so that a web page cannot reach a member by resolving its own name
to it (DNS rebinding, CVE-2018-5702); --cors lists the origins whose scripts may read responses.

Source: etcd server/embed/serve.go, server/etcdserver/api/etcdhttp.
"""

from __future__ import annotations

import asyncio
import json
import posixpath
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple
from urllib.parse import parse_qs, quote, unquote, unquote_to_bytes

from tercet.http.debug_vars import RaftStatus, debug_vars
from tercet.http.health import Health
from tercet.http.negotiation import accepts_gzip, escaping
from tercet.http.scrape_pages import Page
from tercet.http1.messages import (
    CLIENT_NAME,
    JSON,
    Headers,
    HttpHandler,
    Response,
    error,
    header,
    host_of,
    not_found,
    only_get,
)
from tercet.http1.upgrade import Upgrade

_CORS_METHODS = (b"Access-Control-Allow-Methods", b"POST, GET, OPTIONS, PUT, DELETE")
_CORS_HEADERS = (b"Access-Control-Allow-Headers", b"accept, content-type, authorization")
_QUERY_FIELDS_MAX = 100
_QUERY_SAFE = "/~!$&'()*+,;=:@%?"
_NAME_IGNORED = b"CommonName of client sending a request against gateway will be ignored and not used as expected"
_UNKNOWN_HOST = """
This member does not accept the Host header of this request over plain HTTP.

Either use TLS, where every host name is accepted, or start the member with the name in its host whitelist:
    --host-whitelist "{host}"

This protects the member from DNS rebinding (CVE-2018-5702).
"""


class Versions(NamedTuple):
    """The versions of /version; cluster and storage are "" until they are known."""

    server: str
    cluster: str
    storage: str


class Access(NamedTuple):
    """cors: allowed origins; hosts: allowed Host names without TLS. `*`, or an empty set, allows all."""

    cors: frozenset[str] = frozenset("*")
    hosts: frozenset[str] = frozenset("*")

    def origin(self, requested: str) -> str:
        """The value of Access-Control-Allow-Origin; "" for none."""
        if not self.cors or "*" in self.cors:
            return "*"
        return requested if requested in self.cors else ""

    def admits(self, host: str) -> bool:
        return not self.hosts or "*" in self.hosts or host in self.hosts


class Routes:
    """metrics: the page, compressed or not.

    metrics_only: for --listen-metrics-urls: health and metrics only, no access control.
    own: further handlers, by path.
    """

    def __init__(
        self,
        health: Health,
        *,
        metrics: Callable[[bool], Awaitable[Page]],
        versions: Callable[[], Versions],
        raft_status: Callable[[], RaftStatus],
        access: Access | None = None,
        metrics_only: bool = False,
        own: Mapping[str, HttpHandler] | None = None,
    ) -> None:
        self._health = health
        self._metrics = metrics
        self._versions = versions
        self._raft_status = raft_status
        self._own = own or {}
        self._access = None if metrics_only else access or Access()
        self._gateway: HttpHandler | None = None
        self._websocket: Upgrade | None = None
        self._refuses_names: Callable[[], bool] = lambda: False

    def serve_gateway(self, handler: HttpHandler, websocket: Upgrade, *, refuses_names: Callable[[], bool]) -> None:
        """Serve /v3/ from now on. websocket: makes a WebSocket for a path.

        refuses_names: whether to refuse clients whose certificate has a common name: over gRPC that name is their user, and
        here it would not be.
        """
        self._refuses_names = refuses_names
        self._gateway = handler
        self._websocket = websocket

    async def handle(self, method: bytes, target: bytes, headers: Headers, body: bytes, *, is_secure: bool = True) -> Response:
        """Serve one request. is_secure: it arrived over TLS."""
        if self._access is None:
            return await self._route(method, target, headers, body)
        host = host_of(headers)
        if not is_secure and not self._access.admits(host):
            return error(421, _UNKNOWN_HOST.format(host=host).encode())
        if self._is_refused_name(target, headers):
            return error(400, _NAME_IGNORED)
        origin = self._access.origin(header(headers, b"origin").decode("latin-1"))
        allowed = [_CORS_METHODS, (b"Access-Control-Allow-Origin", origin.encode("latin-1")), _CORS_HEADERS] if origin else []
        if method == b"OPTIONS":
            return 200, allowed, b""
        status, fields, answer = await self._route(method, target, headers, body)
        return status, [*allowed, *fields], answer

    async def handle_plain(self, method: bytes, target: bytes, headers: Headers, body: bytes) -> Response:
        """Serve one request that arrived without TLS."""
        return await self.handle(method, target, headers, body, is_secure=False)

    def upgrade(self, target: bytes, headers: Headers, *, is_secure: bool = True) -> asyncio.Protocol | None:
        """The WebSocket that a request asks for; None if it is to be served by `handle`. Raises BadUpgrade."""
        if self._access is None or self._websocket is None or not (is_secure or self._access.admits(host_of(headers))):
            return None
        if self._is_refused_name(target, headers):
            return None
        called = _under_v3(target)
        return self._websocket(called, headers) if called is not None else None

    def upgrade_plain(self, target: bytes, headers: Headers) -> asyncio.Protocol | None:
        """`upgrade` for a request that arrived without TLS."""
        return self.upgrade(target, headers, is_secure=False)

    def _is_refused_name(self, target: bytes, headers: Headers) -> bool:
        return bool(header(headers, CLIENT_NAME)) and _under_v3(target) is not None and self._refuses_names()

    async def _route(self, method: bytes, target: bytes, headers: Headers, body: bytes) -> Response:
        raw_path, _, raw_query = target.decode("latin-1").partition("?")
        path = unquote(raw_path)
        clean = _clean(path)
        if clean != path and method != b"CONNECT":
            return _moved(method, clean, raw_query)
        if path == "/metrics":
            return await self._scrape(headers)
        if path == "/health" or self._health.has(path):
            return only_get(method) or await self._check_health(path, raw_query)
        if self._access is None:
            return not_found()
        if path == "/version":
            return only_get(method) or self._version()
        if path == "/debug/vars":
            return only_get(method) or self._debug_vars()
        called = _under_v3(target) if self._gateway is not None else None
        if self._gateway is not None and called is not None:
            return await self._gateway(method, called, headers, body)
        if self._gateway is not None and path == "/v3":
            return _moved(method, "/v3/", raw_query)
        own = self._own.get(path)
        return await own(method, target, headers, body) if own is not None else not_found()

    async def _check_health(self, path: str, raw_query: str) -> Response:
        try:
            query = parse_qs(raw_query, keep_blank_values=True, max_num_fields=_QUERY_FIELDS_MAX)
        except ValueError:
            return error(400, b"too many query parameters")
        if path == "/health":
            return await self._health.health(query)
        return await self._health.check(path, query)

    def _version(self) -> Response:
        versions = self._versions()
        shown = {
            "etcdserver": versions.server,
            "etcdcluster": versions.cluster or "not_decided",
            "storage": versions.storage or "unknown",
        }
        return 200, [(b"Content-Type", JSON)], json.dumps(shown, separators=(",", ":")).encode()

    async def _scrape(self, headers: Headers) -> Response:
        kind, encoding, body = await self._metrics(accepts_gzip(headers))
        fields = [(b"Content-Type", kind + b"; escaping=" + escaping(headers))]
        if encoding:
            fields.insert(0, (b"Content-Encoding", encoding))
        return 200, fields, body

    def _debug_vars(self) -> Response:
        return 200, [(b"Content-Type", b"application/json; charset=utf-8")], debug_vars(self._raft_status())


def _under_v3(target: bytes) -> bytes | None:
    """A target under /v3/, or /v3beta/ as that. Go's mux separates the first segment before it decodes it."""
    first, slash, rest = target[1:].partition(b"/")
    if not slash or unquote_to_bytes(first) not in (b"v3", b"v3beta"):
        return None
    return b"/v3/" + rest


def _clean(path: str) -> str:
    """The path without empty, `.` and `..` segments, as Go's mux requires it."""
    if not path.startswith("/"):
        path = "/" + path
    clean = posixpath.normpath(path)
    clean = "/" + clean.lstrip("/")
    return clean + "/" if path.endswith("/") and clean != "/" else clean


def _moved(method: bytes, path: str, raw_query: str) -> Response:
    location = quote(path, safe="/~!$&'()*+,;=:@") + (f"?{quote(raw_query, safe=_QUERY_SAFE)}" if raw_query else "")
    where = (b"Location", location.encode("ascii"))
    if method not in (b"GET", b"HEAD"):
        return 307, [where], b""
    from html import escape  # and with it a table of 2,000 names

    body = f'<a href="{escape(location)}">Temporary Redirect</a>.\n\n'
    return 307, [(b"Content-Type", b"text/html; charset=utf-8"), where], body.encode("ascii")
