"""One other member, and the ways a message can take to it.

    MsgApp     the append stream, if the member has dialled it
    any        the general stream, if it has dialled that
    else       a POST of its own

A database (MsgSnap) always goes by POST. A `Remote` is a member that is known only by address, before the configuration
that names it is: we answer it by POST, and dial nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from tercet.peer.context import Context
from tercet.peer.message_stream import MessageEncoder
from tercet.peer.msgapp_stream import MsgAppEncoder
from tercet.peer.pipeline import Pipeline
from tercet.peer.prober import probe_for_ever
from tercet.peer.snapshot_sender import send_snapshot
from tercet.peer.status import PeerStatus
from tercet.peer.stream_reader import StreamReader
from tercet.peer.stream_writer import StreamWriter
from tercet.peer.tasks import Tasks
from tercet.peer.url_picker import UrlPicker
from tercet.raft.types import Message, MessageType


class Remote:
    """A member that can be answered. Raises ValueError for bad URLs."""

    def __init__(self, id: int, urls: Sequence[str], context: Context) -> None:
        self.id = id
        self.status = PeerStatus(id)
        self._context = context
        self._picker = UrlPicker(urls)
        self._tasks = Tasks()
        self._pipeline = Pipeline(context, self.status, self._picker, self._tasks)

    def send(self, message: Message) -> StreamWriter | None:
        """Take a message on its way. Returns the stream that now has to be flushed, if it took one."""
        if not self._pipeline.send(message):
            self._drop()
        return None

    async def send_snapshot(self, message: Message, database: AsyncIterator[bytes]) -> None:
        await send_snapshot(message, database, self._context, self.status, self._picker)

    def update(self, urls: Sequence[str]) -> None:
        """Raises ValueError for bad URLs."""
        self._picker.update(urls)

    def stop(self) -> None:
        """Send no more; what is written already may still leave."""
        self._tasks.cancel()

    async def wait_stopped(self) -> None:
        """After `stop`: until nothing of it runs any more. A second at most, for what is written to leave."""
        await self._tasks.close()

    def _drop(self) -> None:
        self.status.sent_failures += 1
        self._context.unreachable(self.id)


class Peer(Remote):
    """A member of the configuration: streams both ways, and a probe."""

    def __init__(self, id: int, urls: Sequence[str], context: Context) -> None:
        super().__init__(id, urls, context)
        self._message_writer: StreamWriter | None = None
        self._msgapp_writer: StreamWriter | None = None
        for kind in ("message", "msgapp"):
            reader = StreamReader(kind, context, self.status, self._picker)
            self._tasks.spawn(reader.run(), f"{kind} stream from {id:x}")
        self._tasks.spawn(probe_for_ever(context, self.status, self._picker), f"probe of {id:x}")

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
        """The member has dialled a stream: write to it from now on, and no longer to an older one of its kind."""
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
                writer.close("stopped", politely=True)

    async def wait_stopped(self) -> None:
        await super().wait_stopped()
        for writer in (self._message_writer, self._msgapp_writer):
            if writer is not None:
                await asyncio.wait([writer.over])

    def _detach(self, writer: StreamWriter) -> None:
        if self._message_writer is writer:
            self._message_writer = None
        if self._msgapp_writer is writer:
            self._msgapp_writer = None
