"""One client's connection: takes requests apart, hands them to handlers, and knows which calls are open.

The hot path is `handle`: a HEADERS frame whose exact block was seen before makes a UnaryCall; a DATA frame that is one
whole message calls the handler. Everything else (streams, deadlines, compression, odd framing, refusals, plain HTTP) goes
through `_open` and `feed`.

The benchmark that pays for the odd form of `handle` and of UnaryCall: `h2load -n 200000 -c 4 -m 64 -d BODY -H 'content-type:
application/grpc' -H 'te: trailers' http://HOST:PORT/SERVICE/METHOD`, where BODY is five zero bytes; 110,000 to 136,000 empty
calls/s on two cores shared with h2load, of which the HTTP/2 engine takes two thirds. `UnaryCall.feed` is its plain twin.

Memory is bounded for clients that ask and do not read: when `_REPLY_QUEUE_BYTES` wait to be taken, requests are kept
undispatched (`_deferred`), when too many of those wait they are refused, and a transport that is stuck is not read from at
all.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, Final, cast

from tercet.errors import Code, StatusError
from tercet.rpc import headers as hdr
from tercet.rpc import http2
from tercet.rpc.connection import Connection
from tercet.rpc.http2 import (
    ConnectionClosed,
    DataReceived,
    Event,
    Headers,
    HTTP2Error,
    PingAcknowledged,
    PingReceived,
    RequestReceived,
    StreamClosed,
)
from tercet.rpc.http_exchange import HttpExchange
from tercet.rpc.keepalive import Pinger, PingPolicy
from tercet.rpc.methods import Method
from tercet.rpc.server_streaming import ServerStream
from tercet.rpc.unary_call import UnaryCall
from tercet.rpc.wire import Decompress, decompressor, parse_timeout

if TYPE_CHECKING:
    from tercet.rpc.server import Server

_REPLY_QUEUE_BYTES: Final = 8 << 20
_REPLY_QUEUE_BYTES_MAX: Final = 256 << 20
_DEFERRED_BYTES_MAX: Final = 16 << 20
_DEFERRED_OVERHEAD_BYTES: Final = 1 << 10
_DEFERRED_PER_TURN: Final = 64

_DRAIN_PING: Final = b"goaway\0\0"

_unpack_prefix = Struct(">BI").unpack_from


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end. `common_name` is that of a verified client certificate, None without one."""

    address: str
    common_name: str | None


class ServerConnection(Connection):
    __slots__ = (
        "_deferred",
        "_deferred_bytes",
        "_draining",
        "_first_chunk",
        "_half_open",
        "_peer",
        "_ping_policy",
        "_pinger",
        "_reading_paused",
        "_said_last_goaway",
        "backlogged",
        "calls",
        "incomplete_bytes",
        "server",
    )

    def __init__(self, server: Server, first_chunk: bytes) -> None:
        options = server.options
        super().__init__(server.loop, http2.server_session(options.max_concurrent_streams), server.traffic)
        self.server = server
        self.calls: dict[int, UnaryCall | ServerStream | HttpExchange] = {}
        self.backlogged = False
        self.incomplete_bytes = 0
        self._first_chunk = first_chunk
        self._peer: Peer | None = None
        self._deferred: deque[tuple[UnaryCall, bytes]] = deque()
        self._deferred_bytes = 0
        self._reading_paused = False
        self._half_open: set[int] = set()
        self._draining = False
        self._said_last_goaway = False
        self._ping_policy = PingPolicy(options.keepalive_min_seconds, options.keepalive_permit_without_calls)
        self._pinger = Pinger(self, options.keepalive_interval_seconds, options.keepalive_timeout_seconds)

    @property
    def peer(self) -> Peer:
        if self._peer is None:
            self._peer = Peer(_address(self.transport.get_extra_info("peername")), _common_name(self.transport))
        return self._peer

    def mark_dirty(self) -> None:
        """As every connection; but all of a server are flushed together, so that it can be done early."""
        if not self.touched:
            self.touched = True
            if not self.server.touched:
                self.loop.call_soon(self.server.flush)
            self.server.touched.append(self)

    # asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.server.connections.add(self)
        if self.server.options.keepalive_interval_seconds > 0:
            self._pinger.start()
        if self._first_chunk:
            first, self._first_chunk = self._first_chunk, b""
            self.data_received(first)
        if self.server.draining:
            self.drain()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closing = True
        self._pinger.stop()
        self.server.lost(self)
        calls, self.calls = self.calls, {}
        self._deferred.clear()
        for call in calls.values():
            call.abandoned()

    # Requests

    def handle(self, events: Iterable[Event]) -> None:
        calls = self.calls
        header_cache = self.server.header_cache
        max_message_bytes = self.server.options.max_message_bytes
        for event in events:
            if isinstance(event, DataReceived):
                call = calls.get(event.stream_id)
                if type(call) is UnaryCall and event.end_stream and call.reader is None and not call.finished:
                    data = event.data
                    if len(data) >= 5:
                        flag, length = _unpack_prefix(data)
                        if flag == 0 and length == len(data) - 5 and length <= max_message_bytes:
                            call.request_ended = True
                            if self.backlogged:
                                self._defer(call, data[5:])
                                continue
                            try:
                                call.method.call(call, data[5:])
                            except Exception as error:
                                call.fail_with(error)
                            continue
                if call is not None:
                    call.feed(event.data, event.end_stream)
            elif isinstance(event, RequestReceived):
                head = header_cache.get(event.headers)
                if head is not None and not event.end_stream:
                    method, seconds = head
                    stream_id = event.stream_id
                    method.started += 1
                    calls[stream_id] = unary = UnaryCall(self, stream_id, method, event.headers)
                    if seconds is not None:
                        unary.deadline = self.loop.time() + seconds
                        self.server.deadlines.add(unary, unary.deadline)
                else:
                    self._open(event.stream_id, event.headers, event.end_stream)
            elif isinstance(event, StreamClosed):
                call = calls.pop(event.stream_id, None)
                if call is not None and not call.finished:
                    call.abandoned()
                if self._half_open:
                    self._half_open.discard(event.stream_id)
            else:
                self._handle_rare(event)

    def dispatch(self, call: UnaryCall, message: bytes) -> None:
        """Call the handler of a complete unary request, now or when there is room for its reply."""
        if self.backlogged:
            self._defer(call, message)
            return
        try:
            call.method.call(call, message)
        except Exception as error:
            call.fail_with(error)

    def _open(self, stream_id: int, headers: Headers, ended: bool) -> None:
        """A request whose head was not seen before: read it."""
        path = content_type = verb = encoding = b""
        timeout: bytes | None = None
        for name, value in headers:
            if name == b":path":
                path = value
            elif name == b"content-type":
                content_type = value
            elif name == b"grpc-timeout":
                timeout = value
            elif name == b":method":
                verb = value
            elif name == b"grpc-encoding":
                encoding = value
        if not content_type.startswith(b"application/grpc"):
            exchange = HttpExchange(self, stream_id, headers)
            self.calls[stream_id] = exchange
            if ended:
                exchange.feed(b"", True)
            return
        method = self.server.methods.get(path)
        if verb != b"POST":
            text = f'Received a HEADERS frame with :method "{verb.decode("latin-1")}" which should be POST'
            self._refuse(stream_id, b"405", Code.INTERNAL, text, ended)
            return
        if method is None:
            self._refuse(stream_id, b"200", Code.UNIMPLEMENTED, self.server.why_unknown(path), ended)
            return
        status = b"400"
        try:
            seconds = None if timeout is None else parse_timeout(timeout)
            status = b"200"
            decompress = decompressor(encoding) if encoding else None
        except StatusError as error:
            self._refuse(stream_id, status, error.code, error.message, ended)
            return
        call = self._admit(stream_id, headers, method, seconds, decompress)
        # A timeout that is counted down to the microsecond will not come again: its block is not worth remembering.
        is_common = timeout is None or len(timeout) < 6 or timeout[-4:-1] == b"000"
        if is_common and method.is_unary and decompress is None and method.duration_counts is None:
            self.server.learn_head(headers, method, seconds)
        if ended:
            call.feed(b"", True)

    def _admit(
        self, stream_id: int, headers: Headers, method: Method, timeout_seconds: float | None, decompress: Decompress | None
    ) -> UnaryCall | ServerStream:
        call: UnaryCall | ServerStream
        if method.is_unary:
            call = UnaryCall(self, stream_id, method, headers)
            call.decompress = decompress
        else:
            call = ServerStream(self, stream_id, method, headers, decompress)
            call.start()
        self.calls[stream_id] = call
        method.started += 1
        if method.duration_counts is not None:
            call.began(self.loop.time())
        if timeout_seconds is not None:
            call.deadline = self.loop.time() + timeout_seconds
            self.server.deadlines.add(call, call.deadline)
        return call

    def _refuse(self, stream_id: int, status: bytes, code: Code, text: str, ended: bool) -> None:
        """Answer what is no call of ours by headers alone."""
        head = ((b":status", status), (b"content-type", b"application/grpc"), *hdr.status_trailers(code, text))
        try:
            self.session.send_response(stream_id, head, end_stream=True)
        except HTTP2Error:
            return  # the client has reset it already
        if not ended:
            self.reset_when_sent(stream_id)
        self.mark_dirty()

    # Replies that wait for their reader

    def has_room_for_replies(self) -> bool:
        """Asked before a large reply is queued: no flush within a turn would notice how much has come together."""
        queued = self.session.queued_body_size()
        if queued > _REPLY_QUEUE_BYTES:
            self.backlogged = True
        return queued <= _REPLY_QUEUE_BYTES_MAX

    def _defer(self, call: UnaryCall, message: bytes) -> None:
        if self._deferred_bytes > _DEFERRED_BYTES_MAX:
            call.fail(Code.RESOURCE_EXHAUSTED, "too many requests wait for this client to read its replies")
            return
        self._deferred.append((call, message))
        self._deferred_bytes += len(message) + _DEFERRED_OVERHEAD_BYTES

    def flushed(self) -> None:
        queued = self.session.queued_body_size()
        if queued > _REPLY_QUEUE_BYTES:
            self.backlogged = True
            if self.write_paused and not self._reading_paused:
                # The client reads nothing at all: TCP tells it so. (While only windows are shut we must read, to learn of
                # new ones.)
                self._reading_paused = True
                self.transport.pause_reading()
        elif self.backlogged and queued <= _REPLY_QUEUE_BYTES // 2:
            self._catch_up()
        if self._half_open:
            self._close_half_open()
        if self._draining and not self.calls:
            self._send_last_goaway()
            self.close()

    def resume_writing(self) -> None:
        if self._reading_paused and not self.transport.is_closing():
            self._reading_paused = False
            self.transport.resume_reading()
        super().resume_writing()

    def _catch_up(self) -> None:
        """Dispatch some of the requests that were kept; the flush of their replies asks for more."""
        self.backlogged = False
        for _ in range(min(_DEFERRED_PER_TURN, len(self._deferred))):
            if self.backlogged:
                break  # by a reply just given
            call, message = self._deferred.popleft()
            self._deferred_bytes -= len(message) + _DEFERRED_OVERHEAD_BYTES
            if not call.finished:
                self.dispatch(call, message)
        if self._deferred:
            self.backlogged = True  # newer requests must not overtake those that wait
            self.mark_dirty()

    # Streams that we ended and the client did not

    def reset_when_sent(self, stream_id: int) -> None:
        """The answer is complete, the request is not: ask the client to stop, once the answer has left (RFC 9113 §8.1)."""
        self._half_open.add(stream_id)

    def _close_half_open(self) -> None:
        if self.write_paused or self.session.remote_window_size <= 0:
            return
        for stream_id in tuple(self._half_open):
            try:
                left = not self.session.queued_body_size(stream_id) and self.session.stream_remote_window_size(stream_id) > 0
            except HTTP2Error:
                left = True
            if left:
                self._half_open.discard(stream_id)
                self.reset(stream_id, http2.NO_ERROR)

    # Pings, GOAWAY, the end

    def _handle_rare(self, event: Event) -> None:
        if isinstance(event, PingReceived):
            abuse = self._ping_policy.is_abuse(self.loop.time(), has_calls=bool(self.calls), sent_data=self.sent_data)
            self.sent_data = False
            if abuse:
                self.goaway(http2.ENHANCE_YOUR_CALM, b"too_many_pings")
        elif isinstance(event, PingAcknowledged):
            if event.opaque_data == _DRAIN_PING and self._draining:
                self._send_last_goaway()
        elif isinstance(event, ConnectionClosed):
            self.close()

    def ping(self) -> None:
        try:
            self.session.ping()
        except HTTP2Error:
            return  # going down already
        self.mark_dirty()

    def peer_is_dead(self) -> None:
        self.abort()

    def drain(self) -> None:
        """Ask the client to go elsewhere, finish what it has asked, close.

        Two GOAWAYs, a round trip apart: the first names no stream as the last, so that a request that is on its way is still
        served. The second names the last that was: the client knows then that all later ones may be sent again.
        """
        if self._draining or self.closing:
            return
        self._draining = True
        if not self.calls:
            self._send_last_goaway()
            return
        try:
            self.session.send_shutdown_notice()
            self.flush()  # pings overtake: this one must follow, so that its answer says that the notice has been read
            self.session.ping(_DRAIN_PING)
        except HTTP2Error:
            return  # the session has ended, and says so by an event
        self.mark_dirty()

    def _send_last_goaway(self) -> None:
        if self._said_last_goaway:
            return
        self._said_last_goaway = True
        try:
            self.session.send_goaway(http2.NO_ERROR)
        except HTTP2Error:
            return
        self.flush()


def _address(peername: object) -> str:
    """host:port, or the path of a Unix socket."""
    if isinstance(peername, tuple):
        host, port = peername[0], peername[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return str(peername or "@")


def _common_name(transport: asyncio.BaseTransport) -> str | None:
    """Of the certificate that the TLS layer has verified; an unverified one shows as empty there."""
    tls = transport.get_extra_info("ssl_object")
    if not isinstance(tls, ssl.SSLObject | ssl.SSLSocket):
        return None
    subject = cast(tuple[tuple[tuple[str, str], ...], ...], (tls.getpeercert() or {}).get("subject", ()))
    return next((value for attributes in subject for name, value in attributes if name == "commonName"), None)
