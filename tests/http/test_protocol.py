"""HTTP/1.1 at the level of bytes: valid, malformed, slow and incomplete requests."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from tercet.http import Access, Headers, HttpHandler, HttpLimits, HttpProtocol, Response
from tests.http.member import make_routes, served
from tests.support.waiting import scaled, settled, wait_until
from tests.support.wire import Wire

LIMITS = HttpLimits(head_bytes=4096, body_bytes=10_000, ahead_bytes=2_000, read_seconds=60, write_seconds=60)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with served(make_routes()[0], limits=LIMITS) as found:
        yield found


def talk(port: int, *chunks: bytes, pause: float = 0.0, shut: bool = False) -> bytes:
    """All that the server sends until it closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=scaled(5)) as client:
        for chunk in chunks:
            client.sendall(chunk)
            time.sleep(pause)
        if shut:
            client.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while part := client.recv(65536):
                answer += part
        except ConnectionResetError:
            pass
        return answer


GET = b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /nope HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def test_a_connection_serves_one_request_after_the_other(port: int) -> None:
    answer = talk(port, GET, GET, LAST, pause=0.02)
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 2
    assert answer.count(b"HTTP/1.1 404 Not Found\r\n") == 1


def test_requests_sent_ahead_are_answered_in_order(port: int) -> None:
    answer = talk(port, GET * 200 + LAST)
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 200
    assert answer.endswith(b"404 page not found\n")


def test_a_request_may_arrive_in_any_pieces(port: int) -> None:
    answer = talk(port, *(LAST[at : at + 1] for at in range(len(LAST))))
    assert answer.startswith(b"HTTP/1.1 404 Not Found\r\n")


def test_http_1_0_is_answered_and_closed(port: int) -> None:
    answer = talk(port, b"GET /version HTTP/1.0\r\n\r\n")
    assert b" 200 OK\r\n" in answer
    assert answer.endswith(b'"storage":"3.7.0"}')


def test_a_client_that_half_closes_gets_its_response(port: int) -> None:
    assert b" 200 OK\r\n" in talk(port, GET, shut=True)


def test_a_body_is_read_and_a_head_has_none(port: int) -> None:
    posted = b"POST /version HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello" + LAST
    assert talk(port, posted).count(b"HTTP/1.1 4") == 2
    chunked = b"POST /version HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" + LAST
    assert talk(port, chunked).count(b"HTTP/1.1 4") == 2
    head = talk(port, b"HEAD /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert head.endswith(b"\r\n\r\n")


def test_expect_100_continue_is_answered(port: int) -> None:
    begin = b"POST /version HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=scaled(5)) as client, client.makefile("rb") as answer:
        client.sendall(begin)
        assert answer.readline() + answer.readline() == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"ok")
        assert answer.readline().startswith(b"HTTP/1.1 405 ")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"garbage\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 8000, 431),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n" + b"a" * 20_000, 413),
    ],
)
def test_malformed_and_too_large_requests_are_refused(port: int, request_bytes: bytes, status: int) -> None:
    answer = talk(port, request_bytes, shut=True)
    assert int(answer.split(b" ")[1]) == status
    assert b"Connection: close\r\n" in answer


def test_a_malformed_body_of_head_is_refused_without_a_body() -> None:
    """h11 raises on a body in an answer to HEAD, out of the callback of the transport."""
    errors: list[dict[str, object]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: errors.append(context))
        wire = Wire()
        protocol = HttpProtocol(make_routes()[0].handle_plain, LIMITS)
        protocol.connection_made(wire)
        protocol.data_received(b"HEAD / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
        answer = b"".join(wire.written)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert answer.endswith(b"Connection: close\r\n\r\n")
        assert wire.is_closing()

    asyncio.run(main())
    assert not errors


def test_connect_begins_no_tunnel_on_a_page_for_every_method(port: int, caplog: pytest.LogCaptureFixture) -> None:
    answer = talk(port, b"CONNECT /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 405 Method Not Allowed\r\n")
    assert not caplog.records


@pytest.mark.parametrize(
    "target", [b"http://x/version", b"HTTPS://other:99/version?a=b", b"http:///version", b"ftp://u@h/version"]
)
def test_an_absolute_request_target_is_served(port: int, target: bytes) -> None:
    answer = talk(port, b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


def test_the_authority_of_an_absolute_target_replaces_the_host_header() -> None:
    routes, _ = make_routes(access=Access(hosts=frozenset({"good"})))
    with served(routes) as port:
        for authority, status in ((b"good:80", b"200"), (b"evil", b"421")):
            answer = talk(port, b"GET http://%b/version HTTP/1.1\r\nHost: good\r\nConnection: close\r\n\r\n" % authority)
            assert answer.split(b" ")[1] == status


@pytest.mark.parametrize("target", [b"*", b"version", b"host:80"])
def test_a_malformed_request_target_is_a_bad_request(port: int, target: bytes) -> None:
    assert talk(port, b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("begun", [b"", b"GET / HT", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1"])
def test_an_incomplete_request_gets_no_response(port: int, begun: bytes) -> None:
    assert talk(port, begun, shut=True) == b""


def test_an_idle_connection_is_closed() -> None:
    with served(make_routes()[0], limits=HttpLimits(read_seconds=0.5)) as port:
        assert talk(port, b"GET / HT") == b""  # within the timeout of the socket


def with_handler(handler: HttpHandler, scenario: Callable[[int], object], limits: HttpLimits = LIMITS) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: HttpProtocol(handler, limits), "127.0.0.1", 0)
        async with asyncio.timeout(scaled(10)):
            await asyncio.to_thread(scenario, server.sockets[0].getsockname()[1])
        server.close()

    asyncio.run(run())


def test_a_response_may_be_streamed() -> None:
    async def handler(method: bytes, path: bytes, headers: Headers, body: bytes) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            yield b"one\n"
            yield b"two\n"

        return 200, [(b"Content-Type", b"text/plain")], parts()

    def scenario(port: int) -> None:
        answer = talk(port, LAST)
        assert b"Transfer-Encoding: chunked" in answer.replace(b"transfer-encoding", b"Transfer-Encoding")
        assert answer.endswith(b"4\r\none\n\r\n4\r\ntwo\n\r\n0\r\n\r\n")

    with_handler(handler, scenario)


def test_a_handler_that_fails_is_a_500_and_a_log_line(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(method: bytes, path: bytes, headers: Headers, body: bytes) -> Response:
        raise RuntimeError("inner details")

    def scenario(port: int) -> None:
        answer = talk(port, LAST)
        assert answer.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
        assert b"inner details" not in answer

    with_handler(handler, scenario)
    assert "HTTP GET /nope failed" in caplog.text


def test_a_disconnected_clients_request_is_cancelled() -> None:
    ended: list[str] = []

    async def handler(method: bytes, path: bytes, headers: Headers, body: bytes) -> Response:
        ended.append("began")
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return 200, [], b""

    def scenario(port: int) -> None:
        client = socket.create_connection(("127.0.0.1", port))
        client.sendall(GET)
        wait_until(lambda: ended == ["began"], "the handler begins")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # close with a reset
        client.close()
        wait_until(lambda: ended == ["began", "cancelled"], "the handler is cancelled")

    with_handler(handler, scenario)


def test_a_client_that_does_not_read_uses_bounded_memory() -> None:
    sent: list[int] = []

    async def handler(method: bytes, path: bytes, headers: Headers, body: bytes) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            for count in range(10_000):
                sent.append(count)
                yield b"x" * 65536

        return 200, [], parts()

    def scenario(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(GET)
            at_rest = asyncio.run(settled(lambda: len(sent), quiet_seconds=0.3))
            assert 0 < at_rest < 1000

    with_handler(handler, scenario)


def test_reading_pauses_while_a_request_is_in_progress() -> None:
    release = asyncio.Event()

    async def handler(method: bytes, path: bytes, headers: Headers, body: bytes) -> Response:
        await release.wait()
        return 200, [], b""

    def scenario(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.setblocking(False)
            written = 0

            def write() -> int:
                nonlocal written
                with contextlib.suppress(BlockingIOError):
                    written += client.send(GET * 1000)
                return written

            assert asyncio.run(settled(write)) < len(GET) * 1_000_000

    with_handler(handler, scenario)
