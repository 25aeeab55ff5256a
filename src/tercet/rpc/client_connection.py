"""A channel's connection: hands the server's events to the calls they belong to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import NamedTuple

from tercet.errors import Code
from tercet.rpc import http2
from tercet.rpc.client_call import ClientCall
from tercet.rpc.client_traffic import TrafficCount
from tercet.rpc.connection import Connection
from tercet.rpc.deadlines import Deadlines
from tercet.rpc.http2 import (
    ConnectionClosed,
    DataReceived,
    Event,
    GoAwayReceived,
    HTTP2Error,
    ResponseReceived,
    SettingsReceived,
    StreamClosed,
    TrailersReceived,
)
from tercet.rpc.keepalive import Pinger

_OK = (b"grpc-status", b"0")
_TLS_ALERTS = {
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the server requires a client certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "the server does not trust the CA of this client's certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the server refuses this client's certificate, or requires one",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the server says that this client's certificate has expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "the server says that this client's certificate is revoked",
}
"""What a server says of the client's certificate. In TLS 1.3 it says so after the handshake has ended well for the client."""


class ChannelOptions(NamedTuple):
    """`keepalive_interval_seconds` 0: no pings. Servers close connections that ping more often than they allow (etcd: 5 s).

    keepalive_when_idle: ping without open calls too, which etcd allows once in two hours.
    """

    connect_timeout_seconds: float = 5.0
    max_message_bytes: int = 0x7FFFFFFF
    keepalive_interval_seconds: float = 0.0
    keepalive_timeout_seconds: float = 20.0
    keepalive_when_idle: bool = True
    user_agent: str = "tercet"


class ClientConnection(Connection):
    """The protocol object below a Channel."""

    __slots__ = ("_on_lost", "_pinger", "_pings_when_idle", "calls", "going_away", "lost", "ready", "reason")

    def __init__(self, loop: asyncio.AbstractEventLoop, options: ChannelOptions, on_lost: Callable[[str], object]) -> None:
        super().__init__(loop, http2.client_session(), TrafficCount(), Deadlines(loop), options.max_message_bytes)
        self.calls: dict[int, ClientCall] = {}
        self.ready: asyncio.Future[None] = loop.create_future()  # resolved by the server's SETTINGS: it speaks HTTP/2
        self.lost: asyncio.Future[None] = loop.create_future()
        self.reason = ""
        self.going_away = False
        self._on_lost = on_lost
        self._pings_when_idle = options.keepalive_when_idle
        self._pinger = Pinger(options.keepalive_interval_seconds, options.keepalive_timeout_seconds)
        if options.keepalive_interval_seconds > 0:
            self._pinger.start(self)

    def handle(self, events: Iterable[Event]) -> None:
        calls = self.calls
        for event in events:
            if isinstance(event, DataReceived):
                call = calls.get(event.stream_id)
                if call is not None:
                    call.feed(event.data)
            elif isinstance(event, ResponseReceived):
                call = calls.get(event.stream_id)
                if call is not None:
                    call.headers = event.headers
                    if event.end_stream:
                        call.finish_by(event.headers)
            elif isinstance(event, TrailersReceived):
                call = calls.get(event.stream_id)
                if call is not None:
                    if event.headers and event.headers[0] == _OK:
                        call.trailers = event.headers
                        call.finish(0, "")
                    else:
                        call.finish_by(event.headers)
            elif isinstance(event, StreamClosed):
                call = calls.get(event.stream_id)
                if call is not None:
                    call.stream_closed(event.error_code)
            else:
                self._handle_rare(event)

    def _handle_rare(self, event: Event) -> None:
        if isinstance(event, SettingsReceived):
            if not self.ready.done():
                self.ready.set_result(None)
        elif isinstance(event, GoAwayReceived):
            self.going_away = True
            text = event.debug_data.decode("utf-8", "replace")
            self.reason = f"server sent GOAWAY, code {event.error_code}" + (f", debug data: {text}" if text else "")
            # The session ends the calls that the server did not process; the others may still be answered.
            self.mark_dirty()
        elif isinstance(event, ConnectionClosed):
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closing = True
        self._pinger.stop()
        self.reason = self.reason or f"error reading from server: {lost_reason(exc)}"
        for call in tuple(self.calls.values()):
            call.finish(Code.UNAVAILABLE, self.reason)
        self.deadlines.close()
        if not self.ready.done():
            self.ready.set_exception(ConnectionError(self.reason))
        if not self.lost.done():
            self.lost.set_result(None)
            self._on_lost(self.reason)

    def fail_later(self, call: ClientCall, error: str) -> None:
        """End a call that could not be started, after the function that started it has returned."""
        call.unprocessed = True
        self.loop.call_soon(call.finish, Code.UNAVAILABLE, self.reason or f"the connection is closing: {error}")

    def wants_ping(self) -> bool:
        return self._pings_when_idle or bool(self.calls)

    def ping(self) -> None:
        try:
            self.session.ping()
        except HTTP2Error:
            return  # the connection is closing
        self.mark_dirty()

    def peer_is_dead(self) -> None:
        self.reason = "keepalive ping failed to receive ACK within timeout"
        self.abort()


def lost_reason(error: Exception | None) -> str:
    """Why a connection ended; a TLS alert in plain words."""
    if error is None:
        return "EOF"
    alert = str(getattr(error, "reason", ""))
    return f"tls: {_TLS_ALERTS[alert]}" if alert in _TLS_ALERTS else str(error) or "EOF"
