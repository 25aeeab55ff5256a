"""A member with handlers of the test, which records the methods called."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import uvloop

from tercet.rpc import Handler, Server, UnaryCall, unary

Result = TypeVar("Result")
Answer = Callable[[UnaryCall, bytes], None]


def run(test: Coroutine[Any, Any, Result]) -> Result:
    """Run a test; a hang fails within a minute."""

    async def bounded() -> Result:
        return await asyncio.wait_for(test, 60)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(bounded())


@dataclass
class Member:
    """A running member: its endpoint, and the names of the methods called, in order."""

    port: int
    asked: list[str] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"


@asynccontextmanager
async def member(
    answers: Mapping[str, Answer],
    *,
    streams: Mapping[str, Handler] | None = None,
    tls: ssl.SSLContext | None = None,
    port: int = 0,
) -> AsyncIterator[Member]:
    """A server with these methods (by path)."""
    state = Member(0)

    def noted(path: str, answer: Answer) -> Handler:
        def handle(call: UnaryCall, message: bytes) -> None:
            state.asked.append(path.rpartition("/")[2])
            answer(call, message)

        return unary(handle)

    server = Server({**{path: noted(path, answer) for path, answer in answers.items()}, **(streams or {})})
    listener = await asyncio.get_running_loop().create_server(server.protocol, "127.0.0.1", port, ssl=tls)
    state.port = listener.sockets[0].getsockname()[1]
    try:
        yield state
    finally:
        listener.close()
        server.close()
        await asyncio.sleep(0)
