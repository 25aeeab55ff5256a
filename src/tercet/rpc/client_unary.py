"""A client's unary call: a callback, no coroutine, no task. The hot path of the load generator."""

from __future__ import annotations

import logging
from collections.abc import Callable
from struct import Struct

from tercet.errors import Code, StatusError
from tercet.rpc.client_call import ClientCall
from tercet.rpc.connection import Connection
from tercet.rpc.http2 import Headers
from tercet.rpc.wire import MessageReader

logger = logging.getLogger(__name__)

UnaryCallback = Callable[[int, str, bytes], object]

_unpack_prefix = Struct(">BI").unpack_from


class ClientUnary(ClientCall):
    """Ends with one `callback(code, text, message)`, never from within the function that started it."""

    __slots__ = ("_callback", "_data", "is_repeatable")

    def __init__(self, connection: Connection, calls: dict[int, ClientCall], callback: UnaryCallback) -> None:
        # Sets the fields of ClientCall itself: one function call less for every request.
        self.connection = connection
        self._calls = calls
        self.stream_id = 0
        self.deadline: float | None = None
        self.finished = False
        self.unprocessed = False
        self.headers: Headers | None = None
        self.trailers: Headers | None = None
        self.is_repeatable = False  # it may be ended, and made on another connection
        self._callback = callback
        self._data: bytes | bytearray = b""

    def feed(self, data: bytes) -> None:
        held = self._data
        if not held:
            self._data = data
            return
        if isinstance(held, bytes):
            held = self._data = bytearray(held)
        held += data
        if len(held) > self.connection.max_message_bytes + 5:
            self._give_up(
                Code.RESOURCE_EXHAUSTED,
                f"grpc: received message larger than max ({len(held) - 5} vs. {self.connection.max_message_bytes})",
            )

    def ended(self, code: int, text: str) -> None:
        message = b""
        if code == 0:
            try:
                message = self._message()
            except StatusError as error:
                code, text = error.code, error.message
        try:
            self._callback(code, text, message)
        except Exception:
            logger.exception("the callback of a call failed")

    def _message(self) -> bytes:
        """The only message of the response. Raises StatusError if the response is not exactly one message."""
        data = self._data
        if len(data) >= 5:
            flag, length = _unpack_prefix(data)
            if flag == 0 and length == len(data) - 5 and length <= self.connection.max_message_bytes:
                return bytes(data[5:])
        reader = MessageReader(self.connection.max_message_bytes)
        messages = reader.feed(bytes(data))
        if len(messages) == 1 and not reader.buffered_bytes:
            return messages[0]
        if len(messages) > 1:
            raise StatusError(Code.INTERNAL, "cardinality violation: received multiple messages for non-server-streaming RPC")
        if reader.buffered_bytes:
            raise StatusError(Code.INTERNAL, "unexpected EOF")
        raise StatusError(Code.INTERNAL, "cardinality violation: received no response message from non-server-streaming RPC")
