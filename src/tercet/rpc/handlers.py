"""Handlers: the functions that serve methods, wrapped by kind.

{"/etcdserverpb.KV/Put": unary(put), "/etcdserverpb.Watch/Watch": bidi_stream(watch)}
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeVar

from tercet.errors import Code, StatusError
from tercet.intake import intake_of_running_loop
from tercet.rpc.call import ServerStream, UnaryCall
from tercet.rpc.method import Kind, Method

UnaryHandler = Callable[[UnaryCall, bytes], None]
StreamHandler = Callable[[ServerStream], Coroutine[Any, Any, None]]


class Handler(NamedTuple):
    """A function and the kind of method that it serves."""

    kind: Kind
    call: UnaryHandler | StreamHandler


def unary(call: UnaryHandler) -> Handler:
    """A plain function `(call, message)`, called with the complete request; `call.reply` or `call.fail` ends the call.

    This is the hot path: no coroutine, no task. An exception that it raises becomes the call's status.
    """
    return Handler(Kind.UNARY, call)


def unary_async(call: Callable[[UnaryCall, bytes], Awaitable[bytes]]) -> Handler:
    """A coroutine function `(call, message) -> reply`, for methods that are called rarely; cancelled with its call.

    Its task starts in a turn of the loop that allows it (intake.py).
    """

    async def run(context: UnaryCall, message: bytes) -> None:
        try:
            context.reply(await call(context, message))
        except Exception as error:
            context.fail_with(error)

    def begin(context: UnaryCall, message: bytes) -> bool:
        if context.finished:  # while it waited for its turn
            return False
        task = asyncio.get_running_loop().create_task(run(context, message))
        context.on_cancel = task.cancel  # this also keeps the task alive
        return True

    def start(context: UnaryCall, message: bytes) -> None:
        intake_of_running_loop().run(partial(begin, context, message))

    return Handler(Kind.UNARY, start)


def client_stream(call: StreamHandler) -> Handler:
    return Handler(Kind.CLIENT_STREAM, call)


def server_stream(call: StreamHandler) -> Handler:
    """The stream carries a single request: `await stream.receive_one()`."""
    return Handler(Kind.SERVER_STREAM, call)


def bidi_stream(call: StreamHandler) -> Handler:
    return Handler(Kind.BIDI_STREAM, call)


def method_table(handlers: Mapping[str, Handler], *, timed: bool = False) -> dict[bytes, Method]:
    """The methods by path, encoded. Raises ValueError for a path that is not /service/method."""
    methods = (Method(path, handler.kind, handler.call, timed=timed) for path, handler in handlers.items())
    return {method.path: method for method in methods}


Message = TypeVar("Message")


def unmarshal(parse: Callable[[bytes], Message], message: bytes) -> Message:
    """Parse a request (`unmarshal(PutRequest.FromString, message)`). Raises StatusError with grpc-go's code and text."""
    try:
        return parse(message)
    except Exception as error:  # protobuf's DecodeError; this package does not import protobuf
        raise malformed_request(error) from error


def unmarshal_streamed(parse: Callable[[bytes], Message], message: bytes) -> Message:
    """`unmarshal` for a message of a stream."""
    try:
        return parse(message)
    except Exception as error:
        raise malformed_request(error, action="failed to unmarshal the received message") from error


def malformed_request(error: Exception, *, action: str = "error unmarshalling request") -> StatusError:
    """The status for a request that does not parse. Go's parser has two texts."""
    is_text = "UTF-8" in str(error)
    reason = "string field contains invalid UTF-8" if is_text else "proto: cannot parse invalid wire-format data"
    return StatusError(Code.INTERNAL, f"grpc: {action}: {reason}")
