"""Follows the frames of what a client sends, to tell how much of it the engine may parse at a time.

The cost of content is in proportion to its length. But a byte of HPACK can stand for a field of 4 KiB, and a SETTINGS frame
makes the engine work on all streams. So frames of other kinds than DATA are parsed a little at a time, and the work that they
made is counted before the next of them are parsed.
Source: RFC 9113 §4.1.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

PREFACE_BYTES: Final = 24
HEADER_BYTES: Final = 9  # of a frame: length, type, flags, stream
_DATA: Final = 0

_unpack_length_and_type = Struct(">I").unpack_from


class FrameWalk:
    """The frames of one connection, from its preface on. Frames that make no sense are left to the engine."""

    __slots__ = ("_header", "_is_data", "_left")

    def __init__(self) -> None:
        self._left = PREFACE_BYTES  # of the frame that has begun
        self._is_data = True
        self._header = b""  # the part of a frame's header that has arrived

    def next_piece(self, data: bytes | memoryview, start: int, bytes_max: int, others_max: int) -> int:
        """The end of the piece of `data` that begins at `start` and has one byte at least. The caller parses all of it.

        bytes_max: the size of a piece; others_max: how much of it may be frames of other kinds than DATA.
        """
        limit = min(len(data), start + bytes_max)
        at, left, is_data = start, self._left, self._is_data
        while at < limit and (others_max > 0 or at == start):
            if left:
                step = min(left, limit - at)
                if not is_data:
                    step = min(step, max(1, others_max))
                    others_max -= step
                at += step
                left -= step
                continue
            if self._header or limit - at < HEADER_BYTES:
                missing = HEADER_BYTES - len(self._header)
                self._header += bytes(data[at : min(limit, at + missing)])
                at = min(limit, at + missing)
                if len(self._header) < HEADER_BYTES:
                    break
                number: int = _unpack_length_and_type(self._header)[0]
                self._header = b""
            else:
                number = _unpack_length_and_type(data, at)[0]
                at += HEADER_BYTES
            left = number >> 8
            is_data = number & 0xFF == _DATA
            if not is_data:
                others_max -= HEADER_BYTES
        self._left, self._is_data = left, is_data
        return at
