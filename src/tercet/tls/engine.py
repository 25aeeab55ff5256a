"""One side of a TLS connection without I/O: ciphertext in and out as bytes, plaintext into a buffer.

engine.receive(ciphertext)     what the network delivered
engine.handshake()             until it returns True
engine.read_into(buffer)       plaintext
engine.write(plaintext)
engine.to_send()               ciphertext for the network, after each of these, errors included: an alert may be pending

OpenSSL takes all that it is given in one call: a request for new keys (KeyUpdate) has 27 bytes and costs 20 us, and 256 KiB of
them 0.2 s. So it gets 8 KiB at a time, and `read_into` ends after a while.
"""

from __future__ import annotations

import contextlib
import math
import ssl
from time import perf_counter
from typing import Any, Final

_PIECE_BYTES: Final = 8 << 10


class TlsEngine:
    """context: the certificate and rules of this connection, for its whole life. server_hostname: for clients, checked."""

    __slots__ = ("_at", "_held", "_incoming", "_outgoing", "is_ended", "ssl_object")

    def __init__(self, context: ssl.SSLContext, *, server_side: bool, server_hostname: str | None = None) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.ssl_object = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_hostname
        )
        self._held = b""  # received, and from `_at` on not given to OpenSSL so far
        self._at = 0
        self.is_ended = False
        """The other side has sent close_notify."""

    def receive(self, ciphertext: bytes | memoryview) -> None:
        if self._held:
            self._held = self._held[self._at :] + bytes(ciphertext)
            self._at = 0
        elif len(ciphertext) > _PIECE_BYTES:
            self._held = bytes(ciphertext)
            self._feed()
        else:
            self._incoming.write(ciphertext)

    def _feed(self) -> bool:
        """Give OpenSSL the next piece. False: there is none."""
        if not self._held:
            return False
        end = self._at + _PIECE_BYTES
        self._incoming.write(self._held[self._at : end])
        if end < len(self._held):
            self._at = end
        else:
            self._held, self._at = b"", 0
        return True

    @property
    def refusal(self) -> str:
        """Why a check within the handshake refuses the other side's certificate; "" if none does."""
        refusal: str = getattr(self.ssl_object, "refusal", "")
        return refusal

    @property
    def is_holding(self) -> bool:
        """Is there ciphertext that no call has looked at?"""
        return bool(self._held)

    def to_send(self) -> bytes:
        return self._outgoing.read() if self._outgoing.pending else b""

    def handshake(self) -> bool:
        """Whether the handshake is complete. Raises ssl.SSLError if it has failed."""
        while True:
            try:
                self.ssl_object.do_handshake()
            except ssl.SSLWantReadError:
                if not self._feed():
                    return False
            else:
                return True

    def read_into(self, buffer: memoryview, until: float = math.inf) -> int:
        """The number of bytes decrypted into the buffer. Raises ssl.SSLError.

        Less than the buffer's size: there are no more, unless `is_holding`. Then the time is over; until: on perf_counter.
        A read of OpenSSL returns one record (16 KiB at most). Filling the buffer spares the caller a turn for each.
        """
        read: Any = self.ssl_object.read
        incoming = self._incoming
        size, total = len(buffer), 0
        try:
            while total < size:
                try:
                    count = read(size - total, buffer[total:] if total else buffer)
                except ssl.SSLWantReadError:
                    if self._is_over(until):
                        break
                    continue
                if not count:
                    self.is_ended = True
                    break
                total += count
                # Spares the exception that the next read would raise.
                if not incoming.pending and not self.ssl_object.pending() and self._is_over(until):
                    break
        except ssl.SSLZeroReturnError:
            self.is_ended = True
        return total

    def _is_over(self, until: float) -> bool:
        """Is nothing left, or no time? If not, OpenSSL has got another piece."""
        return not self._held or perf_counter() >= until or not self._feed()

    def write(self, plaintext: bytes | memoryview) -> None:
        """Raises ssl.SSLError."""
        write = self.ssl_object.write
        written = write(plaintext)
        size = len(plaintext)
        if written < size:  # one record for each call
            rest = memoryview(plaintext)
            while written < size:
                written += write(rest[written:])

    def close(self) -> None:
        """Send close_notify; the other side's is not waited for."""
        with contextlib.suppress(ssl.SSLError):
            self.ssl_object.unwrap()
