"""Sends the whole database to a member that is too far behind for the log: one POST of the MsgSnap and a bbolt file.

    u64 BE length, raftpb.Message (MsgSnap), the bytes of a bbolt file to the end of the body

The owner provides the file as an async iterator, so that it is never in memory as a whole. The iterator is always closed
here, also if nothing was sent, since it may hold a view of the database open.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Final

from tercet.log_fields import fields
from tercet.peer.context import Context
from tercet.peer.frames import pack_u64
from tercet.peer.post import check_answer
from tercet.peer.status import PeerStatus
from tercet.peer.url_picker import UrlPicker
from tercet.raft.codec import encode_message
from tercet.raft.types import Message

logger = logging.getLogger(__name__)

_PIECE_BYTES: Final = 256 << 10  # the owner's pieces are joined up to this size: one chunk, one write


async def send_snapshot(
    message: Message, database: AsyncIterator[bytes], context: Context, status: PeerStatus, picker: UrlPicker
) -> None:
    """Send, and report the result to raft. Raises only when cancelled."""
    origin = picker.pick()
    headers = [*context.identity.request_headers(), ("Content-Type", "application/octet-stream")]
    index = message.snapshot.index if message.snapshot is not None else 0
    shown: dict[str, object] = {"snapshot-index": index, "remote-peer-id": f"{status.id:x}"}
    logger.info("sending database snapshot", extra=fields(shown))
    ok = False
    began = time.monotonic()
    status.snapshot_began()
    try:
        first = await anext(database, b"")  # before the dial: a generator that was never started does not run its `finally`
        async with aclosing(_body(message, first, database)) as body:
            answer = await context.client.request(
                origin, "POST", "/raft/snapshot", headers, body, timeout=context.limits.snapshot_timeout
            )
        check_answer(answer, status.id, context)
        ok = True
    except Exception as error:  # the owner's iterator may raise anything, and raft must get a report in every case
        reason = str(error) or type(error).__name__
        logger.warning("failed to send database snapshot", extra=fields(shown, error=reason))
        picker.unreachable(origin)
        context.unreachable(status.id)
    else:
        logger.info("sent database snapshot", extra=fields(shown))
    finally:
        await _close(database)
        status.snapshot_ended(time.monotonic() - began, ok=ok)
        context.snapshot_sent(status.id, ok)


async def discard_database(database: AsyncIterator[bytes]) -> None:
    """Close an iterator that will not be read: it is started first, so that its `finally` runs."""
    await anext(database, b"")
    await _close(database)


async def _close(database: AsyncIterator[bytes]) -> None:
    close = getattr(database, "aclose", None)
    if close is not None:
        await close()


async def _body(message: Message, first: bytes, database: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    envelope = encode_message(message)
    waiting = [pack_u64(len(envelope)), envelope, first]
    waiting_bytes = 8 + len(envelope) + len(first)
    async for piece in database:
        waiting.append(piece)
        waiting_bytes += len(piece)
        if waiting_bytes >= _PIECE_BYTES:
            yield b"".join(waiting)
            waiting, waiting_bytes = [], 0
    if waiting_bytes:
        yield b"".join(waiting)
