"""The HTTP/2 engine, ngh2. Only this module imports it, so that it can be replaced here.

The engine is sans-I/O: `receive_data(bytes)`, then `events()`; `send_*`, then `data_to_send()`. It does framing, HPACK,
windows and the states of streams. It does not limit what waits to be sent, close the transport, or measure time:
connection.py does.

Bytes given to `send_data` stay in memory until the peer grants window, so callers check for room first. Limits against abuse
are set here; exceeding one closes only the connection that does.
"""

from __future__ import annotations

from typing import Final

from ngh2 import (
    Configuration,
    ConnectionClosed,
    DataReceived,
    Event,
    GoAwayReceived,
    Header,
    NGH2Error,
    PingAcknowledged,
    PingReceived,
    RequestReceived,
    ResponseReceived,
    Role,
    SettingsReceived,
    StreamClosed,
    TrailersReceived,
)
from ngh2 import Connection as Session

__all__ = [
    "CONNECTION_WINDOW_BYTES",
    "STREAM_WINDOW_BYTES",
    "ConnectionClosed",
    "DataReceived",
    "Event",
    "GoAwayReceived",
    "HTTP2Error",
    "Header",
    "Headers",
    "PingAcknowledged",
    "PingReceived",
    "RequestReceived",
    "ResponseReceived",
    "Session",
    "SettingsReceived",
    "StreamClosed",
    "TrailersReceived",
    "client_session",
    "server_session",
]

HTTP2Error = NGH2Error
Headers = tuple[Header, ...]

# Error codes of RFC 9113 §7 that we send or tell apart.
NO_ERROR: Final = 0x0
INTERNAL_ERROR: Final = 0x2
REFUSED_STREAM: Final = 0x7
CANCEL: Final = 0x8
ENHANCE_YOUR_CALM: Final = 0xB

# A stream's window, plus one message, is what a stream that is not read can make us hold; 1 MiB allows 20 MB/s at 50 ms.
STREAM_WINDOW_BYTES: Final = 1 << 20
CONNECTION_WINDOW_BYTES: Final = 8 << 20

# Advertised: grpc-go fails a call with more metadata by itself. A client that does not, such as grpcio, is served up to the
# limits of the session below, beyond which it loses the connection. A single field of more than 64 KiB, as encoded, loses it
# too: that is a limit of nghttp2's decoder.
_HEADER_LIST_BYTES_MAX: Final = 64 << 10

_SETTING_MAX_CONCURRENT_STREAMS: Final = 0x3
_SETTING_ENABLE_PUSH: Final = 0x2
_SETTING_INITIAL_WINDOW: Final = 0x4
_SETTING_MAX_HEADER_LIST: Final = 0x6

_SERVER_LIMITS: Final = Configuration(
    max_inbound_header_list_size=1 << 20,
    max_inbound_header_count=16 << 10,
    max_continuations=64,  # a block of 1 MiB
    # Well-behaved clients send RST_STREAM too, whenever calls time out. A burst of 10,000 costs about 0.1 s of one core,
    # 1,000/s one percent of it; the engine's default of 33/s would disconnect a client whose calls time out.
    stream_reset_rate_limit=(10_000, 1_000),
)
_CLIENT_LIMITS: Final = Configuration(max_inbound_header_list_size=1 << 20)


def server_session(max_concurrent_streams: int) -> Session:
    """A server's session; its SETTINGS wait in `data_to_send()`. 2**32-1 streams: advertise no limit."""
    session = Session(Role.SERVER, _SERVER_LIMITS)
    settings = {_SETTING_INITIAL_WINDOW: STREAM_WINDOW_BYTES, _SETTING_MAX_HEADER_LIST: _HEADER_LIST_BYTES_MAX}
    if max_concurrent_streams < 0xFFFFFFFF:
        settings[_SETTING_MAX_CONCURRENT_STREAMS] = max_concurrent_streams
    session.initiate_connection(settings)
    session.set_local_window_size(CONNECTION_WINDOW_BYTES)
    return session


def client_session() -> Session:
    """A client's session; its preface and SETTINGS wait in `data_to_send()`."""
    session = Session(Role.CLIENT, _CLIENT_LIMITS)
    session.initiate_connection({_SETTING_ENABLE_PUSH: 0, _SETTING_INITIAL_WINDOW: STREAM_WINDOW_BYTES})
    session.set_local_window_size(CONNECTION_WINDOW_BYTES)
    return session
