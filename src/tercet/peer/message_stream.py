"""The message stream: any message, as `u64 BE length` and raftpb.Message.

    00000000 00000002 0808      the link heartbeat: type 8, from 0, to 0
    00000000 00000015 0804...   a MsgAppResp

Stateless, so a message may be dropped at any point. Source: etcd server/etcdserver/api/rafthttp/message.go.
"""

from __future__ import annotations

from typing import Final

from tercet.peer.frames import MESSAGE_BYTES_MAX, FrameBuffer, FrameError, is_link_heartbeat, pack_u64, unpack_u64_from
from tercet.raft.codec import MalformedMessage, decode_message, encode_message
from tercet.raft.types import Message

HEARTBEAT: Final = bytes.fromhex("00000000000000020808")


class MessageEncoder:
    """Encodes messages for the stream."""

    __slots__ = ()

    heartbeat: Final = HEARTBEAT

    def encode(self, message: Message) -> bytes:
        body = encode_message(message)
        return pack_u64(len(body)) + body


class MessageDecoder:
    """Decodes the stream, whose bytes may arrive in any pieces."""

    __slots__ = ("_buffer", "_bytes_max")

    def __init__(self, bytes_max: int = MESSAGE_BYTES_MAX) -> None:
        self._buffer = FrameBuffer()
        self._bytes_max = bytes_max

    def feed(self, data: bytes) -> list[Message]:
        """The messages that `data` completes, without link heartbeats. Raises FrameError."""
        messages: list[Message] = []
        buffer = self._buffer.add(data)
        position, end = 0, len(buffer)
        needed = 8
        while end - position >= 8:
            size = unpack_u64_from(buffer, position)[0]
            if size > self._bytes_max:
                raise FrameError(f"a message of {size} bytes is over the limit of {self._bytes_max}")
            stop = position + 8 + size
            if stop > end:
                needed = 8 + size
                break
            message = parse_message(buffer[position + 8 : stop])
            if not is_link_heartbeat(message):
                messages.append(message)
            position = stop
        if buffer:
            self._buffer.keep(buffer[position:], needed)
        return messages


def parse_message(data: bytes) -> Message:
    """Decode one raftpb.Message. Raises FrameError."""
    try:
        return decode_message(data)
    except MalformedMessage as error:
        raise FrameError(str(error)) from error
