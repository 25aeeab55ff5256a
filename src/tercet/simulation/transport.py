"""One end of a simulated TCP connection."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any, Protocol, cast

from tercet.simulation.hosts import Boot

_HIGH_WATER_BYTES = 64 << 10
_END = b""
_numbers = itertools.count()


class Links(Protocol):
    """What a connection needs of the network."""

    loop: asyncio.AbstractEventLoop
    is_closed: bool

    def arrival(self, source: Boot | None, target: Boot | None, not_before: float) -> float: ...
    def is_blocked(self, source: Boot | None, target: Boot | None) -> bool: ...
    def stall(self, transport: SimulatedTransport) -> None: ...
    def note(self, source: Boot | None, target: Boot | None, data: bytes) -> None: ...
    def drop(self, transport: SimulatedTransport) -> None: ...


class SimulatedTransport(asyncio.Transport):
    """boot: where its owner runs; `other` is the other end.

    Bytes that were written and not yet taken by the other side's protocol count against the limits of the write buffer.
    """

    other: SimulatedTransport

    def __init__(
        self,
        network: Links,
        boot: Boot | None,
        own: tuple[str, int],
        peer: tuple[str, int],
        context: Context | None = None,
    ) -> None:
        """context: of the host on which this end runs, also before its protocol is connected; None for the caller's."""
        super().__init__({"sockname": own, "peername": peer, "socket": None})
        self.boot = boot
        self.number = next(_numbers)
        self._network = network
        self._protocol: asyncio.BaseProtocol | None = None
        self._context: Context = context or copy_context()
        self._is_reading = True
        self._is_closing = False
        self._is_lost = False
        self._last_arrival = 0.0
        self._in_flight = 0
        self._high, self._low = _HIGH_WATER_BYTES, _HIGH_WATER_BYTES // 4
        self._writing_paused = False
        self._arrived: deque[bytes] = deque()
        self._is_reset = False

    def begin(self, protocol: asyncio.BaseProtocol) -> None:
        """Connect a protocol; what has arrived before is delivered afterwards."""
        self._context = copy_context()
        self._protocol = protocol
        protocol.connection_made(self)
        self._deliver()

    def schedule(self, act: Callable[[], None]) -> None:
        """Call `act` on this end's host after the latency of the link, in order with what the other end has sent."""
        source = self.other
        at = self._network.arrival(source.boot, self.boot, source._last_arrival)
        source._last_arrival = at
        self._network.loop.call_at(at, act, context=self._context)

    # --- writing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._is_closing or self._is_lost or not data or self._network.is_closed:
            return
        self._send(bytes(data))
        if self._in_flight > self._high and not self._writing_paused and self._protocol is not None:
            self._writing_paused = True
            self._protocol.pause_writing()

    def _send(self, data: bytes) -> None:
        self._in_flight += len(data)
        other = self.other
        other.schedule(lambda: other._arrive(data))

    def taken(self, size: int) -> None:
        """The other side's protocol has read `size` bytes."""
        self._in_flight -= size
        if self._writing_paused and self._in_flight <= self._low and self._protocol is not None and not self._is_lost:
            self._writing_paused = False
            self._protocol.resume_writing()

    def can_write_eof(self) -> bool:
        return False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = _HIGH_WATER_BYTES if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_write_buffer_size(self) -> int:
        return self._in_flight

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    # --- reading

    def _arrive(self, data: bytes) -> None:
        self._arrived.append(data)
        self._deliver()

    def resume_delivery(self) -> None:
        self._network.loop.call_soon(self._deliver, context=self._context)

    def _deliver(self) -> None:
        if self._arrived and self._network.is_blocked(self.other.boot, self.boot):
            self._network.stall(self)
            return
        while self._arrived and self._is_reading and not self._is_lost and self._protocol is not None:
            data = self._arrived.popleft()
            if data is _END:
                self._ended()
                return
            self._network.note(self.other.boot, self.boot, data)
            self.other.taken(len(data))
            if isinstance(self._protocol, asyncio.BufferedProtocol):
                _fill(self._protocol, data)
            else:
                cast(asyncio.Protocol, self._protocol).data_received(data)

    def _ended(self) -> None:
        """The other side has closed. Raises nothing: a protocol that keeps its half open is closed all the same."""
        if not self._is_closing:
            self._is_closing = True
            cast(asyncio.Protocol, self._protocol).eof_received()
            self._lose(None)

    def is_reading(self) -> bool:
        return self._is_reading

    def pause_reading(self) -> None:
        self._is_reading = False

    def resume_reading(self) -> None:
        if not self._is_reading:
            self._is_reading = True
            self.resume_delivery()

    # --- the end

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            other = self.other
            other.schedule(lambda: other._arrive(_END))
            self._network.loop.call_soon(self._lose, None, context=self._context)

    def abort(self) -> None:
        self._is_closing = True
        self.break_off()
        self._network.loop.call_soon(self._lose, None, context=self._context)

    def break_off(self) -> None:
        """Reset the connection, as the other end will see it."""
        if not self._is_reset:
            self._is_reset = True
            other = self.other
            other.schedule(other._reset_by_peer)

    def _reset_by_peer(self) -> None:
        if self._network.is_blocked(self.other.boot, self.boot):
            return  # the reset is lost; this end learns of it when it sends again, or by its own timeouts
        self._is_closing = True
        self._lose(ConnectionResetError(104, "connection reset by peer"))

    def _lose(self, error: Exception | None) -> None:
        if self._is_lost:
            return
        self._is_lost = True
        self._network.drop(self)
        if self._protocol is not None:
            self._protocol.connection_lost(error)

    def is_closing(self) -> bool:
        return self._is_closing

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol


def _fill(protocol: asyncio.BufferedProtocol, data: bytes) -> None:
    at = 0
    while at < len(data):
        buffer = memoryview(cast(Any, protocol.get_buffer(len(data) - at)))
        count = min(len(buffer), len(data) - at)
        buffer[:count] = data[at : at + count]
        at += count
        protocol.buffer_updated(count)
