"""Streams of the gateway over a WebSocket: each message is a request in JSON, each response a message.

The authorization token of a browser, which cannot set headers, is offered as a subprotocol: `Bearer, <token>`.

Source: tmc/grpc-websocket-proxy, which etcd mounts at /v3/. Departs in: a unary method replies to the first message, before the
client closes the socket, and the server closes it by a close frame.
"""

from __future__ import annotations

import asyncio
from urllib.parse import unquote

from tercet.errors import Code, StatusError
from tercet.gateway.gateway import Gateway, Metadata, error_line, failure
from tercet.gateway.json_encode import RESPONSE
from tercet.gateway.json_syntax import NoValue
from tercet.gateway.paths import ROUTES, Route
from tercet.http1.messages import Headers, header
from tercet.http1.websocket import WebSocket
from tercet.rpc import InProcessStream


class GatewaySession:
    """One WebSocket to one path."""

    def __init__(self, gateway: Gateway, target: bytes, headers: Headers) -> None:
        self._gateway = gateway
        self._path = unquote(target.partition(b"?")[0].decode("latin-1"))
        self._metadata = _metadata(headers)

    async def __call__(self, socket: WebSocket) -> None:
        route = ROUTES.get(self._path)
        try:
            if route is None:
                raise StatusError(Code.NOT_FOUND, "Not Found")
            if route.server_streams:
                await self._stream(socket, route)
            else:
                await self._unary(socket, route)
        except StatusError as error:
            body = failure(error)[2]
            assert isinstance(body, bytes)
            await socket.send(body.decode())

    async def _unary(self, socket: WebSocket, route: Route) -> None:
        message = await socket.receive()
        if message is not None:
            encoded, _ = await self._gateway.parse(route, message, 0)
            reply = await self._gateway.unary(route, encoded, self._metadata)
            await socket.send(await self._gateway.convert(route.response, reply, RESPONSE))

    async def _stream(self, socket: WebSocket, route: Route) -> None:
        stream = self._gateway.call(route, self._metadata, None)
        feeder = asyncio.get_running_loop().create_task(self._feed(socket, stream, route))
        try:
            while (message := await stream.receive()) is not None:
                await socket.send((await self._gateway.result_line(route, message)).decode().rstrip("\n"))
        except StatusError as error:
            await socket.send(error_line(error).decode().rstrip("\n"))
        finally:
            feeder.cancel()
            stream.cancel()

    async def _feed(self, socket: WebSocket, stream: InProcessStream, route: Route) -> None:
        """Pass requests on. When the client closes, the call ends: nobody can read its responses."""
        while (message := await socket.receive()) is not None:
            position = 0
            try:
                while True:
                    encoded, position = await self._gateway.parse(route, message, position)
                    await stream.send(encoded)
                    if not route.client_streams:
                        stream.half_close()
                        break
            except NoValue:
                continue
            except StatusError:
                stream.half_close()
                return
        stream.cancel()


def _metadata(headers: Headers) -> Metadata:
    offered = header(headers, b"sec-websocket-protocol").decode("latin-1")
    _, bearer, token = offered.partition("Bearer,")
    return [("authorization", f"Bearer {token.strip(' ')}")] if bearer else []
