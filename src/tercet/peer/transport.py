"""One member's transport: sends raft's messages to its peers, and delivers theirs.

    leader                                         follower
    transport.send([MsgApp...])  --- stream --->   handler.receive(MsgApp)
    handler.receive(MsgAppResp)  <-- stream ----   transport.send([MsgAppResp])

`send` never waits, and its queues are bounded: what does not fit is dropped and reported, since raft retries. Everything runs
on one event loop; every task belongs to this object and has ended when `close` returns.

The protocol is etcd's, whose members can be peers (server/etcdserver/api/rafthttp).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from tercet.http1.client import DialTls, HttpClient
from tercet.http1.server import Request, Response, ServerConnection, StreamResponse, text_response
from tercet.peer.context import Context, Handler, Limits
from tercet.peer.headers import Identity
from tercet.peer.member_endpoints import MemberApi, MemberEndpoints
from tercet.peer.peer import Peer, Remote
from tercet.peer.raft_endpoints import RaftEndpoints
from tercet.peer.snapshot_receiver import remove_stale
from tercet.peer.snapshot_sender import discard_database
from tercet.peer.status import PeerStatus, Receptions
from tercet.peer.stream_writer import StreamWriter
from tercet.peer.tasks import Tasks
from tercet.raft.types import Message, MessageType

logger = logging.getLogger(__name__)

_APP_RESP: Final = MessageType.APP_RESP


class Transport:
    """Belongs to the loop it was made in.

    api: answers /members, /version and the like; without it the listener serves only /raft.
    snapshot_directory: received databases are stored here, as `%016x.snap.db`.
    client_tls: for https peer URLs, with this member's certificate.
    dial_timeout: seconds; etcd's is an election timeout and one second.
    local_address: the IP address to dial from; "" for the one that the system chooses.
    reaches: as in HttpClient.
    """

    def __init__(
        self,
        identity: Identity,
        handler: Handler,
        *,
        snapshot_directory: Path,
        api: MemberApi | None = None,
        client_tls: DialTls | None = None,
        dial_timeout: float = 2.0,
        local_address: str = "",
        reaches: Callable[[str], bool] | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._client = HttpClient(client_tls, dial_timeout=dial_timeout, local_address=local_address, reaches=reaches)
        self._context = Context(identity, handler, self._client, snapshot_directory, limits or Limits())
        self._raft_endpoints = RaftEndpoints(self._context, self)
        self._member_endpoints = MemberEndpoints(identity.cluster_id, api) if api is not None else None
        self._connections: set[ServerConnection] = set()
        self._peers: dict[int, Peer] = {}
        self._remotes: dict[int, Remote] = {}
        self._tasks = Tasks()
        self._snapshots = 0
        self._closed = False
        remove_stale(snapshot_directory)

    def accept(self, first_chunk: bytes = b"") -> asyncio.Protocol:
        """The protocol of a connection to this member's peer listener. first_chunk: what has been read from it already."""
        return ServerConnection(self._answer, self._connections, self._context.limits.read_timeout, first_chunk)

    # Members

    def add_peer(self, id: int, urls: Sequence[str]) -> None:
        """Dial and probe a member of the configuration, unless it is known already. Raises ValueError for bad URLs."""
        if self._closed or id == self._context.identity.id or id in self._peers:
            return
        self._peers[id] = Peer(id, urls, self._context)
        self._context.unverified.discard(id)
        remote = self._remotes.pop(id, None)
        if remote is not None:
            # Its queue may hold the acknowledgement of the very entries that made it a member.
            self._tasks.spawn(remote.drain(), f"last messages to {id:x}")

    def update_peer(self, id: int, urls: Sequence[str]) -> None:
        """Set a member's URLs; open streams stay open. Raises ValueError for bad URLs, KeyError for an unknown id."""
        self._peers[id].update(urls)

    def remove_peer(self, id: int) -> None:
        """The member left the configuration: what is written already may still be sent."""
        for known in (self._peers, self._remotes):
            gone = known.pop(id, None)
            self._context.unverified.discard(id)
            if gone is not None:
                self._retire(gone)

    def add_remote(self, id: int, urls: Sequence[str]) -> None:
        """A member known only by address: it is answered by POST until `add_peer`. Bad URLs are logged, not raised."""
        self._context.unverified.discard(id)
        self._add_remote(id, urls)

    def learn_remote(self, id: int, urls: Sequence[str]) -> None:
        """`add_remote` for a member known only from its own request, whose claim that this member was removed is ignored."""
        if id not in self._peers and id not in self._remotes:
            self._add_remote(id, urls)
            if id in self._remotes:
                self._context.unverified.add(id)

    def peer(self, id: int) -> Peer | None:
        return self._peers.get(id)

    @property
    def peers(self) -> list[int]:
        """The ids added by `add_peer`, ascending."""
        return sorted(self._peers)

    def receptions(self) -> Mapping[int, Receptions]:
        """Snapshots received, by sender; 0: from a sender that is not known."""
        return self._raft_endpoints.receptions

    def active_since(self, id: int) -> float | None:
        """The loop.time() since which a member has been connected; None if it is not."""
        peer = self._peers.get(id)
        return peer.status.active_since if peer is not None else None

    def status(self, id: int) -> PeerStatus | None:
        """A member's counters, round trip and clock drift; live."""
        known = self._peers.get(id) or self._remotes.get(id)
        return known.status if known is not None else None

    # Sending

    def send(self, messages: Sequence[Message]) -> None:
        """Send a turn's messages, with one write per stream. Those to unknown or removed members are dropped.

        A MsgSnap is sent by `send_snapshot`.
        """
        dirty: list[StreamWriter] = []
        for message in strip_redundant(messages) if len(messages) > 1 else messages:
            target: Remote | None = self._peers.get(message.to) or self._remotes.get(message.to)
            if target is None:
                continue
            writer = target.send(message)
            if writer is not None and writer not in dirty:
                dirty.append(writer)
        for writer in dirty:
            writer.flush()

    def send_snapshot(self, message: Message, database: AsyncIterator[bytes]) -> None:
        """Send a MsgSnap and its database; `Handler.report_snapshot` gets the result. `database` is always closed."""
        target = self._peers.get(message.to) or self._remotes.get(message.to)
        if target is None or self._closed or self._snapshots >= self._context.limits.snapshots_max:
            self._tasks.spawn(discard_database(database), "close of a snapshot that is not sent")
            self._context.snapshot_sent(message.to, False)
            return
        self._snapshots += 1
        self._tasks.spawn(self._send_snapshot(target, message, database), f"snapshot to {message.to:x}")

    # Closing

    async def close(self) -> None:
        """Stop dialling and sending, and close all connections. Returns after the last task has ended, a second at most."""
        self._closed = True
        self._context.close()
        known: list[Remote] = [*self._peers.values(), *self._remotes.values()]
        self._peers.clear()
        self._remotes.clear()
        for one in known:
            one.stop()
        await asyncio.gather(*(connection.close() for connection in list(self._connections)))
        await self._tasks.close()
        await asyncio.gather(*(one.wait_stopped() for one in known))
        await self._client.close()

    def _add_remote(self, id: int, urls: Sequence[str]) -> None:
        if self._closed or not id or id == self._context.identity.id or id in self._peers or id in self._remotes:
            return
        if len(self._remotes) >= self._context.limits.remotes_max or self._context.is_removed(id):
            return
        try:
            self._remotes[id] = Remote(id, urls, self._context)
        except ValueError as error:
            logger.warning("cannot answer member %x: %s", id, error)

    def _retire(self, remote: Remote) -> None:
        remote.stop()
        self._tasks.spawn(remote.wait_stopped(), f"stop of {remote.id:x}")

    async def _send_snapshot(self, target: Remote, message: Message, database: AsyncIterator[bytes]) -> None:
        try:
            await target.send_snapshot(message, database)
        finally:
            self._snapshots -= 1

    async def _answer(self, request: Request) -> Response | StreamResponse:
        answer: Response | StreamResponse | None = await self._raft_endpoints.answer(request)
        if answer is None and self._member_endpoints is not None:
            answer = await self._member_endpoints.answer(request)
        return answer if answer is not None else text_response(404, "404 page not found")


def strip_redundant(messages: Iterable[Message]) -> list[Message]:
    """Drop each append acknowledgement that is covered by a later one of the same batch to the same member.

    Rejections stay: they carry a hint.
    """
    batch = list(messages)
    if len(batch) < 2:
        return batch
    kept: list[Message] = []
    acknowledged: dict[tuple[int, int], int] = {}
    for message in reversed(batch):
        if message.type == _APP_RESP and not message.reject:
            key = (message.to, message.term)
            if message.index <= acknowledged.get(key, -1):
                continue
            acknowledged[key] = message.index  # a later one may be lower: it answers an append that was sent again
        kept.append(message)
    kept.reverse()
    return kept
