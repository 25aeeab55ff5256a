"""What every call that a server answers has in common: who calls, until when, and that it is answered exactly once.

A call ends by an answer, by its deadline, or because its client went away (cancelled it, or was lost). Whatever comes first
counts; everything after it does nothing, so that no handler has to ask before it answers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from tercet.errors import Code
from tercet.rpc import headers as hdr
from tercet.rpc.http2 import Headers, HTTP2Error
from tercet.rpc.methods import Method, status_of

if TYPE_CHECKING:
    from tercet.rpc.server_connection import Peer, ServerConnection

logger = logging.getLogger(__name__)


class ServerCall:
    """One call. `deadline` is on the loop's clock, None if the client set none."""

    __slots__ = (
        "_began",
        "_headers_sent",
        "connection",
        "deadline",
        "finished",
        "headers",
        "method",
        "on_cancel",
        "request_ended",
        "stream_id",
    )

    def __init__(self, connection: ServerConnection, stream_id: int, method: Method, headers: Headers) -> None:
        self.connection = connection
        self.stream_id = stream_id
        self.method = method
        self.headers = headers
        self.deadline: float | None = None
        # Called once if the call ends in another way than by an answer of the handler.
        self.on_cancel: Callable[[], object] | None = None
        self.finished = False
        self.request_ended = False
        self._headers_sent = False

    @property
    def metadata(self) -> dict[str, tuple[bytes, ...]]:
        """All metadata, `-bin` values decoded; read anew each time. Raises StatusError for malformed base64."""
        return hdr.metadata_of(self.headers)

    def header(self, name: str) -> bytes | None:
        """The first value of one piece of metadata; cheaper than `metadata`."""
        return hdr.value_of(self.headers, name.encode("ascii"))

    @property
    def peer(self) -> Peer:
        return self.connection.peer

    def fail(self, code: Code, text: str) -> None:
        """End the call with an error; headers and status travel as one block if nothing was sent yet."""
        if self.finished:
            return
        self.finish(code)
        self._send_status(code, text)

    def fail_with(self, error: BaseException) -> None:
        """End the call with what an exception says to clients: a StatusError its code and text, all others INTERNAL."""
        code, text = status_of(error, self.method.path.decode())
        self.fail(code, text)

    def expire(self) -> None:
        """The deadline has come."""
        self.fail(Code.DEADLINE_EXCEEDED, "context deadline exceeded")
        self.cancelled()

    def abandoned(self) -> None:
        """The client has cancelled the call, or is lost: there is nobody to answer."""
        if not self.finished:
            self.finish(Code.CANCELLED)
            self.cancelled()

    def cancelled(self) -> None:
        """Let the handler's side know that nobody waits for it any more."""
        on_cancel, self.on_cancel = self.on_cancel, None
        if on_cancel is not None:
            try:
                on_cancel()
            except Exception:
                logger.exception("on_cancel of %s failed", self.method.path.decode())

    def feed(self, data: bytes, ended: bool) -> None:
        """Bytes of the request."""
        raise NotImplementedError

    def finish(self, code: int) -> None:
        """Count the end of the call, and see to it that nothing is remembered about it but its stream."""
        self.finished = True
        method = self.method
        method.handled[code] += 1
        if self.deadline is not None:
            self.connection.server.deadlines.discard(self)
        if method.duration_counts is not None:
            method.observe(self.connection.loop.time() - self._began)
        if not self.request_ended:
            self.connection.reset_when_sent(self.stream_id)

    def began(self, moment: float) -> None:
        """Remember when the call started; only for methods that measure durations."""
        self._began = moment

    def _send_status(self, code: int, text: str) -> None:
        connection = self.connection
        trailers = hdr.OK_TRAILERS if code == 0 else hdr.status_trailers(code, text)
        try:
            if self._headers_sent:
                connection.session.send_trailers(self.stream_id, trailers)
            else:
                self._headers_sent = True
                connection.session.send_response(self.stream_id, hdr.RESPONSE + trailers, end_stream=True)
        except HTTP2Error:
            return  # the stream is gone; its StreamClosed is on the way
        connection.sent_data = True
        connection.mark_dirty()
