"""gRPC's encodings inside HTTP/2: message frames, grpc-message, grpc-timeout, grpc-encoding.

A message is   compressed flag (1 byte) | length (4 bytes, big endian) | message.   DATA frames split this sequence anywhere.
Malformed input is refused with grpc-go's code and text (rpc_util.go, http_util.go), since clients compare texts.

Memory is bounded: a length above the limit is refused before its bytes are kept, and decompression stops at the limit.
Compressed messages wait as they are: 1 KiB can become 1 MiB.
Source: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

from __future__ import annotations

import base64
import re
import struct
import zlib
from collections.abc import Callable
from typing import Final

from tercet.errors import Code, StatusError
from tercet.rpc.binary_headers import decode_base64

Decompress = Callable[[bytes, int], bytes]

_PREFIX = struct.Struct(">BI").pack
_SHORT_PREFIXES: Final = [_PREFIX(0, size) for size in range(1024)]
PREFIX_BYTES = 5


def frame(message: bytes) -> bytes:
    """One message with its prefix, uncompressed."""
    size = len(message)
    return (_SHORT_PREFIXES[size] if size < 1024 else _PREFIX(0, size)) + message


def prefix(size: int) -> bytes:
    """The prefix of an uncompressed message of `size` bytes."""
    return _PREFIX(0, size)


def message_too_large(size: int, limit: int) -> StatusError:
    return StatusError(Code.RESOURCE_EXHAUSTED, f"grpc: received message larger than max ({size} vs. {limit})")


class Compressed:
    """A compressed message as it arrived."""

    __slots__ = ("_decompress", "_limit", "data")

    def __init__(self, data: bytes, decompress: Decompress, limit: int) -> None:
        self.data = data
        self._decompress = decompress
        self._limit = limit

    def expand(self) -> bytes:
        """The message. Raises StatusError if it is malformed, or larger than the limit."""
        return self._decompress(self.data, self._limit)


class MessageReader:
    """Splits one stream's DATA into messages. Holds at most one incomplete message of `max_message_bytes`."""

    __slots__ = ("_buffer", "_decompress", "_max_message_bytes", "_needed")

    def __init__(self, max_message_bytes: int, decompress: Decompress | None = None) -> None:
        self._buffer = bytearray()
        self._needed = PREFIX_BYTES
        self._max_message_bytes = max_message_bytes
        self._decompress = decompress

    @property
    def buffered_bytes(self) -> int:
        """Bytes held of an incomplete message."""
        return len(self._buffer)

    @property
    def is_cut_short(self) -> bool:
        """At the end of a stream: is a message incomplete? A part of a prefix counts as the end, as in grpc-go."""
        return len(self._buffer) >= PREFIX_BYTES

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that `data` completes, of a peer that does not compress. Raises StatusError for an invalid frame."""
        buffer = self._buffer
        if not buffer and len(data) >= PREFIX_BYTES and data[0] == 0:
            # The common case, without the buffer: exactly one whole message, uncompressed.
            length = int.from_bytes(data[1:PREFIX_BYTES], "big")
            if length == len(data) - PREFIX_BYTES and length <= self._max_message_bytes:
                return [data[PREFIX_BYTES:]]
        return [message for _, message in self._split(data)]

    def feed_first(self, data: bytes) -> bytes | Compressed | None:
        """The one message of a unary call, once it is complete; what follows it is not looked at."""
        buffer = self._buffer
        buffer += data
        if self._needed == PREFIX_BYTES and len(buffer) >= PREFIX_BYTES:
            length = int.from_bytes(buffer[1:PREFIX_BYTES], "big")
            self._check_prefix(buffer[0], length)
            self._needed = PREFIX_BYTES + length
        if len(buffer) < self._needed:
            return None
        message = bytes(memoryview(buffer)[PREFIX_BYTES : self._needed])
        decompress = self._decompress
        return message if not buffer[0] or decompress is None else Compressed(message, decompress, self._max_message_bytes)

    def feed_compressed(self, data: bytes) -> list[bytes | Compressed]:
        """`feed`, for a peer that may compress."""
        decompress, limit = self._decompress, self._max_message_bytes
        return [
            message if not flag or decompress is None else Compressed(message, decompress, limit)
            for flag, message in self._split(data)
        ]

    def _split(self, data: bytes) -> list[tuple[int, bytes]]:
        """The complete messages, each with its flag."""
        buffer = self._buffer
        buffer += data
        messages: list[tuple[int, bytes]] = []
        start = 0
        while len(buffer) - start >= self._needed:
            if self._needed == PREFIX_BYTES:
                # The prefix alone decides whether the rest may be kept at all.
                length = int.from_bytes(buffer[start + 1 : start + PREFIX_BYTES], "big")
                self._check_prefix(buffer[start], length)
                self._needed = PREFIX_BYTES + length
                if len(buffer) - start < self._needed:
                    break
            messages.append((buffer[start], bytes(memoryview(buffer)[start + PREFIX_BYTES : start + self._needed])))
            start += self._needed
            self._needed = PREFIX_BYTES
        del buffer[:start]
        return messages

    def _check_prefix(self, flag: int, length: int) -> None:
        if flag == 1 and self._decompress is None:
            raise StatusError(Code.INTERNAL, "grpc: compressed flag set with identity or empty encoding")
        if flag > 1:
            raise StatusError(Code.INTERNAL, f"grpc: received unexpected payload format {flag}")
        if length > self._max_message_bytes:
            raise message_too_large(length, self._max_message_bytes)


def gunzip(data: bytes, limit: int) -> bytes:
    """Decompress one message, never to more than `limit` bytes. Raises StatusError."""
    engine = zlib.decompressobj(wbits=31)
    try:
        message = engine.decompress(data, limit + 1)
    except zlib.error as error:
        raise StatusError(Code.INTERNAL, f"grpc: failed to decompress the received message: {error}") from error
    if len(message) > limit:
        raise StatusError(Code.RESOURCE_EXHAUSTED, f"grpc: message after decompression larger than max {limit}")
    if not engine.eof:
        raise StatusError(Code.INTERNAL, "grpc: failed to decompress the received message: unexpected EOF")
    return message


def decompressor(encoding: bytes) -> Decompress | None:
    """The decompressor for a `grpc-encoding`, None for identity. Raises StatusError for an unknown encoding."""
    if encoding == b"gzip":
        return gunzip
    if encoding in (b"", b"identity"):
        return None
    name = encoding.decode("latin-1")
    raise StatusError(Code.UNIMPLEMENTED, f'grpc: Decompressor is not installed for grpc-encoding "{name}"')


_UNSAFE = re.compile(rb"[^ -$&-~]")  # all but printable ASCII, and the percent sign itself
_ESCAPED = re.compile(rb"%([0-9a-fA-F]{2})")


def encode_grpc_message(text: str) -> bytes:
    """A status text as the value of grpc-message: UTF-8, percent-encoded where not printable ASCII."""
    return _UNSAFE.sub(lambda found: b"%%%02X" % found[0][0], text.encode("utf-8", "replace"))


def decode_grpc_message(value: bytes) -> str:
    """The inverse of `encode_grpc_message`; invalid escapes are kept, so that no part of an error's text is lost."""
    return _ESCAPED.sub(lambda found: bytes((int(found[1], 16),)), value).decode("utf-8", "replace")


_TIMEOUT_DIGITS_MAX = 8
_SECONDS_PER_UNIT = {ord("H"): 3600.0, ord("M"): 60.0, ord("S"): 1.0, ord("m"): 1e-3, ord("u"): 1e-6, ord("n"): 1e-9}


def parse_timeout(value: bytes) -> float:
    """Seconds from a grpc-timeout. Raises StatusError with grpc-go's text."""
    digits = value[:-1]
    if not digits:
        fault = "is too short"
    elif len(digits) > _TIMEOUT_DIGITS_MAX:
        fault = "is too long"
    elif value[-1] not in _SECONDS_PER_UNIT:
        raise _malformed_timeout("transport: timeout unit is not recognized: ", value)
    elif not digits.isdigit():
        raise _malformed_timeout("strconv.ParseUint: parsing ", digits, ": invalid syntax")
    else:
        return int(digits) * _SECONDS_PER_UNIT[value[-1]]
    raise _malformed_timeout(f"transport: timeout string {fault}: ", value)


def _malformed_timeout(reason: str, shown: bytes, more: str = "") -> StatusError:
    return StatusError(Code.INTERNAL, f'malformed grpc-timeout: {reason}"{shown.decode("latin-1")}"{more}')


def format_timeout(seconds: float) -> bytes:
    """A grpc-timeout of at most 8 digits, rounded by less than one of its units."""
    if seconds < 99:
        return b"%du" % max(1, round(seconds * 1e6))
    if seconds < 99_999:
        return b"%dm" % round(seconds * 1e3)
    return b"%dS" % min(99_999_999, round(seconds))


def encode_binary(value: bytes) -> bytes:
    """The value of a `-bin` header, unpadded as grpc-go sends it."""
    return base64.b64encode(value).rstrip(b"=")


def decode_binary(name: bytes, value: bytes) -> bytes:
    """The bytes of a `-bin` header, padded or not. Raises StatusError."""
    try:
        return decode_base64(value)
    except ValueError as error:
        text = f'malformed binary metadata "{value.decode("latin-1")}" in header "{name.decode("latin-1")}": {error}'
        raise StatusError(Code.INTERNAL, text) from error
