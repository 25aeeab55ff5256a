"""A client's call. It ends exactly once: by the server's status, its deadline, `cancel`, or the loss of the connection.

Statuses that the client itself makes have grpc-go's codes and texts (http2_client.go, http_util.go).
"""

from __future__ import annotations

from typing import Final

from tercet.errors import Code, StatusError
from tercet.rpc import http2
from tercet.rpc.connection import Connection
from tercet.rpc.headers import code_of_http_status
from tercet.rpc.http2 import Headers
from tercet.rpc.wire import decode_grpc_message


class RpcError(StatusError):
    """A call ended with a status other than OK.

    unprocessed: True if the server certainly did not process the call, so that even a write may be retried; False: unknown.
    reason: the exception that a connection failed with. Compiled modules do not set `__cause__`.
    """

    def __init__(self, code: Code, message: str, *, unprocessed: bool = False, reason: BaseException | None = None) -> None:
        super().__init__(code, message)
        self.unprocessed = unprocessed
        self.reason = reason


_CODE_OF_RESET: Final = {
    0x3: Code.RESOURCE_EXHAUSTED,  # FLOW_CONTROL_ERROR
    http2.REFUSED_STREAM: Code.UNAVAILABLE,
    http2.CANCEL: Code.CANCELLED,
    http2.ENHANCE_YOUR_CALM: Code.RESOURCE_EXHAUSTED,
    0xC: Code.PERMISSION_DENIED,  # INADEQUATE_SECURITY
}


class ClientCall:
    """One call. `headers` and `trailers` are the server's, None until then; `calls` are the connection's open ones."""

    __slots__ = ("_calls", "connection", "deadline", "finished", "headers", "stream_id", "trailers", "unprocessed")

    def __init__(self, connection: Connection, calls: dict[int, ClientCall]) -> None:
        self.connection = connection
        self._calls = calls
        self.stream_id = 0
        self.deadline: float | None = None
        self.finished = False
        self.unprocessed = False
        self.headers: Headers | None = None
        self.trailers: Headers | None = None

    # Implemented by subclasses

    def feed(self, data: bytes) -> None:
        """Take bytes of the response."""
        raise NotImplementedError

    def ended(self, code: int, text: str) -> None:
        """The call is over, and no longer among its connection's calls."""
        raise NotImplementedError

    # For callers

    def cancel(self) -> None:
        """End the call at once, and reset its stream."""
        self._give_up(Code.CANCELLED, "context canceled")

    def abandon(self, reason: str) -> None:
        """End the call with UNAVAILABLE, and reset its stream."""
        self._give_up(Code.UNAVAILABLE, reason)

    # For the connection

    def expire(self) -> None:
        self._give_up(Code.DEADLINE_EXCEEDED, "context deadline exceeded")

    def finish(self, code: int, text: str) -> None:
        """End the call, once."""
        if self.finished:
            return
        self.finished = True
        connection = self.connection
        self._calls.pop(self.stream_id, None)
        if self.deadline is not None:
            connection.deadlines.discard(self)
        self.ended(code, text)

    def finish_by(self, trailers: Headers) -> None:
        """End the call with the status in the server's trailers."""
        self.trailers = trailers
        status = message = None
        for name, value in trailers:
            if name == b"grpc-status":
                status = value
            elif name == b"grpc-message":
                message = value
        if status is None:
            self._finish_without_status()
        elif status == b"0":
            self.finish(0, "")
        else:
            is_code = status.isdigit() and len(status) <= 2 and int(status) < len(Code)
            code = int(status) if is_code else Code.UNKNOWN
            self.finish(code, decode_grpc_message(message or b""))

    def stream_closed(self, error_code: int) -> None:
        """The stream ended without a status."""
        if error_code == http2.NO_ERROR:
            self._finish_without_status()
            return
        if error_code == http2.CANCEL and self.deadline is not None and self.deadline <= self.connection.loop.time():
            # The server had the same deadline, and its reset was read before the timer ran.
            self.finish(Code.DEADLINE_EXCEEDED, "context deadline exceeded")
            return
        self.unprocessed = error_code == http2.REFUSED_STREAM
        code = _CODE_OF_RESET.get(error_code, Code.INTERNAL)
        self.finish(code, f"stream terminated by RST_STREAM with error code: {error_code}")

    def _finish_without_status(self) -> None:
        status = dict(self.headers or ()).get(b":status", b"")
        if status in (b"", b"200"):
            self.finish(Code.INTERNAL, "server closed the stream without sending trailers")
        else:
            text = f"unexpected HTTP status code received from server: {status.decode('latin-1')}"
            self.finish(code_of_http_status(status), text)

    def _give_up(self, code: Code, text: str) -> None:
        if not self.finished:
            self.connection.reset(self.stream_id, http2.CANCEL)
            self.finish(code, text)
