"""Who may use the gateway: CORS, host names and certificates, over HTTP/1.1 and HTTP/2 alike."""

from __future__ import annotations

import asyncio

import pytest

from tercet.http import Access
from tercet.http1.messages import CLIENT_NAME, Headers, Response
from tests.http.member import make_routes

NAMED = (CLIENT_NAME, b"alice")


@pytest.mark.parametrize(
    ("path", "headers", "refuses", "status"),
    [
        (b"/v3/kv/range", [NAMED], True, 400),
        (b"/v3beta/kv/range", [NAMED], True, 400),
        (b"/v3/kv/range", [NAMED], False, 200),
        (b"/v3/kv/range", [], True, 200),
        (b"/version", [NAMED], True, 200),
    ],
)
def test_a_certificate_with_a_name_is_refused_while_auth_is_on(
    path: bytes, headers: Headers, refuses: bool, status: int
) -> None:
    async def gateway(method: bytes, target: bytes, headers: Headers, body: bytes) -> Response:
        return 200, [], b"{}"

    routes, _ = make_routes()
    routes.serve_gateway(gateway, lambda target, headers: asyncio.Protocol(), refuses_names=lambda: refuses)
    answer = asyncio.run(routes.handle(b"GET" if path == b"/version" else b"POST", path, headers, b"{}"))
    assert answer[0] == status
    if status == 400:
        assert b"CommonName of client sending a request against gateway will be ignored" in bytes(answer[2])  # type: ignore[arg-type]
    if path != b"/version":
        assert (routes.upgrade(path, headers) is None) == (status == 400)


def test_a_websocket_needs_a_listed_host_without_tls() -> None:
    async def gateway(method: bytes, target: bytes, headers: Headers, body: bytes) -> Response:
        return 200, [], b"{}"

    routes, _ = make_routes(access=Access(hosts=frozenset(("good.example",))))
    routes.serve_gateway(gateway, lambda target, headers: asyncio.Protocol(), refuses_names=lambda: False)
    for host, admitted in ((b"good.example:1", True), (b"evil.example", False)):
        assert (routes.upgrade_plain(b"/v3/watch", [(b"host", host)]) is not None) == admitted
        assert routes.upgrade(b"/v3/watch", [(b"host", host)]) is not None
    assert routes.upgrade(b"/health", [(b"host", b"good.example")]) is None
