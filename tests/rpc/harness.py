"""A loop to run tests in, and a server with methods of every kind on a free port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import uvloop

from tercet.errors import Code, StatusError
from tercet.rpc import (
    Handler,
    HttpHandler,
    Server,
    ServerOptions,
    ServerStream,
    UnaryCall,
    bidi_stream,
    server_stream,
    unary,
    unary_async,
)
from tercet.rpc.handlers import client_stream
from tests.support.waiting import scaled, until

Result = TypeVar("Result")

TEST_SECONDS = 60.0


def run(
    test: Coroutine[Any, Any, Result], loop_factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
) -> Result:
    """Run a test under uvloop, as the members do, or another loop; a hang fails within TEST_SECONDS."""

    async def bounded() -> Result:
        return await asyncio.wait_for(test, scaled(TEST_SECONDS))

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(bounded())


def echo(call: UnaryCall, message: bytes) -> None:
    call.reply(message)


def refuse(call: UnaryCall, message: bytes) -> None:
    call.fail(Code.NOT_FOUND, "100% of Zürich\n")


def crash(call: UnaryCall, message: bytes) -> None:
    raise ZeroDivisionError("secret")


def reject(call: UnaryCall, message: bytes) -> None:
    raise StatusError(Code.OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted")


def silent(call: UnaryCall, message: bytes) -> None:
    """Never answers; only its deadline or cancellation ends the call."""


def metadata(call: UnaryCall, message: bytes) -> None:
    pairs = sorted((name, value) for name, values in call.metadata.items() for value in values)
    call.reply(repr(pairs).encode())


async def slow(call: UnaryCall, message: bytes) -> bytes:
    await asyncio.sleep(float(message))
    return b"done"


async def join(stream: ServerStream) -> None:
    parts = [message async for message in stream]
    await stream.send(b"+".join(parts))


async def count(stream: ServerStream) -> None:
    for number in range(int(await stream.receive_one())):
        await stream.send(b"%d" % number)


async def chat(stream: ServerStream) -> None:
    async for message in stream:
        if message == b"fail":
            raise StatusError(Code.ABORTED, "as asked")
        await stream.send(message.upper())


async def hold(stream: ServerStream) -> None:
    """A stream that stays open and idle, like a watch."""
    stream.send_headers()
    async for _ in stream:
        pass


class Gated:
    """A unary method that answers once `gate` is set."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.methods: dict[str, Handler] = {"/test.Test/Gated": unary_async(self._answer)}

    async def _answer(self, call: UnaryCall, message: bytes) -> bytes:
        await self.gate.wait()
        return b"done"


METHODS: dict[str, Handler] = {
    "/test.Test/Echo": unary(echo),
    "/test.Test/Refuse": unary(refuse),
    "/test.Test/Crash": unary(crash),
    "/test.Test/Reject": unary(reject),
    "/test.Test/Silent": unary(silent),
    "/test.Test/Metadata": unary(metadata),
    "/test.Test/Slow": unary_async(slow),
    "/test.Test/Join": client_stream(join),
    "/test.Test/Count": server_stream(count),
    "/test.Test/Chat": bidi_stream(chat),
    "/test.Test/Hold": bidi_stream(hold),
}


@asynccontextmanager
async def serving(
    methods: dict[str, Handler] | None = None,
    *,
    options: ServerOptions | None = None,
    http_handler: HttpHandler | None = None,
    ssl: Any = None,
) -> AsyncIterator[tuple[Server, int]]:
    """A server on a free loopback port; fails if connections or deadlines are left at the end."""
    server = Server(METHODS | (methods or {}), options=options, http_handler=http_handler)
    listener = await asyncio.get_running_loop().create_server(server.protocol, "127.0.0.1", 0, ssl=ssl)
    try:
        yield server, listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        server.close()
        await until(lambda: not server.connections)
        assert not len(server.deadlines)
