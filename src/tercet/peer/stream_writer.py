"""Writes a stream that a peer dialled: our messages for it, in an endless response body.

The queue is the transport's write buffer. While the peer is behind, it is bounded by messages and by bytes; what does not fit
is dropped before it is encoded, and reported. A peer that reads nothing for 5 s is disconnected: raft probes it when it is
back.

A link heartbeat, every third of the peer's read deadline, keeps an idle stream open.
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
_DRAIN_SECONDS: Final = 1.0
_BUFFER_HIGH_BYTES: Final = 1 << 20  # one full MsgApp; beyond it the peer is behind


class Encoder(Protocol):
    @property
    def heartbeat(self) -> bytes: ...

    def encode(self, message: Message) -> bytes: ...


class StreamWriter(asyncio.Protocol):
    """`on_lost` is called once, when the stream has ended for any reason; `closed` is then resolved."""

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
        "closed",
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
        self.closed: asyncio.Future[None] = context.loop.create_future()
        self._reason = "closed by the peer"
        transport.set_write_buffer_limits(high=_BUFFER_HIGH_BYTES)
        self._beat = context.loop.call_later(self._beat_seconds, self._heartbeat)
        status.link_up(name)

    def add(self, message: Message) -> bool:
        """Encode a message for the next `flush`; False, and nothing encoded, if the peer is too far behind."""
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
        """Write all that was added, as one chunk."""
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

    def close(self, reason: str, *, drain: bool = False) -> None:
        """End the stream at once, or with `drain` after what is written was sent, a second at most."""
        if self._lost:
            return
        self._reason = reason
        if drain and not self._transport.is_closing():
            self._transport.write(_LAST_CHUNK)
            self._transport.close()
            self._beat.cancel()
            self._beat = self._context.loop.call_later(_DRAIN_SECONDS, self._transport.abort)
        else:
            self._transport.abort()

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        """Ignored: the dialler sends nothing on its stream."""

    def pause_writing(self) -> None:
        self._behind = True

    def resume_writing(self) -> None:
        self._behind = False
        self._queued = 0

    def connection_lost(self, error: Exception | None) -> None:
        self._lost = True
        self.closed.set_result(None)
        self._beat.cancel()
        self._pending.clear()
        self._status.link_down(self._name, str(error) if error is not None else self._reason)
        # It is not known how much of what raft has sent arrived, so raft has to probe.
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
                self.close(f"the peer read nothing for {self._context.limits.write_timeout:g} s")
                return
        if not self._behind:  # a peer that is behind has enough to read
            self._write(self._encoder.heartbeat)
        self._beat = self._context.loop.call_later(self._beat_seconds, self._heartbeat)
