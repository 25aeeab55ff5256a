"""A loop that tolerates no leftovers, members that record what they receive, and raw sockets."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvloop

from tercet.peer import Identity, Limits, MemberApi, Transport
from tercet.raft.types import Entry, Message, MessageType
from tests.peer.tls import FixedTls
from tests.support.waiting import scaled, until

CLUSTER = 0xC5D79B23ABC0F662
VERSION = "3.7.1"


def run(scenario: Coroutine[Any, Any, None], *, seconds: float = 60.0) -> None:
    """Run under uvloop. Fails if a task is left, or if the loop's exception handler is called."""

    async def main() -> None:
        unheard: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
        async with asyncio.timeout(scaled(seconds)):
            await scenario
        await asyncio.sleep(0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, left
        assert not unheard, unheard

    uvloop.run(main())


class Notes:
    """A handler that records its calls."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.unreachable: list[int] = []
        self.snapshots: list[tuple[int, bool]] = []
        self.removals = 0
        self.gone: set[int] = set()

    def receive(self, message: Message) -> None:
        self.messages.append(message)

    def report_unreachable(self, id: int) -> None:
        self.unreachable.append(id)

    def report_snapshot(self, id: int, ok: bool) -> None:
        self.snapshots.append((id, ok))

    def removed(self) -> None:
        self.removals += 1

    def is_removed(self, id: int) -> bool:
        return id in self.gone


class Member:
    """A listening transport and its handler."""

    def __init__(self, transport: Transport, notes: Notes, url: str, identity: Identity) -> None:
        self.transport = transport
        self.notes = notes
        self.url = url
        self.id = identity.id
        self.port = int(url.rsplit(":", 1)[1])

    async def is_joined_to(self, id: int) -> None:
        """Wait until both streams to that member are up, so that nothing goes by POST."""
        peer = self.transport.peer(id)
        assert peer is not None
        await until(lambda: peer._message_writer is not None and peer._msgapp_writer is not None)


@asynccontextmanager
async def member(
    id: int,
    directory: Path,
    *,
    port: int = 0,
    version: str = VERSION,
    cluster: int = CLUSTER,
    limits: Limits | None = None,
    api: MemberApi | None = None,
    tls: tuple[ssl.SSLContext, ssl.SSLContext | FixedTls] | None = None,
) -> AsyncIterator[Member]:
    """`tls`: for listening and for dialling."""
    scheme = "https" if tls else "http"
    dialer = FixedTls(tls[1]) if tls and isinstance(tls[1], ssl.SSLContext) else tls[1] if tls else None
    notes = Notes()
    identity = Identity(id, cluster, version, (f"{scheme}://127.0.0.1:1",))
    directory.mkdir(exist_ok=True)
    transport = Transport(
        identity,
        notes,
        snapshot_directory=directory,
        api=api,
        client_tls=dialer,
        limits=limits,
    )
    loop = asyncio.get_running_loop()
    server = await loop.create_server(transport.accept, "127.0.0.1", port, ssl=tls[0] if tls else None)
    host, bound = server.sockets[0].getsockname()
    try:
        yield Member(transport, notes, f"{scheme}://{host}:{bound}", identity)
    finally:
        server.close()
        await transport.close()


@asynccontextmanager
async def pair(directory: Path, **options: Any) -> AsyncIterator[tuple[Member, Member]]:
    """Members 1 and 2, with all four streams up."""
    async with member(1, directory / "1", **options) as one, member(2, directory / "2", **options) as two:
        one.transport.add_peer(2, [two.url])
        two.transport.add_peer(1, [one.url])
        await one.is_joined_to(2)
        await two.is_joined_to(1)
        yield one, two


@asynccontextmanager
async def fake(answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[str]:
    """The URL of a listener that runs `answer` for each connection, and then waits for its end."""
    lines: set[asyncio.StreamWriter] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.add(writer)
        try:
            await answer(reader, writer)
            await reader.read()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            lines.discard(writer)

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in lines:
            writer.transport.abort()
        await until(lambda: not lines)


async def hole(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """For `fake`: accept, and send nothing."""


async def exchange(port: int, request: bytes, *, half_close: bool = False) -> bytes:
    """Send raw bytes, return one response: up to its Content-Length, or to the end of the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        if half_close:
            writer.write_eof()
        head = await reader.readuntil(b"\r\n\r\n")
        status, headers, _ = split(head)
        length = "0" if status == 204 else headers.get("content-length")
        return head + (await reader.read() if length is None else await reader.readexactly(int(length)))
    except (ConnectionResetError, asyncio.IncompleteReadError):
        return b""
    finally:
        writer.close()


def request(method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"") -> bytes:
    """The bytes of a request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: x"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body or method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def split(response: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (lower-case names), body."""
    head, _, body = response.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    return int(status.split(" ")[1]), {name.lower(): value for name, value in headers.items()}, body


def entries(first: int, count: int, *, term: int = 3, size: int = 300) -> list[Entry]:
    return [Entry(term, index, index.to_bytes(8, "big") * (size // 8)) for index in range(first, first + count)]


def append(index: int, count: int, *, to: int = 2, from_: int = 1, term: int = 3, size: int = 300) -> Message:
    """A leader's MsgApp with `count` entries after `index`, in the middle of its term."""
    following = entries(index + 1, count, term=term, size=size)
    return Message(MessageType.APP, to, from_, term, term, index, following, index)
