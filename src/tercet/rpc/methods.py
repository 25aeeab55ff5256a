"""A method of a service: its path, how it is called, who handles it, and how often it was."""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

from tercet.errors import Code, StatusError, strip_traceback

if TYPE_CHECKING:
    from tercet.rpc.server_streaming import ServerStream
    from tercet.rpc.unary_call import UnaryCall

logger = logging.getLogger(__name__)

UnaryHandler = Callable[["UnaryCall", bytes], None]
StreamHandler = Callable[["ServerStream"], Coroutine[Any, Any, None]]

# prometheus' default buckets, which go-grpc-prometheus uses for grpc_server_handling_seconds.
DURATION_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Kind(Enum):
    """The value is the label `grpc_type` of the metrics."""

    UNARY = "unary"
    CLIENT_STREAM = "client_stream"
    SERVER_STREAM = "server_stream"
    BIDI_STREAM = "bidi_stream"


@dataclass(frozen=True, slots=True)
class Handler:
    """What a server is given for a path."""

    kind: Kind
    call: UnaryHandler | StreamHandler


def unary(call: UnaryHandler) -> Handler:
    """A plain function `(call, message)`, called with the complete request; `call.reply` or `call.fail` ends the call.

    This is the hot path: no coroutine, no task. An exception that it raises becomes the call's status.
    """
    return Handler(Kind.UNARY, call)


def unary_async(call: Callable[[UnaryCall, bytes], Awaitable[bytes]]) -> Handler:
    """A coroutine function `(call, message) -> reply` for methods that are not called often; cancelled with its call."""

    async def run(context: UnaryCall, message: bytes) -> None:
        try:
            context.reply(await call(context, message))
        except Exception as error:
            context.fail_with(error)

    def start(context: UnaryCall, message: bytes) -> None:
        task = context.connection.loop.create_task(run(context, message))
        context.on_cancel = task.cancel  # this also keeps the task alive

    return Handler(Kind.UNARY, start)


def client_stream(call: StreamHandler) -> Handler:
    return Handler(Kind.CLIENT_STREAM, call)


def server_stream(call: StreamHandler) -> Handler:
    """The request is the stream's only message: `await stream.receive_one()`."""
    return Handler(Kind.SERVER_STREAM, call)


def bidi_stream(call: StreamHandler) -> Handler:
    return Handler(Kind.BIDI_STREAM, call)


class Method:
    """A handler at its path, with its counters: plain integers, read when /metrics is scraped."""

    __slots__ = (
        "call",
        "duration_counts",
        "duration_sum",
        "handled",
        "is_unary",
        "kind",
        "name",
        "path",
        "received",
        "sent",
        "service",
        "started",
    )

    def __init__(self, path: str, handler: Handler, *, timed: bool) -> None:
        if not path.startswith("/") or path.count("/") != 2:
            raise ValueError(f"a method's path is /service/method, not {path!r}")
        self.path = path.encode("ascii")
        self.service, self.name = path[1:].split("/")
        self.kind = handler.kind
        self.is_unary = handler.kind is Kind.UNARY
        self.call: Any = handler.call  # UnaryHandler or StreamHandler, as `kind` says
        self.started = 0
        self.handled = [0] * len(Code)  # by code
        self.received = 0  # messages of requests and of answers, streams only
        self.sent = 0
        # How many calls took at most DURATION_BOUNDS[i] seconds (not cumulative), the last for longer ones; None: not measured.
        self.duration_counts: list[int] | None = [0] * (len(DURATION_BOUNDS) + 1) if timed else None
        self.duration_sum = 0.0

    # A unary call receives one message and, if it ends well, sends one: nothing to count on its hot path.

    @property
    def messages_received(self) -> int:
        return self.started if self.is_unary else self.received

    @property
    def messages_sent(self) -> int:
        return self.handled[Code.OK] if self.is_unary else self.sent

    def observe(self, seconds: float) -> None:
        """Count one duration (grpc_server_handling_seconds)."""
        if self.duration_counts is not None:
            self.duration_counts[bisect_left(DURATION_BOUNDS, seconds)] += 1
            self.duration_sum += seconds


def table(handlers: Mapping[str, Handler], *, timed: bool) -> dict[bytes, Method]:
    """The methods by path as it travels."""
    methods = (Method(path, handler, timed=timed) for path, handler in handlers.items())
    return {method.path: method for method in methods}


Message = TypeVar("Message")


def unmarshal(parse: Callable[[bytes], Message], message: bytes) -> Message:
    """Parse a request (`unmarshal(PutRequest.FromString, message)`). Raises StatusError as grpc-go does for what is not one."""
    try:
        return parse(message)
    except Exception as error:  # protobuf's DecodeError, which this room need not know
        raise malformed_request(error) from error


def malformed_request(error: Exception) -> StatusError:
    """What a handler that parses on its own answers for bytes that are not its request."""
    return StatusError(Code.INTERNAL, f"grpc: error unmarshalling request: proto: {error}")


def status_of(error: BaseException, where: str) -> tuple[Code, str]:
    """The status that a handler's exception becomes; what is not meant for clients is logged, and kept from them."""
    if isinstance(error, StatusError):
        strip_traceback(error)
        return error.code, error.message
    logger.error("%s failed", where, exc_info=error)
    return Code.INTERNAL, "internal error"
