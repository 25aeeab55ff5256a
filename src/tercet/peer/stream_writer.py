"""Our side of a stream that a peer dialled: the endless response body into which we write our messages for it.

The transport's own write buffer is the queue. It is bounded twice, by messages and by bytes, while the peer is behind; what
does not fit is dropped before it is encoded, and reported. A peer that takes nothing for 5 s is cut: raft will probe it
when it is back.

A heartbeat of the link, every third of the peer's read deadline, keeps a quiet stream from being taken for a dead one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from tercet.peer.chunked import encode_chunk
from tercet.peer.context import Context
from tercet.peer.status import PeerStatus
from tercet.raft.types import Message

_LAST_CHUNK: Final = b"0\r\n\r\n"
_GOODBYE_SECONDS: Final = 1.0  # what is written may still leave for so long
_BUFFER_HIGH_BYTES: Final = 1 << 20  # one full MsgApp; beyond it the stream counts as behind


class Encoder(Protocol):
    @property
    def heartbeat(self) -> bytes: ...

    def encode(self, message: Message) -> bytes: ...


class StreamWriter(asyncio.Protocol):
    """See the module. `on_lost` is called once, when the stream is over, whoever ended it."""

    __slots__ = (
        "_beat",
        "_behind",
        "_context",
        "_encoder",
        "_lost",
        "_name",
        "_on_lost",
        "_pending",
        "_pending_bytes",
        "_queued",
        "_reason",
        "_stalled",
        "_status",
        "_taken",
        "_transport",
        "_written",
        "over",
    )

    def __init__(
        self,
        name: str,
        encoder: Encoder,
        transport: asyncio.Transport,
        context: Context,
        status: PeerStatus,
        on_lost: Callable[[StreamWriter], None],
    ) -> None:
        self._name = name
        self._encoder = encoder
        self._transport = transport
        self._context = context
        self._status = status
        self._on_lost = on_lost
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._queued = 0  # messages since the peer was last up to date
        self._behind = False
        self._written = 0
        self._taken = 0
        self._stalled = 0.0
        self._lost = False
        self.over: asyncio.Future[None] = context.loop.create_future()
        self._reason = "closed by the peer"
        transport.set_write_buffer_limits(high=_BUFFER_HIGH_BYTES)
        self._beat = context.loop.call_later(self._beat_seconds, self._heartbeat)
        status.link_up(name)

    def add(self, message: Message) -> bool:
        """Take a message for the next `flush`; False if the peer is so far behind that it has to be dropped."""
        limits = self._context.limits
        waiting = self._pending_bytes + (self._transport.get_write_buffer_size() if self._behind else 0)
        if self._queued >= limits.stream_messages_max or waiting > limits.stream_bytes_max:
            return False
        data = self._encoder.encode(message)
        self._pending.append(data)
        self._pending_bytes += len(data)
        self._queued += 1
        return True

    def flush(self) -> None:
        """One chunk, one write, for all that was added."""
        pending = self._pending
        if not pending:
            return
        body = pending[0] if len(pending) == 1 else b"".join(pending)
        pending.clear()
        self._pending_bytes = 0
        if self._lost or self._transport.is_closing():
            return
        self._write(body)
        if not self._behind:
            self._queued = 0

    def close(self, reason: str, *, politely: bool = False) -> None:
        """End the stream: at once, or after what is written has gone out (for a member that was just removed)."""
        if self._lost:
            return
        self._reason = reason
        if politely and not self._transport.is_closing():
            self._transport.write(_LAST_CHUNK)
            self._transport.close()
            self._beat.cancel()
            self._beat = self._context.loop.call_later(_GOODBYE_SECONDS, self._transport.abort)
        else:
            self._transport.abort()

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        """The dialler has nothing to say on its own stream; whatever it sends is not kept."""

    def pause_writing(self) -> None:
        self._behind = True

    def resume_writing(self) -> None:
        self._behind = False
        self._queued = 0

    def connection_lost(self, error: Exception | None) -> None:
        self._lost = True
        self.over.set_result(None)
        self._beat.cancel()
        self._pending.clear()
        self._status.link_down(self._name, str(error) if error is not None else self._reason)
        # Raft counts on what it has sent. It cannot be known how much of that arrived, so it has to probe.
        self._context.unreachable(self._status.id)
        self._on_lost(self)

    @property
    def _beat_seconds(self) -> float:
        return self._context.limits.read_timeout / 3

    def _write(self, body: bytes) -> None:
        chunk = encode_chunk(body)
        self._written += len(chunk)
        self._status.sent_bytes += len(chunk)
        self._transport.write(chunk)

    def _heartbeat(self) -> None:
        if self._transport.is_closing():
            return
        buffered = self._transport.get_write_buffer_size()
        taken = self._written - buffered
        if not buffered or taken > self._taken:
            self._taken = taken
            self._stalled = 0.0
        else:
            self._stalled += self._beat_seconds
            if self._stalled >= self._context.limits.write_timeout:
                self.close(f"it took nothing for {self._context.limits.write_timeout:g} s")
                return
        if not self._behind:  # a peer with so much to read needs no sign of life
            self._write(self._encoder.heartbeat)
        self._beat = self._context.loop.call_later(self._beat_seconds, self._heartbeat)
