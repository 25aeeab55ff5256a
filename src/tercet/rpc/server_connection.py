"""One client's connection: turns HTTP/2 events into calls, and keeps the open ones.

The hot path is `handle`: a HEADERS frame whose exact block is cached starts an Http2UnaryCall; a DATA frame that is one whole
message calls the handler. Everything else (streams, deadlines, compression, split messages, refusals, plain HTTP) goes
through `_open` and `feed`; `Http2UnaryCall.feed` is the plain twin of the hot path.

The benchmark that pays for the odd form of `handle` and of Http2UnaryCall: `h2load -n 200000 -c 4 -m 64 -d BODY -H
'content-type: application/grpc' -H 'te: trailers' http://HOST:PORT/SERVICE/METHOD`, where BODY is five zero bytes; 110,000 to
136,000 empty calls/s on two cores shared with h2load, of which the HTTP/2 engine takes two thirds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial
from struct import Struct
from typing import Final

from tercet.errors import INVALID_CLIENT_API_VERSION, Code, StatusError
from tercet.rpc import headers as hdr
from tercet.rpc import http2
from tercet.rpc.bounded_connection import BoundedConnection
from tercet.rpc.http2 import (
    ConnectionClosed,
    DataReceived,
    Event,
    Headers,
    HTTP2Error,
    PingAcknowledged,
    PingReceived,
    RequestReceived,
    SettingsReceived,
    StreamClosed,
    TrailersReceived,
)
from tercet.rpc.http2_stream import Http2Stream
from tercet.rpc.http2_unary import Http2UnaryCall
from tercet.rpc.http_exchange import HttpExchange
from tercet.rpc.keepalive import Pinger, PingPolicy
from tercet.rpc.method import Method, unknown_method
from tercet.rpc.server_state import ServerState
from tercet.rpc.wire import Decompress, decode_binary, decompressor, parse_timeout

_GRPC: Final = b"application/grpc"
_GRPC_SUFFIXES: Final = (b"", b"+", b";")  # what may follow
_LINGER_SECONDS: Final = 1.0
_CLOSED_TOGETHER: Final = 200  # streams of an ended connection, 1 us each
_DRAIN_PING: Final = b"goaway\0\0"

# Header blocks above the first size, as long as their calls are open, may take up the second on one connection.
_LARGE_HEADER_BYTES: Final = 8 << 10
_LARGE_HEADERS_BYTES_MAX: Final = 16 << 20
_HEADER_SHIFT: Final = 11  # one unit of a turn's work for each 2 KiB of headers: a piece of HPACK may hold megabytes of them
_REFUSED_WORK: Final = 100  # of a request that the engine has refused, perhaps after a megabyte of headers
_TEXT_SHIFT: Final = 7  # and for each 128 characters of an error

_unpack_prefix = Struct(">BI").unpack_from


class ServerConnection(BoundedConnection):
    __slots__ = (
        "_draining",
        "_first_chunk",
        "_head",
        "_headers",
        "_large_headers",
        "_large_headers_bytes",
        "_linger",
        "_ping_policy",
        "_pinger",
        "_refused",
        "_sent_last_goaway",
        "calls",
        "server",
    )

    def __init__(self, server: ServerState, first_chunk: bytes) -> None:
        options = server.options
        session = http2.server_session(options.max_concurrent_streams)
        super().__init__(server.loop, session, server.memory, server.deadlines, options.max_message_bytes, server.intake)
        self.server = server
        self.calls: dict[int, Http2UnaryCall | Http2Stream | HttpExchange] = {}
        self._first_chunk = first_chunk
        self._headers: Headers = ()  # the cached block that came last
        self._head: tuple[Method, float | None, list[int]] | None = None  # what the cache holds for it
        self._large_headers: dict[int, int] = {}  # bytes by stream
        self._large_headers_bytes = 0
        self._refused: set[int] = set()  # whose answers have not been sent
        self._draining = False
        self._linger: asyncio.TimerHandle | None = None
        self._sent_last_goaway = False
        self._ping_policy = PingPolicy(options.keepalive_min_seconds, options.keepalive_permit_without_calls)
        self._pinger = Pinger(options.keepalive_interval_seconds, options.keepalive_timeout_seconds)

    def mark_dirty(self) -> None:
        """As for every connection, but all of a server are flushed together, so that its owner can flush early."""
        if not self.dirty:
            self.dirty = True
            self.server.flush_later(self)

    def open_calls(self) -> int:
        return len(self.calls)

    def unary_calls(self) -> list[Http2UnaryCall]:
        return [call for call in self.calls.values() if isinstance(call, Http2UnaryCall) and not call.finished]

    # asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.traffic = self.server.traffic.connected(transport.get_extra_info("peername"))
        super().connection_made(transport)
        self.server.connections.add(self)
        if self.server.options.keepalive_interval_seconds > 0:
            self._pinger.start(self)
        if self._first_chunk:
            first, self._first_chunk = self._first_chunk, b""
            self.data_received(first)
        if self.server.draining:
            self.drain()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closing = True
        if self._linger is not None:
            self._linger.cancel()
        self._pinger.stop()
        self.traffic.connections -= 1
        self.server.lost(self)
        self._abandon_calls()
        self.intake.free(self)

    # Requests

    def handle(self, events: Iterable[Event]) -> None:
        calls = self.calls
        header_cache = self.server.header_cache
        traffic = self.traffic
        max_message_bytes = self.max_message_bytes
        for event in events:
            if isinstance(event, DataReceived):
                call = calls.get(event.stream_id)
                if type(call) is Http2UnaryCall and event.end_stream and call.reader is None and not call.finished:
                    data = event.data
                    if len(data) >= 5:
                        flag, length = _unpack_prefix(data)
                        if flag == 0 and length == len(data) - 5 and length <= max_message_bytes:
                            call.request_ended = True
                            call.request = message = data[5:]
                            if self.backlogged:
                                self.defer(call, message)
                                continue
                            try:
                                call.method.call(call, message)
                            except Exception as error:
                                call.fail_with(error)
                            continue
                if call is not None:
                    call.feed(event.data, event.end_stream)
            elif isinstance(event, RequestReceived):
                headers = event.headers
                if headers == self._headers:  # as most: comparing a block takes half the time of finding it
                    head = self._head
                else:
                    head = header_cache.get(headers)
                    if head is not None:
                        self._headers, self._head = headers, head
                if head is not None and not event.end_stream:
                    method, seconds, of_version = head
                    stream_id = event.stream_id
                    method.started += 1
                    of_version[0] += 1
                    traffic.calls += 1
                    calls[stream_id] = unary = Http2UnaryCall(self, stream_id, method, self._headers)
                    if seconds is not None:
                        unary.deadline = self.loop.time() + seconds
                        self.deadlines.add(unary, unary.deadline)
                else:
                    self._open(event.stream_id, event.headers, event.end_stream)
            elif isinstance(event, StreamClosed):
                call = calls.pop(event.stream_id, None)
                if call is None:
                    self._refused_closed(event.stream_id)
                else:
                    if not call.finished:
                        call.abandon()
                    if type(call) is Http2UnaryCall:
                        self.unread_replies -= 1
                if self._half_open:
                    self._half_open.discard(event.stream_id)
                if self._large_headers:
                    self._large_headers_bytes -= self._large_headers.pop(event.stream_id, 0)
            else:
                self._handle_rare(event)

    def _open(self, stream_id: int, headers: Headers, ended: bool) -> None:
        """Start a request whose header block is not cached."""
        if self.server.options.trace_headers is not None:
            self.server.options.trace_headers(headers)
        path = content_type = verb = encoding = version = b""
        timeout: bytes | None = None
        binary: list[http2.Header] = []
        size = 0
        for name, value in headers:
            size += len(name) + len(value) + 32  # RFC 9113 §6.5.2
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
            elif name == b"client-api-version":
                version = value
            elif name[-4:] == b"-bin":
                binary.append((name, value))
        self.intake.spend(size >> _HEADER_SHIFT)
        if size > _LARGE_HEADER_BYTES and not self._hold_headers(stream_id, size):
            text = "too much metadata in the open calls of one connection"
            self._refuse(stream_id, b"200", Code.RESOURCE_EXHAUSTED, text, ended)
            return
        if not content_type.startswith(_GRPC):
            exchange = HttpExchange(self, stream_id, headers, self.server.http_handler)
            self.calls[stream_id] = exchange
            if ended:
                exchange.feed(b"", True)
            return
        if content_type[len(_GRPC) : len(_GRPC) + 1] not in _GRPC_SUFFIXES:  # grpc-web, which frames its messages otherwise
            text = f'invalid gRPC request content-type "{content_type.decode("latin-1")}"'
            self._refuse(stream_id, b"415", Code.INVALID_ARGUMENT, text, ended)
            return
        method = self.server.methods.get(path)
        if verb != b"POST":
            text = f'Received a HEADERS frame with :method "{verb.decode("latin-1")}" which should be POST'
            self._refuse(stream_id, b"405", Code.INTERNAL, text, ended)
            return
        if method is None:
            text = unknown_method(path.decode("latin-1"), self.server.methods.values())
            self._refuse(stream_id, b"200", Code.UNIMPLEMENTED, text, ended)
            return
        status = b"400"
        try:
            seconds = None if timeout is None else parse_timeout(timeout)
            for name, value in binary:
                decode_binary(name, value)
            status = b"200"
            decompress = decompressor(encoding) if encoding else None
            version.decode()
        except StatusError as error:
            self._refuse(stream_id, status, error.code, error.message, ended)
            return
        except UnicodeDecodeError:
            refused = INVALID_CLIENT_API_VERSION
            self._refuse(stream_id, status, refused.code, refused.message, ended)
            return
        of_version = self.server.calls_of_version(headers, is_unary=method.is_unary)
        of_version[0] += 1
        call = self._admit(stream_id, headers, method, seconds, decompress)
        # A timeout with microseconds in it, the rest of some client's deadline, will not recur: its block is not cached.
        is_common = timeout is None or len(timeout) < 6 or timeout[-4:-1] == b"000"
        if is_common and method.is_unary and decompress is None and method.duration_counts is None:
            self.server.cache_headers(headers, method, seconds, of_version)
        if ended:
            call.feed(b"", True)

    def _hold_headers(self, stream_id: int, size: int) -> bool:
        """Account for a large header block until its stream is closed; False if it is over the limit."""
        if self._large_headers_bytes + size > _LARGE_HEADERS_BYTES_MAX:
            return False
        self._large_headers[stream_id] = size
        self._large_headers_bytes += size
        return True

    def _admit(
        self, stream_id: int, headers: Headers, method: Method, timeout_seconds: float | None, decompress: Decompress | None
    ) -> Http2UnaryCall | Http2Stream:
        call: Http2UnaryCall | Http2Stream
        if method.is_unary:
            call = Http2UnaryCall(self, stream_id, method, headers)
            call.decompress = decompress
        else:
            call = Http2Stream(self, stream_id, method, headers, decompress)
            self.intake.run(call.start)
        self.calls[stream_id] = call
        method.started += 1
        self.traffic.calls += 1
        if method.duration_counts is not None:
            call.start_timing()
        if timeout_seconds is not None:
            call.deadline = self.loop.time() + timeout_seconds
            self.deadlines.add(call, call.deadline)
        return call

    def _refuse(self, stream_id: int, status: bytes, code: Code, text: str, ended: bool) -> None:
        """Answer a request that starts no call with headers alone."""
        self.intake.spend(len(text) >> _TEXT_SHIFT)
        head = ((b":status", status), (b"content-type", b"application/grpc"), *hdr.status_trailers(code, text))
        try:
            self.session.send_response(stream_id, head, end_stream=True)
        except HTTP2Error:
            return  # the client has reset the stream already
        if ended:
            self._refused.add(stream_id)
        else:
            self.reset_when_sent(stream_id)
        self.mark_dirty()

    def _refused_closed(self, stream_id: int) -> None:
        """The end of a stream without a call. Those that were not refused here, the engine has refused."""
        if stream_id in self._refused:
            self._refused.discard(stream_id)
        elif stream_id not in self._half_open:
            self.intake.spend(_REFUSED_WORK)

    def flushed(self) -> None:
        super().flushed()
        if self._draining and not self.calls:
            self._send_last_goaway()
            self.close()

    # Pings and shutdown

    def _handle_rare(self, event: Event) -> None:
        if isinstance(event, TrailersReceived):
            # gRPC requests have none, and grpc-go closes the connection; here they end the request, as HTTP/2 has it.
            self.intake.spend(sum([len(name) + len(value) for name, value in event.headers]) >> _HEADER_SHIFT)
            call = self.calls.get(event.stream_id)
            if call is not None:
                call.feed(b"", True)
        elif isinstance(event, PingReceived):
            abuse = self._ping_policy.is_abuse(self.loop.time(), has_calls=bool(self.calls), sent_data=self.sent_data)
            self.sent_data = False
            if abuse:
                self.goaway(http2.ENHANCE_YOUR_CALM, b"too_many_pings")
        elif isinstance(event, PingAcknowledged):
            if event.opaque_data == _DRAIN_PING and self._draining:
                self._send_last_goaway()
        elif isinstance(event, SettingsReceived):
            self.spend_settings()
        elif isinstance(event, ConnectionClosed):
            self.close()

    def wants_ping(self) -> bool:
        return True

    def ping(self) -> None:
        try:
            self.session.ping()
        except HTTP2Error:
            return  # the connection is closing
        self.mark_dirty()

    def peer_is_dead(self) -> None:
        self.abort()

    # Ending

    def close(self) -> None:
        """End our side after what the transport holds; the rest ends with the client's side, or after `_LINGER_SECONDS`.

        A socket that is closed with unread bytes sends RST, and RST destroys what the client has not read yet: the GOAWAY with
        our reason, and the last responses. TLS has no half-closed connections: there the whole connection ends at once.
        """
        if self.closing:
            return
        if self._reading_paused or self.transport.is_closing() or not self.transport.can_write_eof():
            super().close()
            return
        self._abandon_calls()
        try:
            self.transport.write_eof()
        except OSError:  # asyncio's own transport: the client has reset the connection
            super().close()
            return
        self.closing = True
        self._linger = self.loop.call_later(_LINGER_SECONDS, self.transport.abort)

    def _abandon_calls(self) -> None:
        calls, self.calls = self.calls, {}
        self.drop_deferred()
        if len(calls) > _CLOSED_TOGETHER:
            self._close_streams(list(calls))
        self.server.abandon(calls.values())

    def _close_streams(self, stream_ids: list[int]) -> None:
        """Close the streams of an ended connection in the engine. With its end it would do so at once: 60 ms for 100,000."""
        session = self.session
        try:
            for _ in range(min(_CLOSED_TOGETHER, len(stream_ids))):
                session.reset_stream(stream_ids.pop(), http2.CANCEL)
            session.data_to_send(self.flush_bytes)
            session.events()
        except HTTP2Error:
            return  # the session has ended
        if stream_ids:
            self.intake.run(partial(self._close_streams, stream_ids), _CLOSED_TOGETHER)

    def abort(self) -> None:
        """End the connection at once, also one that `close` lets linger."""
        self.closing = True
        self.transport.abort()

    def drain(self) -> None:
        """Send GOAWAY, finish the open calls, close.

        Two GOAWAYs, a round trip apart: the first names no stream as the last one, so that requests in transit are still
        served. The second names the last stream served, so that the client knows which requests it may retry.
        """
        if self._draining or self.closing:
            return
        self._draining = True
        if not self.calls:
            self._send_last_goaway()
            return
        try:
            self.session.send_shutdown_notice()
            self.flush()  # pings are sent first; this one must follow the notice, so that its ACK confirms the notice
            self.session.ping(_DRAIN_PING)
        except HTTP2Error:
            return  # the session has ended; its ConnectionClosed event is to come
        self.mark_dirty()

    def _send_last_goaway(self) -> None:
        if self._sent_last_goaway:
            return
        self._sent_last_goaway = True
        try:
            self.session.send_goaway(http2.NO_ERROR)
        except HTTP2Error:
            return
        self.flush()
