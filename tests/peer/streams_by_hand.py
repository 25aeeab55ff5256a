"""Streams of a peer, dialled by hand."""

from __future__ import annotations

import asyncio
import ssl

from tercet.peer import Limits
from tercet.raft.types import Message, MessageType
from tests.peer.harness import CLUSTER, Member, request

QUICK = Limits(redial_pause=0.02, probe_interval=0.05)
IMPATIENT = Limits(read_timeout=0.6, write_timeout=0.6, redial_pause=0.02)


def heartbeat(to: int, from_: int, term: int = 3) -> Message:
    return Message(MessageType.HEARTBEAT, to, from_, term)


async def dial(one: Member, kind: str, tls: ssl.SSLContext | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Dial a stream to `one` as member 2, by hand."""
    headers = {"X-Server-Version": "3.5.1", "X-Min-Cluster-Version": "3.0.0", "X-Etcd-Cluster-ID": f"{CLUSTER:x}"}
    reader, writer = await asyncio.open_connection("127.0.0.1", one.port, ssl=tls)
    writer.write(request("GET", f"/raft/stream/{kind}/2", headers | {"X-Raft-To": "1"}))
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
    return reader, writer


async def dial_and_do_not_read(one: Member, kind: str, tls: ssl.SSLContext | None = None) -> asyncio.StreamWriter:
    _, writer = await dial(one, kind, tls)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    return writer
