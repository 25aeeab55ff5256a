"""TLS between an asyncio transport and a protocol that does not know of it.

    TCP transport <-> TlsProtocol, TlsTransport <-> protocol of the connection

The event loops have this themselves. This one is for what they lack: an alert tells the other side why its handshake failed
(uvloop drops it), the owner of the listener learns the reason, each connection gets the certificate files as they are now, a
handshake has a limit, and TLS can begin after the first bytes have been read.

What arrives in one turn of the loop reaches the protocol as one buffer, and what it writes at once leaves as one write: records
cost no turns. Only what takes long to decrypt is delivered in several turns (turns.py); meanwhile nothing is read.

Invariant: the protocol's `connection_made` is called only after a complete handshake, and `connection_lost` only after that.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Any, Final, cast

from tercet.intake import intake_of_running_loop
from tercet.tls.engine import TlsEngine
from tercet.tls.reasons import NOT_TLS, rejection_reason
from tercet.tls.turns import TlsTurns

HANDSHAKE_SECONDS: Final = 10.0
_HANDSHAKE_RECORD: Final = 0x16
_BUFFER_BYTES: Final = 256 << 10
_READ_SECONDS: Final = 0.002  # of decryption at a time
# One pair of buffers for all connections of a thread's loop: what is in them is consumed within the callback.
_thread = threading.local()

OnRejected = Callable[[asyncio.BaseTransport, str], None]
"""Called with the transport and the reason when a handshake fails. Not called if the other side just disconnects."""


class TlsProtocol(asyncio.BufferedProtocol):
    """The protocol of a TCP transport on which TLS begins.

    make_protocol: called after the handshake. admits: may the connection stay open? Asked at once. on_lost: called when the
    connection is lost before the handshake is complete.
    """

    __slots__ = (
        "_admits",
        "_buffer",
        "_engine",
        "_has_begun",
        "_is_server",
        "_is_up",
        "_is_waiting",
        "_make_protocol",
        "_on_lost",
        "_on_rejected",
        "_timer",
        "lower",
        "transport",
    )

    lower: asyncio.Transport

    def __init__(
        self,
        context: ssl.SSLContext,
        make_protocol: Callable[[], asyncio.BaseProtocol],
        *,
        on_rejected: OnRejected,
        server_hostname: str | None = None,
        is_server: bool = True,
        admits: Callable[[asyncio.BaseTransport], bool] = lambda transport: True,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine = TlsEngine(context, server_side=is_server, server_hostname=server_hostname)
        self._make_protocol = make_protocol
        self._on_rejected = on_rejected
        self._admits = admits
        self._on_lost = on_lost
        self._is_server = is_server
        self._has_begun = not is_server
        self._is_up = False
        self._is_waiting = False  # for its turn to go on with the handshake
        self._buffer = _buffers()[0]
        self._timer: asyncio.TimerHandle | None = None
        self.transport: TlsTransport | None = None

    # --- asyncio.BufferedProtocol, called by the TCP transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.lower = cast(asyncio.Transport, transport)
        if not self._admits(transport):
            self.lower.abort()
            return
        self._timer = asyncio.get_running_loop().call_later(HANDSHAKE_SECONDS, self._expire)
        if not self._is_server:
            self._handshake()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.receive(self._buffer[:nbytes])

    def receive(self, ciphertext: bytes | memoryview) -> None:
        """Also for what was read before TLS began."""
        if self._is_up:
            self._engine.receive(ciphertext)
            assert self.transport is not None
            self.transport.deliver()
        elif not self._has_begun and ciphertext[0] != _HANDSHAKE_RECORD:
            self._reject(NOT_TLS)
        else:
            self._has_begun = True
            self._engine.receive(ciphertext)
            if not self._is_waiting and not _turns().run(self._take_turn):
                self._is_waiting = True
                self.lower.pause_reading()

    def eof_received(self) -> bool:
        if self.transport is not None:
            self.transport.end()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        if self.transport is not None:
            self.transport.lost(exc)
        else:
            self._on_lost()
        intake_of_running_loop().free(self)

    def pause_writing(self) -> None:
        if self.transport is not None:
            self.transport.get_protocol().pause_writing()

    def resume_writing(self) -> None:
        if self.transport is not None:
            self.transport.get_protocol().resume_writing()

    # --- the handshake

    def _take_turn(self) -> None:
        if self._is_waiting:
            self._is_waiting = False
            if self.lower.is_closing():
                return
            self.lower.resume_reading()
        self._handshake()

    def _handshake(self) -> None:
        engine, lower = self._engine, self.lower
        try:
            is_complete = engine.handshake()
        except ssl.SSLError as error:
            self._reject(rejection_reason(error, engine.refusal))
            return
        out = engine.to_send()
        if out:
            lower.write(out)
        if is_complete:
            self._stop_timer()
            self._is_up = True
            transport = self.transport = TlsTransport(lower, engine, self._on_rejected)
            protocol = self._make_protocol()
            transport.set_protocol(protocol)
            protocol.connection_made(transport)
            transport.deliver()

    def _reject(self, reason: str) -> None:
        self._stop_timer()
        alert = self._engine.to_send()
        if alert:
            self.lower.write(alert)
        self._on_rejected(self.lower, reason)
        self.lower.close()

    def _expire(self) -> None:
        self._timer = None
        self._on_rejected(self.lower, "tls: handshake timeout")
        self.lower.abort()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class TlsTransport(asyncio.Transport):
    """The transport that the connection's protocol sees."""

    def __init__(self, lower: asyncio.Transport, engine: TlsEngine, on_rejected: OnRejected) -> None:
        super().__init__()
        self._lower = lower
        self._engine = engine
        self._on_rejected = on_rejected
        self._protocol: asyncio.BaseProtocol = asyncio.Protocol()
        self._is_buffered = False
        self._is_reading = True
        self._is_delivering = False
        self._turns = _turns()
        self._is_waiting = False  # for its turn to go on with the decryption
        self._has_received = False
        self._is_closing = False
        self._is_lost = False

    # --- plaintext for the protocol

    def deliver(self, *, is_its_turn: bool = False) -> None:
        """Hand over what can be decrypted, unless the protocol has paused reading. What takes long waits for its turn."""
        if self._is_delivering or self._is_waiting:
            return
        self._is_delivering = True
        try:
            while self._is_reading and not self._is_closing:
                if not is_its_turn and not self._turns.admits():
                    self._is_waiting = True
                    self._lower.pause_reading()
                    self._turns.wait(self._take_turn)
                    return
                is_its_turn = False
                if not self._deliver_buffer():
                    break
        except ssl.SSLError as error:
            self._fail(error)
        finally:
            self._is_delivering = False
        if self._engine.is_ended:
            self.end()

    def _take_turn(self) -> None:
        self._is_waiting = False
        if self.is_closing():
            return
        self.deliver(is_its_turn=True)
        if self._is_reading and not self._is_waiting and not self.is_closing():
            self._lower.resume_reading()

    def _deliver_buffer(self) -> bool:
        """Whether there may be more."""
        if self._is_buffered:
            protocol = cast(asyncio.BufferedProtocol, self._protocol)
            buffer = cast(memoryview, protocol.get_buffer(-1))
            count = self._decrypt(buffer)
            if count:
                self._has_received = True
                protocol.buffer_updated(count)
        else:
            buffer = _buffers()[1]
            count = self._decrypt(buffer)
            if count:
                self._has_received = True
                cast(asyncio.Protocol, self._protocol).data_received(bytes(buffer[:count]))
        out = self._engine.to_send()  # answers of TLS itself, such as a key update
        if out:
            self._lower.write(out)
        return count == len(buffer) or self._engine.is_holding

    def _decrypt(self, buffer: memoryview) -> int:
        began = perf_counter()
        try:
            return self._engine.read_into(buffer, began + _READ_SECONDS)
        finally:
            self._turns.spend(perf_counter() - began)

    def _fail(self, error: ssl.SSLError) -> None:
        """A damaged record, or an alert: in TLS 1.3 a client learns only after the handshake that it was rejected."""
        alert = self._engine.to_send()
        if alert:
            self._lower.write(alert)
        if not self._has_received:
            self._on_rejected(self._lower, rejection_reason(error))
        self._is_closing = True
        self._lower.close()

    def end(self) -> None:
        """The other side has ended the connection. TLS has no half-closed connections: ours ends too."""
        if not self._is_closing:
            cast(asyncio.Protocol, self._protocol).eof_received()
            self.close()

    def lost(self, exc: Exception | None) -> None:
        if not self._is_lost:
            self._is_lost = self._is_closing = True
            self._protocol.connection_lost(exc)

    # --- asyncio.Transport

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._is_closing or not data:
            return
        self._engine.write(cast(bytes, data))
        self._lower.write(self._engine.to_send())

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._engine.close()
            self._lower.write(self._engine.to_send())
            self._lower.close()

    def abort(self) -> None:
        self._is_closing = True
        self._lower.abort()

    def is_closing(self) -> bool:
        return self._is_closing or self._lower.is_closing()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol
        self._is_buffered = isinstance(protocol, asyncio.BufferedProtocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def is_reading(self) -> bool:
        return self._is_reading

    def pause_reading(self) -> None:
        self._is_reading = False
        self._lower.pause_reading()

    def resume_reading(self) -> None:
        if not self._is_reading:
            self._is_reading = True
            if not self._is_waiting:
                self._lower.resume_reading()
            asyncio.get_running_loop().call_soon(self.deliver)  # what is already decrypted or in the engine

    def can_write_eof(self) -> bool:
        return False

    def write_eof(self) -> None:
        raise NotImplementedError("TLS has no half-closed connections")

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._lower.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        return self._lower.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._lower.get_write_buffer_limits()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "ssl_object":
            return self._engine.ssl_object
        if name == "peercert":
            return self._engine.ssl_object.getpeercert()
        return self._lower.get_extra_info(name, default)


def _turns() -> TlsTurns:
    """Those of the running loop."""
    loop = asyncio.get_running_loop()
    turns: TlsTurns | None = getattr(_thread, "turns", None)
    if turns is None or turns.loop is not loop:
        turns = _thread.turns = TlsTurns(loop)
    return turns


def _buffers() -> tuple[memoryview, memoryview]:
    """(ciphertext, plaintext) of this thread."""
    buffers: tuple[memoryview, memoryview] | None = getattr(_thread, "buffers", None)
    if buffers is None:
        buffers = _thread.buffers = memoryview(bytearray(_BUFFER_BYTES)), memoryview(bytearray(_BUFFER_BYTES))
    return buffers
