"""Reads a stream that we dialled: a member's messages for us, from the endless body of its response.

One coroutine per stream dials, and dials again at the member's next URL 100 ms after the stream has ended for any reason.
While it is up, messages go from `data_received` directly to the owner, without a coroutine.

The status of the response: 200, read; 410 or 403, this member was removed; anything else, dial again. A stream ends after 5 s
without a byte, since even an idle one carries link heartbeats.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from tercet.http1.client import Answer
from tercet.peer.chunked import ChunkDecoder, ChunkError
from tercet.peer.context import Context
from tercet.peer.frames import FrameError
from tercet.peer.headers import offers_streams, parse_version
from tercet.peer.message_stream import MessageDecoder
from tercet.peer.msgapp_stream import MsgAppDecoder
from tercet.peer.status import PeerStatus
from tercet.peer.url_picker import UrlPicker
from tercet.raft.types import Message

_PRECONDITION_TEXTS: Final = {
    "incompatible version": "our version is incompatible with the peer's",
    "cluster ID mismatch": "the peer belongs to another cluster",
    "to field mismatch": "another member uses this address",
}
# When a process was paused, the loop runs overdue timers before it reads what has arrived meanwhile.
_GRACE_SECONDS: Final = 0.05


class Decoder(Protocol):
    def feed(self, data: bytes) -> list[Message]: ...


class StreamReader:
    """Keeps one stream from a member open. kind: `message` or `msgapp`."""

    def __init__(self, kind: str, context: Context, status: PeerStatus, picker: UrlPicker) -> None:
        self._kind = kind
        self._context = context
        self._status = status
        self._picker = picker
        self._path = f"/raft/stream/{kind}/{context.identity.id:x}"

    async def run(self) -> None:
        """Dial and read until cancelled."""
        while True:
            origin = self._picker.pick()
            try:
                answer, transport, first = await self._context.client.open_stream(
                    origin, self._path, self._context.identity.request_headers(self._status.id)
                )
                reason = self._rejection(answer)
                if reason is None:
                    await self._read(transport, first)
                else:
                    transport.abort()
                    self._status.log_failure(f"{self._kind} in", f"{origin.authority}: {reason}")
            except OSError as error:
                self._status.log_failure(f"{self._kind} in", f"{origin.authority}: {error}")
            self._picker.unreachable(origin)
            await asyncio.sleep(self._context.limits.redial_pause)

    def _rejection(self, answer: Answer) -> str | None:
        """Why the response is not a stream; None for one that is."""
        identity = self._context.identity
        if answer.status in (403, 410):
            # Only a member of our own cluster can know that we were removed, and each names it; a proxy on the way does not.
            if answer.headers.get("x-etcd-cluster-id") == f"{identity.cluster_id:x}":
                self._context.removed_by(self._status.id)
            return answer.text
        if answer.status == 412:
            return _PRECONDITION_TEXTS.get(answer.text, f"unhandled answer {answer.text!r}")
        if answer.status != 200:
            return f"status {answer.status} {answer.text}"
        if not offers_streams(answer.headers, identity.version):
            major, minor = parse_version(answer.headers.get("x-server-version"))
            return f"its version {major}.{minor} does not offer this stream"
        return None

    async def _read(self, transport: asyncio.Transport, first: bytes) -> None:
        if transport.is_closing():
            raise ConnectionResetError("the connection closed after the response headers")
        protocol = _StreamProtocol(self._new_decoder(), transport, self._context, self._status)
        transport.set_protocol(protocol)
        self._status.link_up(f"{self._kind} in")
        try:
            if first:
                protocol.data_received(first)
            await protocol.closed
        finally:
            transport.abort()
            self._status.link_down(f"{self._kind} in", protocol.reason)

    def _new_decoder(self) -> Decoder:
        limit = self._context.limits.message_bytes_max
        if self._kind == "message":
            return MessageDecoder(limit)
        return MsgAppDecoder(remote=self._status.id, own=self._context.identity.id, bytes_max=limit)


class _StreamProtocol(asyncio.Protocol):
    """The connection, once it is a stream. `closed` is resolved when it has ended, for `reason`."""

    def __init__(self, decoder: Decoder, transport: asyncio.Transport, context: Context, status: PeerStatus) -> None:
        self._chunks = ChunkDecoder()
        self._decoder = decoder
        self._transport = transport
        self._context = context
        self._status = status
        self._heard = context.loop.time()
        self._is_overdue = False
        self._timer = context.loop.call_later(context.limits.read_timeout, self._check_deadline)
        self.closed: asyncio.Future[None] = context.loop.create_future()
        self.reason = "closed by the peer"

    def data_received(self, data: bytes) -> None:
        self._heard = self._context.loop.time()
        self._is_overdue = False
        self._status.received_bytes += len(data)
        try:
            messages = self._decoder.feed(self._chunks.feed(data))
        except (ChunkError, FrameError) as error:
            self._status.received_failures += 1
            self._end(str(error))
            return
        for message in messages:
            reason = self._context.accept(message)
            if reason is not None:
                self._status.log_failure("messages in", reason)
        if self._chunks.ended:
            self._end("ended by the peer")

    def connection_lost(self, error: Exception | None) -> None:
        if error is not None:
            self.reason = str(error)
        self._timer.cancel()
        if not self.closed.done():
            self.closed.set_result(None)

    def _end(self, reason: str) -> None:
        self.reason = reason
        self._transport.abort()
        self.connection_lost(None)

    def _check_deadline(self) -> None:
        timeout = self._context.limits.read_timeout
        quiet = self._context.loop.time() - self._heard
        if quiet >= timeout and not self._is_overdue:
            self._is_overdue = True
            self._timer = self._context.loop.call_later(_GRACE_SECONDS, self._check_deadline)
        elif quiet >= timeout:
            self._end(f"nothing received for {timeout:g} s")
        else:
            self._timer = self._context.loop.call_later(timeout - quiet, self._check_deadline)
