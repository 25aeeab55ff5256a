"""A client's connection to a server of its own process and event loop: what `inprocess://NAME` stands for.

    publish("m0-1", server)                       # server: rpc.Server
    connection = connect("m0-1")                  # has the methods of a connected Channel
    reply = await connection.unary("/etcdserverpb.KV/Put", request, timeout=5)

Its calls are those of in_process.py. It takes part in its server's `drain`, as the connection of a socket does, and when the
server ends, its calls fail with UNAVAILABLE. Names are those of one process, as ports are those of one host.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from tercet.errors import CONNECTION_CLOSING, Code
from tercet.rpc.call import Call
from tercet.rpc.client_call import RpcError
from tercet.rpc.headers import Metadata
from tercet.rpc.in_process import NO_LIMIT, InProcessChannel, InProcessStream
from tercet.rpc.server_state import ServerState
from tercet.rpc.wire import message_too_large

_published: Final[dict[str, ServerState]] = {}


class InProcessConnection:
    """One connection. answer_bytes_max: larger answers are refused by this side. on_lost: called when the server ends it."""

    def __init__(self, server: ServerState, *, answer_bytes_max: int, on_lost: Callable[[str], object]) -> None:
        self._channel = InProcessChannel(server.methods, message_bytes_max=server.options.max_message_bytes)
        self._calls = self._channel.calls
        self._server = server
        self._answer_bytes_max = answer_bytes_max
        self._on_lost = on_lost
        self._reason = ""
        self._is_draining = server.draining
        self._calls.on_begin = self._count
        server.in_process.add(self)

    # --- for the client: the methods of Channel

    @property
    def is_usable(self) -> bool:
        """Whether a new call can be started."""
        return not self._reason and not self._is_draining

    @property
    def descriptor(self) -> int:
        """There is none: -1."""
        return -1

    @property
    def last_heard(self) -> float:
        """Now, on the loop's clock: a server in this loop is as alive as its client."""
        return self._server.loop.time()

    @property
    def open_calls(self) -> int:
        return len(self._calls)

    def carries(self, stream: object) -> bool:
        """Whether a stream was started on this connection."""
        return isinstance(stream, InProcessStream) and stream.calls is self._calls

    async def unary(
        self, path: str, message: bytes, timeout: float | None = None, metadata: Metadata = (), is_repeatable: bool = False
    ) -> bytes:
        """One call, one answer. Cancelling the task cancels the call. Raises RpcError.

        is_repeatable: as of Channel, whose member may fall silent; this one cannot.
        """
        self._require_open()
        call = self._channel.start_unary(path, message, timeout, metadata)
        try:
            if call.outcome.done():
                await asyncio.sleep(0)  # most reads are answered at once: a caller that repeats them must not hold the loop
            reply = await call.outcome
        except asyncio.CancelledError:
            call.abandon()
            raise
        if len(reply) > self._answer_bytes_max:
            error = message_too_large(len(reply), self._answer_bytes_max)
            raise RpcError(error.code, error.message)
        return reply

    def stream(self, path: str, timeout: float | None = None, metadata: Metadata = ()) -> InProcessStream:
        """Start a streaming call of any kind. Raises RpcError."""
        self._require_open()
        return self._channel.stream(path, timeout, metadata)

    async def close(self) -> None:
        """End all calls with CANCELLED."""
        if not self._reason:
            self._end(Code.CANCELLED, CONNECTION_CLOSING)

    def _require_open(self) -> None:
        if self._reason:
            raise RpcError(Code.UNAVAILABLE, self._reason, unprocessed=True)

    # --- for the server

    def _count(self, call: Call) -> None:
        self._server.calls_of_version(call.headers, is_unary=call.method.is_unary)[0] += 1

    def drain(self) -> None:
        """Start no more calls, and end with the last that is open."""
        self._is_draining = True
        self._calls.on_idle = self._idle
        self._idle()

    def _idle(self) -> None:
        if not self._calls:
            self.abort()

    def abort(self) -> None:
        """End all calls as a connection that breaks does."""
        if not self._reason:
            reason = "error reading from server: EOF"
            self._end(Code.UNAVAILABLE, reason)
            self._on_lost(reason)

    def _end(self, code: Code, reason: str) -> None:
        self._reason = reason
        self._calls.on_idle = None
        self._calls.cancel_all(code, reason)
        self._channel.close()
        self._server.left(self)


def publish(name: str, server: ServerState) -> None:
    """Let clients of this process connect to `inprocess://name`."""
    _published[name] = server


def withdraw(name: str) -> None:
    """Refuse further connections; those that are open remain."""
    _published.pop(name, None)


def connect(
    name: str, *, answer_bytes_max: int = NO_LIMIT, on_lost: Callable[[str], object] = lambda reason: None
) -> InProcessConnection:
    """Raises RpcError (UNAVAILABLE) if no server of that name runs, or its loop is another one."""
    server = _published.get(name)
    if server is None:
        raise RpcError(Code.UNAVAILABLE, f"no server in this process is named {name}", unprocessed=True)
    if server.loop is not asyncio.get_running_loop():
        text = f"the server {name} runs in another event loop, or thread: use its endpoint"
        raise RpcError(Code.UNAVAILABLE, text, unprocessed=True)
    return InProcessConnection(server, answer_bytes_max=answer_bytes_max, on_lost=on_lost)
