"""Another member, and how messages are sent to it.

    MsgApp           the append stream, if the member has dialled it
    any message      the message stream, if the member has dialled it
    otherwise        one POST per message

A database (MsgSnap) always goes by POST. A `Remote` is a member of which only the address is known, because the configuration
that adds it has not been applied here: it is answered by POST, and not dialled.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from tercet.peer.context import Context
from tercet.peer.message_stream import MessageEncoder
from tercet.peer.msgapp_stream import MsgAppEncoder
from tercet.peer.pipeline import Pipeline
from tercet.peer.prober import keep_probing
from tercet.peer.snapshot_sender import send_snapshot
from tercet.peer.status import PeerStatus
from tercet.peer.stream_reader import StreamReader
from tercet.peer.stream_writer import StreamWriter
from tercet.peer.tasks import Tasks
from tercet.peer.url_picker import UrlPicker
from tercet.raft.types import Message, MessageType


class Remote:
    """A member that is known by address. Raises ValueError for bad URLs."""

    def __init__(self, id: int, urls: Sequence[str], context: Context) -> None:
        self.id = id
        self.status = PeerStatus(id)
        self._context = context
        self._picker = UrlPicker(urls)
        self._tasks = Tasks()
        self._pipeline = Pipeline(context, self.status, self._picker, self._tasks)

    def send(self, message: Message) -> StreamWriter | None:
        """Queue a message, or drop and report it. Returns the stream to flush, if it was queued on one."""
        if not self._pipeline.send(message):
            self._drop()
        return None

    async def send_snapshot(self, message: Message, database: AsyncIterator[bytes]) -> None:
        await send_snapshot(message, database, self._context, self.status, self._picker)

    def update(self, urls: Sequence[str]) -> None:
        """Raises ValueError for bad URLs."""
        self._picker.update(urls)

    def stop(self) -> None:
        """Send no more; what is written already may still be sent."""
        self._tasks.cancel()

    async def wait_stopped(self) -> None:
        """After `stop`: wait for the end of all tasks and streams, a second at most."""
        await self._tasks.close()

    async def drain(self) -> None:
        """Send what is queued, then stop: a `Peer` takes this place."""
        await self._tasks.drain(self._context.limits.post_timeout)

    def _drop(self) -> None:
        self.status.sent_failures += 1
        self._context.unreachable(self.id)


class Peer(Remote):
    """A member of the configuration: streams in both directions, and a probe."""

    def __init__(self, id: int, urls: Sequence[str], context: Context) -> None:
        super().__init__(id, urls, context)
        self._message_writer: StreamWriter | None = None
        self._msgapp_writer: StreamWriter | None = None
        for kind in ("message", "msgapp"):
            reader = StreamReader(kind, context, self.status, self._picker)
            self._tasks.spawn(reader.run(), f"{kind} stream from {id:x}")
        self._tasks.spawn(keep_probing(context, self.status, self._picker), f"probe of {id:x}")

    def send(self, message: Message) -> StreamWriter | None:
        writer = self._message_writer
        if message.type == MessageType.APP and self._msgapp_writer is not None:
            writer = self._msgapp_writer
        if writer is None:
            return super().send(message)
        if not writer.add(message):
            self._drop()
            return None
        return writer

    def attach(self, kind: str, transport: asyncio.Transport) -> StreamWriter:
        """The member has dialled a stream: it replaces an older one of its kind."""
        if kind == "msgapp":
            old = self._msgapp_writer
            writer = StreamWriter("msgapp out", MsgAppEncoder(), transport, self._context, self.status, self._detach)
            self._msgapp_writer = writer
        else:
            old = self._message_writer
            writer = StreamWriter("message out", MessageEncoder(), transport, self._context, self.status, self._detach)
            self._message_writer = writer
        if old is not None:
            old.close("replaced by a new stream")
        return writer

    def stop(self) -> None:
        super().stop()
        for writer in (self._message_writer, self._msgapp_writer):
            if writer is not None:
                writer.close("stopped", drain=True)

    async def wait_stopped(self) -> None:
        await super().wait_stopped()
        for writer in (self._message_writer, self._msgapp_writer):
            if writer is not None:
                await asyncio.wait([writer.closed])

    def _detach(self, writer: StreamWriter) -> None:
        if self._message_writer is writer:
            self._message_writer = None
        if self._msgapp_writer is writer:
            self._msgapp_writer = None
