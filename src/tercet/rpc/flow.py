"""Flow control at the two ends of a stream: messages that came in, and room for those that go out.

`Inbox` shuts the stream's window while more waits in it than a slow reader may cost; what the peer was already allowed
to send still fits. Its reader takes part of a turn of the loop (intake.py), or thousands of small messages would make one long.
`Outlet` makes a sender wait while the peer does not read what was sent.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from tercet.errors import StatusError
from tercet.intake import BYTES_SHIFT, intake_of_running_loop
from tercet.rpc.connection import SEND_QUEUE_BYTES, Connection
from tercet.rpc.wire import Compressed

_INBOX_BYTES: Final = 256 << 10
_AT_ONCE_MAX: Final = 64  # messages in a row; then the reader's task, which takes turns with others, takes what has come
_MESSAGE_WORK: Final = 8  # about 40 us
_MESSAGE_OVERHEAD_BYTES: Final = 64  # what Python adds to a message; a flood of empty ones must count too


class Inbox:
    """Messages in order, for one reader at a time. `throttle(shut)` stops the sender, and lets it continue.

    at_once: offered each message while the reader waits for one; True: it needs no reader.
    """

    __slots__ = ("_arrival", "_at_once_left", "_bytes", "_ended", "_intake", "_messages", "_shut", "_throttle", "at_once")

    def __init__(self, throttle: Callable[[bool], object]) -> None:
        self._throttle = throttle
        self._messages: deque[bytes | list[bytes] | Compressed] = deque()
        self._bytes = 0
        self._ended = False
        self._intake = intake_of_running_loop()
        self._shut = False
        self._arrival: asyncio.Future[None] | None = None  # resolved by the next message, or the end
        self.at_once: Callable[[bytes], bool] | None = None
        self._at_once_left = 0

    def put(self, messages: list[bytes]) -> None:
        if self.at_once is not None and self._arrival is not None and not self._messages:
            messages = self._left_of(messages, self.at_once)
            if not messages:
                return
        self._messages += messages
        self._count(sum(map(len, messages)) + _MESSAGE_OVERHEAD_BYTES * len(messages))
        self._wake_reader()

    def _count(self, size: int) -> None:
        self._bytes += size
        if self._bytes > _INBOX_BYTES and not self._shut:
            self._shut = True
            self._throttle(True)

    def _left_of(self, messages: list[bytes], at_once: Callable[[bytes], bool]) -> list[bytes]:
        taken = 0
        last = min(len(messages), self._at_once_left)
        while taken < last and at_once(messages[taken]):
            taken += 1
        self._at_once_left -= taken
        return messages[taken:]

    def put_compressed(self, message: Compressed) -> None:
        """A message that is expanded when it is taken, in a turn that allows it."""
        self._messages.append(message)
        self._count(len(message.data) + _MESSAGE_OVERHEAD_BYTES)
        self._wake_reader()

    def put_parts(self, parts: list[bytes]) -> None:
        """One message, which is not joined before it is taken."""
        self._messages.append(parts)
        self._count(sum(map(len, parts)) + _MESSAGE_OVERHEAD_BYTES)
        self._wake_reader()

    def end(self) -> None:
        """No message will follow; those that arrived can still be taken."""
        self._ended = True
        self._wake_reader()

    def drop(self) -> None:
        """No message will be taken any more."""
        self._messages.clear()
        self.at_once = None  # these refer to the stream, which must not wait for a garbage collection
        self._throttle = _ignore
        self.end()

    async def take(self) -> bytes | None:
        """The next message, None after the last. Raises StatusError for one that cannot be decompressed."""
        parts = await self.take_parts()
        if parts is None:
            return None
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def take_parts(self) -> list[bytes] | None:
        """`take`, without joining the message."""
        if self._messages:
            if self._intake.left > 0:
                self._intake.spend(_MESSAGE_WORK)
            else:
                await self._intake.admitted(_MESSAGE_WORK)
        while not self._messages:
            if self._ended:
                return None
            self._arrival = asyncio.get_running_loop().create_future()
            self._at_once_left = _AT_ONCE_MAX
            await self._arrival  # `_wake_reader` has spent the work of the message
        message = self._messages.popleft()
        self._bytes -= _size_of(message) + _MESSAGE_OVERHEAD_BYTES
        if self._shut and self._bytes <= _INBOX_BYTES // 2:
            self._shut = False
            if not self._ended:
                self._throttle(False)
        if isinstance(message, Compressed):
            return [await self._expanded(message)]
        return message if isinstance(message, list) else [message]

    async def _expanded(self, message: Compressed) -> bytes:
        expanded: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._intake.run(partial(self._expand, message, expanded))
        return await expanded

    def _expand(self, message: Compressed, expanded: asyncio.Future[bytes]) -> None:
        if expanded.done():  # the reader has been cancelled
            return
        try:
            data = message.expand()
        except StatusError as error:
            expanded.set_exception(error)
        else:
            self._intake.spend(len(data) >> BYTES_SHIFT)
            expanded.set_result(data)

    def _wake_reader(self) -> None:
        arrival, self._arrival = self._arrival, None
        if arrival is not None:
            self._intake.run(partial(_resume, arrival), _MESSAGE_WORK)


def _size_of(message: bytes | list[bytes] | Compressed) -> int:
    if isinstance(message, Compressed):
        return len(message.data)
    return sum(map(len, message)) if isinstance(message, list) else len(message)


class Outlet:
    """Room to send on one stream, for any number of senders. queue_bytes_max: queued before a sender has to wait."""

    __slots__ = ("_closed", "_connection", "_intake", "_room", "queue_bytes_max", "stream_id")

    def __init__(self, connection: Connection, stream_id: int) -> None:
        self._connection = connection
        self.stream_id = stream_id
        self.queue_bytes_max = SEND_QUEUE_BYTES
        self._closed = False
        self._intake = intake_of_running_loop()
        self._room: asyncio.Future[None] | None = None  # resolved when there is room

    @property
    def has_room(self) -> bool:
        return self._connection.has_room(self.stream_id, self.queue_bytes_max)

    async def wait_for_room(self) -> None:
        """Return when there is room, or when the stream is over."""
        while not self._closed and not self.has_room:
            if self._room is None:
                self._room = self._connection.loop.create_future()
                self._connection.wait_for_room(self)
            # Several senders may wait on this future: one that is cancelled must not cancel it for the others.
            await asyncio.shield(self._room)

    def wake(self) -> None:
        room, self._room = self._room, None
        if room is not None:
            self._intake.run(partial(_resume, room))

    def close(self) -> None:
        self._closed = True
        self._connection.forget_sender(self)
        self.wake()


def _ignore(shut: bool) -> None: ...


def _resume(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
