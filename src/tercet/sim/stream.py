"""The streams between two members: production's codecs over a connection that keeps order, and loses all or nothing.

As in peer/: MsgApp has a stream of its own, whose codec depends on what was sent before; other messages share the second. When
a connection breaks, what was in flight is lost, and both ends begin a new stream.
"""

from __future__ import annotations

from random import Random

from tercet.errors import InvariantViolation
from tercet.peer.frames import FrameError
from tercet.peer.message_stream import MessageDecoder, MessageEncoder
from tercet.peer.msgapp_stream import MsgAppDecoder, MsgAppEncoder
from tercet.raft.types import Message, MessageType


class Stream:
    """One direction of one connection. `arrival` is when the last bytes sent arrive."""

    __slots__ = ("_decoder", "_encoder", "arrival", "is_broken")

    def __init__(self, encoder: MsgAppEncoder | MessageEncoder, decoder: MsgAppDecoder | MessageDecoder) -> None:
        self._encoder = encoder
        self._decoder = decoder
        self.arrival = 0
        self.is_broken = False

    def encode(self, message: Message) -> bytes:
        return self._encoder.encode(message)

    def decode(self, data: bytes, random: Random) -> list[Message]:
        """The messages that `data` completes; it arrives in two pieces."""
        cut = random.randrange(len(data) + 1)
        try:
            return self._decoder.feed(data[:cut]) + self._decoder.feed(data[cut:])
        except FrameError as error:
            raise InvariantViolation(f"a stream cannot be decoded: {error}: {data.hex()}") from error


class Streams:
    """All streams of a cluster, made when they are first used."""

    def __init__(self) -> None:
        self._streams: dict[tuple[int, int, bool], Stream] = {}

    def of(self, message: Message) -> Stream:
        """The stream that carries `message`."""
        is_append = message.type == MessageType.APP
        key = (message.from_, message.to, is_append)
        stream = self._streams.get(key)
        if stream is None:
            if is_append:
                stream = Stream(MsgAppEncoder(), MsgAppDecoder(remote=message.from_, own=message.to))
            else:
                stream = Stream(MessageEncoder(), MessageDecoder())
            self._streams[key] = stream
        return stream

    def break_stream(self, message: Message) -> None:
        """The connection that would carry `message` breaks."""
        stream = self._streams.pop((message.from_, message.to, message.type == MessageType.APP), None)
        if stream is not None:
            stream.is_broken = True

    def break_all(self, member: int) -> None:
        """All connections of `member` break: its process ended."""
        for key in [key for key in self._streams if member in key[:2]]:
            self._streams.pop(key).is_broken = True
