"""The gateway over WebSockets, as a browser uses it: frames of a client against a served gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Event, Ping, Pong, RejectConnection, Request, TextMessage

from tercet.errors import Code
from tercet.gateway.gateway import Gateway
from tercet.gateway.websocket import GatewaySession
from tercet.http1.messages import Headers
from tercet.http1.protocol import HttpProtocol
from tercet.http1.websocket import WebSocket
from tercet.proto import rpc_pb2
from tercet.rpc import ServerStream, UnaryCall, bidi_stream, method_table, unary
from tests.http.member import make_routes

MESSAGE_BYTES = 10_000
seen_tokens: list[bytes | None] = []


async def echo(stream: ServerStream) -> None:
    seen_tokens.append(stream.header("authorization"))
    async for message in stream:
        request = rpc_pb2.WatchRequest.FromString(message)
        await stream.send(rpc_pb2.WatchResponse(watch_id=request.create_request.watch_id).SerializeToString())


def put(call: UnaryCall, message: bytes) -> None:
    call.fail(Code.NOT_FOUND, "none") if not message else call.reply(b"")


class Browser:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._machine = WSConnection(ConnectionType.CLIENT)

    def send(self, event: Event) -> None:
        self._writer.write(self._machine.send(event))

    async def receive(self) -> Event:
        while True:
            for event in self._machine.events():
                return event
            data = await self._reader.read(65536)
            self._machine.receive_data(data or None)

    async def open(self, path: str, *subprotocols: str) -> Event:
        self.send(Request(host="member", target=path, subprotocols=list(subprotocols)))
        return await self.receive()

    def abort(self) -> None:
        self._writer.transport.abort()


def browse(test: Callable[[Browser], Awaitable[None]]) -> None:
    async def run() -> None:
        handlers = {"/etcdserverpb.Watch/Watch": bidi_stream(echo), "/etcdserverpb.KV/Put": unary(put)}
        gateway = Gateway(method_table(handlers), message_bytes_max=1 << 20)

        def websocket(target: bytes, headers: Headers) -> WebSocket:
            session = GatewaySession(gateway, target, headers)
            return WebSocket(session, target, headers, message_bytes_max=MESSAGE_BYTES, subprotocols=("Bearer",))

        routes, _ = make_routes()
        routes.serve_gateway(gateway.handle, websocket, refuses_names=lambda: False)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: HttpProtocol(routes.handle_plain, upgrade=routes.upgrade_plain), "127.0.0.1", 0
        )
        async with asyncio.timeout(60):
            browser = Browser(*await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1]))
            await test(browser)
        browser.abort()
        server.close()

    asyncio.run(run())


def test_each_message_is_a_request_and_each_response_a_message() -> None:
    async def test(browser: Browser) -> None:
        assert await browser.open("/v3/watch") == AcceptConnection()
        for number in ("1", "2"):
            browser.send(TextMessage(data=json.dumps({"create_request": {"watch_id": number}})))
            assert await browser.receive() == TextMessage(data=f'{{"result":{{"watch_id":"{number}"}}}}')

    browse(test)


def test_the_token_is_offered_as_a_subprotocol() -> None:
    async def test(browser: Browser) -> None:
        accepted = await browser.open("/v3/watch", "Bearer", "secret")
        assert accepted == AcceptConnection(subprotocol="Bearer")
        browser.send(TextMessage(data="{}"))
        await browser.receive()
        assert seen_tokens[-1] == b"Bearer secret"

    browse(test)


@pytest.mark.parametrize(
    ("path", "message", "answer"),
    [
        ("/v3/kv/put", '{"key":"YQ"}', "{}"),
        ("/v3/kv/put", "{}", '{"code":5, "message":"none"}'),
        ("/v3/kv/put", "{", '{"code":3, "message":"unexpected EOF"}'),
        ("/v3/kv/%70ut", '{"key":"YQ"}', "{}"),
        ("/v3/nope", "{}", '{"code":5, "message":"Not Found"}'),
    ],
)
def test_unary_methods_and_errors(path: str, message: str, answer: str) -> None:
    async def test(browser: Browser) -> None:
        await browser.open(path)
        browser.send(TextMessage(data=message))
        assert await browser.receive() == TextMessage(data=answer)
        closed = await browser.receive()
        assert isinstance(closed, CloseConnection)
        assert closed.code == 1000

    browse(test)


def test_pings_are_answered_and_a_close_ends_the_call() -> None:
    async def test(browser: Browser) -> None:
        await browser.open("/v3/watch")
        browser.send(Ping(payload=b"x"))
        assert await browser.receive() == Pong(payload=b"x")
        browser.send(CloseConnection(code=1000))
        assert isinstance(await browser.receive(), CloseConnection)

    browse(test)


def test_a_message_of_unlimited_size_is_refused() -> None:
    async def test(browser: Browser) -> None:
        await browser.open("/v3/watch")
        for _ in range(5):
            browser.send(TextMessage(data="x" * MESSAGE_BYTES, message_finished=False))
        closed = await browser.receive()
        assert isinstance(closed, CloseConnection)
        assert closed.code == 1009

    browse(test)


def test_paths_without_websockets_answer_as_usual() -> None:
    async def test(browser: Browser) -> None:
        refused = await browser.open("/version")
        assert isinstance(refused, RejectConnection)
        assert refused.status_code == 200

    browse(test)
