"""HTTP/1.1's chunked transfer coding, for the endless response bodies that carry raft's streams.

    1a\\r\\n  <26 bytes>  \\r\\n  ...  0\\r\\n\\r\\n

h11 parses the response's head; after that every byte of replication passes through here, so the common case is short. A chunk
ends where the sender flushed; the frames inside may begin and end anywhere in it.
"""

from __future__ import annotations

from typing import Final

_HEX_DIGITS: Final = b"0123456789abcdefABCDEF"
_LINE_BYTES_MAX: Final = 128  # 16 hex digits and a short extension; etcd sends the digits alone


class ChunkError(ValueError):
    """The body does not follow RFC 9112 §7.1."""


def encode_chunk(body: bytes) -> bytes:
    """One chunk; `body` must not be empty, since the empty chunk ends the stream."""
    return b"%x\r\n%b\r\n" % (len(body), body)


class ChunkDecoder:
    """Extracts the content of a chunked body. Holds at most one unfinished size line."""

    __slots__ = ("_left", "_line", "ended")

    def __init__(self) -> None:
        self._left = 0  # bytes left of the content and of the line end after it (2); 0: a size line comes next
        self._line = b""
        self.ended = False

    def feed(self, data: bytes) -> bytes:
        """The content in `data`. Sets `ended` at the last chunk and ignores what follows it. Raises ChunkError."""
        if self.ended:
            return b""
        if self._line:
            data = self._line + data
            self._line = b""
        elif not self._left and data.endswith(b"\r\n"):
            # The common case: exactly one whole chunk.
            newline = data.find(b"\n", 0, _LINE_BYTES_MAX)
            if 0 < newline < len(data) - 2 and _parse_size(data[:newline]) == len(data) - newline - 3 > 0:
                return data[newline + 1 : -2]
        parts: list[bytes] = []
        position, end = 0, len(data)
        while position < end:
            left = self._left
            if left:
                content = position + max(0, min(left - 2, end - position))
                stop = min(position + left, end)
                due = max(0, 2 - left + content - position)  # bytes of the line end that arrived before
                if data[content:stop] != b"\r\n"[due : due + stop - content]:
                    raise ChunkError("a chunk is longer than its size line says")
                if content > position:
                    parts.append(data[position:content])
                self._left = left - (stop - position)
                position = stop
                continue
            newline = data.find(b"\n", position, position + _LINE_BYTES_MAX)
            if newline < 0:
                if end - position >= _LINE_BYTES_MAX:
                    raise ChunkError(f"the size line of a chunk is over {_LINE_BYTES_MAX} bytes")
                self._line = data[position:]
                break
            size = _parse_size(data[position:newline])
            position = newline + 1
            if size == 0:
                self.ended = True
                break
            self._left = size + 2
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _parse_size(line: bytes) -> int:
    digits = line.split(b";", 1)[0].strip()
    if not 0 < len(digits) <= 16 or digits.translate(None, _HEX_DIGITS):
        raise ChunkError(f"bad chunk size {line[:40]!r}")
    return int(digits, 16)
