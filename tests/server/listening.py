"""A listener whose services echo with their names."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import cast

from tercet.gotext.urls import parse_urls
from tercet.server.listener import Listener, Services, open_addresses
from tercet.server.tls.contexts import ClientTls, ServerTls
from tercet.server.tls.files import TlsFiles
from tests.server.certificates import Authority

Scenario = Callable[[], Awaitable[None]]


class Named(asyncio.Protocol):
    """Echoes what it receives, prefixed with its name."""

    def __init__(self, name: bytes, first: bytes) -> None:
        self.name = name
        self.first = first

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if self.first:
            self.data_received(self.first)

    def data_received(self, data: bytes) -> None:
        self.transport.write(self.name + b":" + data + b";")


SERVICES = Services(
    grpc=lambda first: Named(b"grpc", first),
    plain_http=lambda first: Named(b"plain", first),
    secure_http=lambda first: Named(b"secure", first),
)


async def answers(port: int, *chunks: bytes, tls: ssl.SSLContext | None = None, until: bytes = b";") -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname="127.0.0.1" if tls else None)
    try:
        for chunk in chunks:
            writer.write(chunk)
            await asyncio.sleep(0.01)
        return await reader.readuntil(until)
    finally:
        writer.close()


def listening(
    urls: str = "http://127.0.0.1:0", services: Services = SERVICES, tls: ServerTls | None = None
) -> tuple[Listener, int]:
    (address,) = open_addresses(parse_urls(urls))
    return Listener(address, services, tls=tls), address.port


def tls_of(authority: Authority, **rules: object) -> ServerTls:
    pair = authority.sign("s", "server", "127.0.0.1")
    return ServerTls(TlsFiles(cert=pair.cert, key=pair.key, **rules))  # type: ignore[arg-type]


def dialing(authority: Authority, *protocols: str, cn: str = "") -> ssl.SSLContext:
    pair = authority.sign("c", cn) if cn else None
    context = ClientTls(TlsFiles(ca=authority.path, cert=pair.cert if pair else "", key=pair.key if pair else "")).context()
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context
