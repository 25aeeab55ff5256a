"""What both streams between members have in common: frames that begin and end anywhere in what arrives, and a heartbeat.

A `FrameBuffer` keeps what is not yet a frame, and joins it once enough is there to go on: a large message that arrives in a
thousand pieces is copied once, not a thousand times. It never holds more than the frame that is being received.
"""

from __future__ import annotations

import struct
from typing import Final

from tercet.raft.types import Message, MessageType

MESSAGE_BYTES_MAX: Final = 512 << 20  # etcd's bound for a message on a stream

pack_u64: Final = struct.Struct(">Q").pack
unpack_u64_from: Final = struct.Struct(">Q").unpack_from


class FrameError(ValueError):
    """What a peer sent is not what the stream's format allows. The stream is closed and dialled anew."""


def is_link_heartbeat(message: Message) -> bool:
    """A message from nobody to nobody only says that the link is alive; raft never sees it.

    Judged by these fields, since etcd's releases write it in different bytes.
    """
    return message.type == MessageType.HEARTBEAT and message.from_ == 0 and message.to == 0


class FrameBuffer:
    """Bytes that wait for the rest of their frame."""

    __slots__ = ("_bytes", "_needed", "_parts")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._bytes = 0
        self._needed = 0

    def add(self, data: bytes) -> bytes:
        """All that is at hand, once that is as much as was asked for; else nothing, and `data` is kept."""
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
        """`rest` of what `add` gave is unfinished; come back when `needed` bytes, `rest` included, are there."""
        if rest:
            self._parts.append(rest)
            self._bytes = len(rest)
        self._needed = needed
