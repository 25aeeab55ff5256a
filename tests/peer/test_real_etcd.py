"""A follower that is only our transport joins a real etcd 3.5.1: streams, appends, acknowledgements, a snapshot.

The follower keeps no log: it acknowledges whatever follows what it has seen. That is enough for etcd to count it as a voter.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import grpc

from tercet.bolt import BoltFile
from tercet.peer import Identity, Limits, PeerClient, Transport, snapshot_path
from tercet.proto import internal_pb2, rpc_pb2
from tercet.raft.types import ConfState, Message, MessageType, Snapshot
from tests.peer.harness import Notes, run
from tests.support.etcd import Etcd, running_etcd
from tests.support.ports import free_port
from tests.support.waiting import scaled, until


class Follower(Notes):
    """A voter that accepts everything."""

    def __init__(self, id: int) -> None:
        super().__init__()
        self.id = id
        self.transport: Transport
        self.term = 0
        self.last = 0
        self.commit = 0
        self.data: list[bytes] = []

    def receive(self, message: Message) -> None:
        super().receive(message)
        self.term = max(self.term, message.term)
        answer = Message(MessageType.APP_RESP, message.from_, self.id, self.term)
        if message.type == MessageType.APP:
            if message.index > self.last:
                answer.index, answer.reject, answer.reject_hint = message.index, True, self.last
            else:
                for entry in message.entries:
                    if entry.index > self.last:
                        self.last = entry.index
                        self.data.append(entry.data)
                self.commit = max(self.commit, message.commit)
                answer.index = message.index + len(message.entries)
        elif message.type == MessageType.SNAP:
            assert message.snapshot is not None
            self.last = self.commit = answer.index = message.snapshot.index
        elif message.type == MessageType.HEARTBEAT:
            answer.type, answer.context = MessageType.HEARTBEAT_RESP, message.context
        elif message.type in (MessageType.VOTE, MessageType.PRE_VOTE):
            answer.type = MessageType(message.type + 1)
        else:
            return
        self.transport.send([answer])


@contextmanager
def leader(directory: Path, *flags: str) -> Iterator[Etcd]:
    pace = ("--heartbeat-interval=50", "--election-timeout=5000")
    with running_etcd(directory, "--strict-reconfig-check=false", *pace, *flags) as running:
        yield running


@asynccontextmanager
async def joined(real: Etcd, directory: Path) -> Any:
    """The follower as a member of the real one's cluster, by `etcdctl member add`."""
    assert real.id  # read while it still has a quorum alone
    url = f"http://127.0.0.1:{free_port()}"
    added = await asyncio.to_thread(real.ctl_json, "member", "add", "ours", f"--peer-urls={url}")
    own_id = added["member"]["ID"]
    async with PeerClient() as client:
        view = await client.members([real.peer_url])
    assert view.cluster_id == real.cluster_id
    follower = Follower(own_id)
    identity = Identity(own_id, view.cluster_id, "3.7.1", (url,))
    directory.mkdir()
    transport = Transport(identity, follower, snapshot_directory=directory, limits=Limits(probe_interval=0.1))
    follower.transport = transport
    server = await asyncio.get_running_loop().create_server(transport.accept, "127.0.0.1", int(url.rsplit(":", 1)[1]))
    try:
        transport.add_peer(real.id, [real.peer_url])
        yield follower
    finally:
        server.close()
        await transport.close()


def put_of(data: bytes) -> tuple[bytes, bytes]:
    request = internal_pb2.InternalRaftRequest.FromString(data)
    return request.put.key, request.put.value


def fill(real: Etcd, count: int) -> None:
    """Append `count` entries to its log."""
    with grpc.insecure_channel(real.client_url.removeprefix("http://")) as channel:
        put = channel.unary_unary("/etcdserverpb.KV/Put")
        waiting = [put.future(rpc_pb2.PutRequest(key=b"k%d" % n, value=b"v").SerializeToString()) for n in range(count)]
        for each in waiting:
            each.result(timeout=scaled(15))


def test_a_real_leader_replicates_to_our_transport(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with joined(real, tmp_path / "snap") as follower:
            peer = follower.transport.peer(real.id)
            # All four streams: etcd dials ours within a fraction of a second.
            await until(lambda: peer._message_writer and peer._msgapp_writer)
            await until(lambda: follower.transport.active_since(real.id) is not None)
            # Two voters: etcd commits nothing without our acknowledgements, and reads nothing without our heartbeat answers.
            for number in range(20):
                await asyncio.to_thread(real.ctl_json, "put", f"key{number}", "x" * 100 * number)
            got = await asyncio.to_thread(real.ctl_json, "get", "key7")
            assert got["count"] == 1
            await until(lambda: follower.commit == follower.last)
            puts = [put_of(data) for data in follower.data[-20:]]
            assert puts == [(f"key{number}".encode(), b"x" * 100 * number) for number in range(20)]
            status = follower.transport.status(real.id)
            await until(lambda: status.rtt is not None)
            assert abs(status.clock_drift) < 1
            assert status.received_failures == status.sent_failures == 0
            assert follower.unreachable == []
            kinds = {message.type for message in follower.messages}
            assert {MessageType.APP, MessageType.HEARTBEAT} <= kinds
            # We are removed: etcd answers 410 to the next dial, after it has closed the streams.
            own = f"{follower.id:x}"
            await asyncio.to_thread(real.ctl_json, "member", "remove", own)
            await until(lambda: follower.removals == 1)

    with leader(tmp_path) as real:
        run(scenario())


def test_a_real_leader_sends_us_its_database(tmp_path: Path) -> None:
    """It has compacted its log (it keeps 5000 entries), so a new member needs a snapshot."""

    async def scenario() -> None:
        await asyncio.to_thread(fill, real, 5300)
        async with joined(real, tmp_path / "snap") as follower:
            await until(lambda: any(message.type == MessageType.SNAP for message in follower.messages))
            [message] = [message for message in follower.messages if message.type == MessageType.SNAP]
            assert set(message.snapshot.conf_state.voters) == {real.id, follower.id}
            assert "members" in json.loads(message.snapshot.data)["Root"]["Children"]["0"]["Children"]
            with BoltFile(snapshot_path(tmp_path / "snap", message.snapshot.index)) as file:
                assert b"key" in list(file.buckets())
            await asyncio.to_thread(real.ctl_json, "put", "after", "z")
            await until(lambda: follower.data and put_of(follower.data[-1]) == (b"after", b"z"))
            assert follower.last > message.snapshot.index

    with leader(tmp_path, "--snapshot-count", "100") as real:
        run(scenario())


def test_a_real_member_stores_the_database_we_send(tmp_path: Path) -> None:
    """Its raft drops the message, which is from an old term; the test is that it parses both parts."""

    async def scenario() -> None:
        pieces = [bytes((n,)) * 100_000 for n in range(30)]

        async def database() -> AsyncIterator[bytes]:
            for piece in pieces:
                yield piece

        notes = Notes()
        identity = Identity(0xAB, real.cluster_id, "3.5.1", ("http://127.0.0.1:1",))
        transport = Transport(identity, notes, snapshot_directory=tmp_path)
        transport.add_remote(real.id, [real.peer_url])
        snapshot = Snapshot(0x77, 1, ConfState((real.id,)))
        transport.send_snapshot(Message(MessageType.SNAP, real.id, 0xAB, 1, snapshot=snapshot), database())
        await until(lambda: notes.snapshots)
        assert notes.snapshots == [(real.id, True)]
        stored = real.data / "member" / "snap" / "0000000000000077.snap.db"
        assert stored.read_bytes() == b"".join(pieces)
        await transport.close()

    with leader(tmp_path) as real:
        run(scenario())


def test_a_real_member_reconnects_after_a_broken_stream(tmp_path: Path) -> None:
    """One that belongs to another cluster is refused, and does not consider itself removed."""

    async def scenario() -> None:
        async with joined(real, tmp_path / "snap") as follower:
            peer = follower.transport.peer(real.id)
            await until(lambda: peer._message_writer and peer._msgapp_writer)
            first = peer._message_writer
            peer._message_writer.close("test")
            peer._msgapp_writer.close("test")
            await until(lambda: peer._message_writer not in (None, first) and peer._msgapp_writer)

            outsider = Notes()
            identity = Identity(follower.id, real.cluster_id + 1, "3.7.1", ("http://127.0.0.1:1",))
            other = Transport(identity, outsider, snapshot_directory=tmp_path)
            other.add_peer(real.id, [real.peer_url])
            other.send([Message(MessageType.HEARTBEAT, real.id, follower.id, 99)])
            await until(lambda: outsider.unreachable == [real.id])
            assert outsider.removals == 0
            assert other.active_since(real.id) is None
            await other.close()
            await asyncio.to_thread(real.ctl_json, "put", "after", "z")

    with leader(tmp_path) as real:
        run(scenario())
