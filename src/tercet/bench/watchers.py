"""Clients that watch and only count: the generator's share of the host must stay small beside 100,000 events a second.

HTTP/2 is real, with its flow control, but messages are not parsed: each value that a benchmark puts holds MARKER once, and the
events in what a connection received are the markers in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, cast

from tercet.client import parse_endpoint
from tercet.errors import TercetError
from tercet.proto import rpc_pb2
from tercet.rpc import http2
from tercet.rpc.wire import frame

MARKER: Final = b"\0<event>\0"
_PATH: Final = b"/etcdserverpb.Watch/Watch"


class WatchersFailed(TercetError):
    """A watching connection was lost."""


class Watchers(asyncio.Protocol):
    """One connection with some streams of watches. `events`: received so far."""

    def __init__(self, authority: str, streams: Sequence[Sequence[rpc_pb2.WatchCreateRequest]]) -> None:
        self.events = 0
        self.lost: Exception | None = None
        self._authority = authority.encode()
        self._streams = streams
        self._session = http2.client_session()
        self._tails: dict[int, bytes] = {}  # of each stream: a marker may lie across two DATA frames

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        head = (
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", _PATH),
            (b":authority", self._authority),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
        )
        for creates in self._streams:
            stream_id = self._session.send_request(head)
            self._tails[stream_id] = b""
            for create in creates:
                request = rpc_pb2.WatchRequest(create_request=create)
                self._session.send_data(stream_id, frame(request.SerializeToString()))
        self._flush()

    def data_received(self, data: bytes) -> None:
        self._session.receive_data(data)
        for event in self._session.events():
            if isinstance(event, http2.DataReceived):
                body = self._tails[event.stream_id] + event.data
                self.events += body.count(MARKER)
                self._tails[event.stream_id] = body[-(len(MARKER) - 1) :]
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = exc or WatchersFailed("the server has closed a connection with watches")

    def stop_reading(self) -> None:
        """From now on this client reads nothing."""
        self._transport.pause_reading()

    def close(self) -> None:
        self._transport.abort()

    def _flush(self) -> None:
        while out := self._session.data_to_send(1 << 20):
            self._transport.write(out)


async def open_watchers(url: str, streams: Sequence[Sequence[rpc_pb2.WatchCreateRequest]]) -> Watchers:
    """A connection without TLS with these streams. Raises OSError."""
    endpoint = parse_endpoint(url)
    authority = f"{endpoint.host}:{endpoint.port}"
    loop = asyncio.get_running_loop()
    _, watchers = await loop.create_connection(lambda: Watchers(authority, streams), endpoint.host, endpoint.port)
    return watchers
