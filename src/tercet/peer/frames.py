"""Frames and the heartbeat that both streams between members share.

A `FrameBuffer` collects the pieces of an incomplete frame and joins them when enough have arrived: a large message in a
thousand pieces is copied once, not a thousand times. It holds at most the frame that is being received.
"""

from __future__ import annotations

import struct
from typing import Final

from tercet.raft.types import Message, MessageType

MESSAGE_BYTES_MAX: Final = 512 << 20  # etcd's bound for a message on a stream

pack_u64: Final = struct.Struct(">Q").pack
unpack_u64_from: Final = struct.Struct(">Q").unpack_from


class FrameError(ValueError):
    """Received bytes violate the stream's format. The stream is closed and dialled again."""


def is_link_heartbeat(message: Message) -> bool:
    """Whether this is the link's keepalive, which raft never sees: a MsgHeartbeat from 0 to 0.

    Decided by these fields, since etcd's releases encode it in different bytes.
    """
    return message.type == MessageType.HEARTBEAT and message.from_ == 0 and message.to == 0


class FrameBuffer:
    """The bytes of an incomplete frame."""

    __slots__ = ("_bytes", "_needed", "_parts")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._bytes = 0
        self._needed = 0

    def add(self, data: bytes) -> bytes:
        """All bytes held and `data`, once they are as many as `keep` asked for; else b"", and `data` is held."""
        if not self._parts and len(data) >= self._needed:
            return data
        self._parts.append(data)
        self._bytes += len(data)
        if self._bytes < self._needed:
            return b""
        joined = b"".join(self._parts)
        self._parts.clear()
        self._bytes = 0
        return joined

    def keep(self, rest: bytes, needed: int) -> None:
        """Hold `rest`, the unfinished end of what `add` returned, until `needed` bytes, `rest` included, have arrived."""
        if rest:
            self._parts.append(rest)
            self._bytes = len(rest)
        self._needed = needed
