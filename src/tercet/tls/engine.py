"""One side of a TLS connection without I/O: ciphertext in and out as bytes, plaintext into a buffer.

engine.receive(ciphertext)     what the network delivered
engine.handshake()             until it returns True
engine.read_into(buffer)       plaintext
engine.write(plaintext)
engine.to_send()               ciphertext for the network, after each of these, errors included: an alert may be pending
"""

from __future__ import annotations

import contextlib
import ssl
from typing import Any


class TlsEngine:
    """context: the certificate and rules of this connection, for its whole life. server_hostname: for clients, checked."""

    __slots__ = ("_incoming", "_outgoing", "is_ended", "ssl_object")

    def __init__(self, context: ssl.SSLContext, *, server_side: bool, server_hostname: str | None = None) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.ssl_object = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_hostname
        )
        self.is_ended = False
        """The other side has sent close_notify."""

    def receive(self, ciphertext: bytes | memoryview) -> None:
        self._incoming.write(ciphertext)

    def to_send(self) -> bytes:
        return self._outgoing.read() if self._outgoing.pending else b""

    def handshake(self) -> bool:
        """Whether the handshake is complete. Raises ssl.SSLError if it has failed."""
        try:
            self.ssl_object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def read_into(self, buffer: memoryview) -> int:
        """The number of bytes decrypted into the buffer; less than its size: there are no more. Raises ssl.SSLError.

        A read of OpenSSL returns one record (16 KiB at most). Filling the buffer spares the caller a turn for each.
        """
        read: Any = self.ssl_object.read
        incoming = self._incoming
        size, total = len(buffer), 0
        try:
            while total < size:
                count = read(size - total, buffer[total:] if total else buffer)
                if not count:
                    self.is_ended = True
                    break
                total += count
                if not incoming.pending and not self.ssl_object.pending():
                    break  # spares the exception that the next read would raise
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.is_ended = True
        return total

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
