"""Snapshots between members: complete or not at all, in bounded memory, and the result is reported to raft."""

from __future__ import annotations

import asyncio
import os
import struct
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tercet.peer import Limits, snapshot_path, snapshot_receiver
from tercet.raft.codec import encode_message
from tercet.raft.types import ConfState, Message, MessageType, Snapshot
from tests.peer.harness import CLUSTER, append, exchange, fake, hole, member, request, run, split
from tests.support.waiting import until

INDEX = 0x1234


def snapshot(to: int = 2, index: int = INDEX) -> Message:
    described = Snapshot(index, 3, ConfState((1, 2)), b'{"Root":{}}')
    return Message(MessageType.SNAP, to, 1, 3, snapshot=described)


class Database:
    """An async generator with a `finally`, like one over a view of the store."""

    def __init__(self, pieces: list[bytes], error: Exception | None = None) -> None:
        self.pieces = pieces
        self.error = error
        self.is_released = False

    async def __call__(self) -> AsyncIterator[bytes]:
        try:
            for piece in self.pieces:
                yield piece
                await asyncio.sleep(0)
            if self.error is not None:
                raise self.error
        finally:
            self.is_released = True


def headers(**changes: str) -> dict[str, str]:
    return {
        "X-Server-From": "1",
        "X-Server-Version": "3.7.1",
        "X-Min-Cluster-Version": "3.0.0",
        "X-Etcd-Cluster-ID": f"{CLUSTER:x}",
    } | changes


def test_a_snapshot_is_delivered_with_its_database(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with member(1, tmp_path / "1") as one, member(2, tmp_path / "2") as two:
            one.transport.add_remote(2, [two.url])
            pieces = [os.urandom(1000) for _ in range(3000)]
            database = Database(pieces)
            one.transport.send_snapshot(snapshot(), database())
            assert one.transport._snapshots == 1
            await until(lambda: one.notes.snapshots and not one.transport._snapshots)
            assert one.notes.snapshots == [(2, True)]
            assert two.notes.messages == [snapshot()]
            assert snapshot_path(tmp_path / "2", INDEX).read_bytes() == b"".join(pieces)
            assert os.listdir(tmp_path / "2") == ["0000000000001234.snap.db"]
            assert database.is_released

    run(scenario())


def test_a_second_snapshot_at_an_index_keeps_the_first_file(tmp_path: Path) -> None:
    """The owner may be opening it."""

    async def scenario() -> None:
        async with member(1, tmp_path / "1") as one, member(2, tmp_path / "2") as two:
            one.transport.add_remote(2, [two.url])
            for content in (b"first", b"second"):
                one.transport.send_snapshot(snapshot(), Database([content])())
                await until(lambda: not one.transport._snapshots)
            await until(lambda: len(one.notes.snapshots) == 2)
            assert len(two.notes.messages) == 2
            assert snapshot_path(tmp_path / "2", INDEX).read_bytes() == b"first"
            assert len(os.listdir(tmp_path / "2")) == 1

    run(scenario())


@pytest.mark.parametrize("fault", ["nobody there", "iterator fails", "empty", "receiver refuses", "unknown member"])
def test_a_failure_is_reported_and_leaves_nothing(fault: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with member(1, tmp_path / "1") as one, member(2, tmp_path / "2") as two:
            if fault != "unknown member":
                one.transport.add_remote(2, ["http://127.0.0.1:1" if fault == "nobody there" else two.url])
            if fault == "receiver refuses":
                two.notes.gone.add(1)
            pieces = [] if fault == "empty" else [bytes(1 << 20)] * 5
            database = Database(pieces, OSError("page 7") if fault == "iterator fails" else None)
            one.transport.send_snapshot(snapshot(), database())
            await until(lambda: one.notes.snapshots and database.is_released)
            assert one.notes.snapshots == [(2, False)]
            assert two.notes.messages == []
            await until(lambda: os.listdir(tmp_path / "2") == [])
            assert one.notes.removals == (1 if fault == "receiver refuses" else 0)
            assert one.notes.unreachable == ([] if fault == "unknown member" else [2])

    run(scenario())


def test_concurrent_snapshots_are_limited(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with member(1, tmp_path / "1", limits=Limits(snapshots_max=2)) as one, fake(hole) as url:
            one.transport.add_remote(2, [url])
            databases = [Database([bytes(100)]) for _ in range(3)]
            for database in databases:
                one.transport.send_snapshot(snapshot(), database())
            await until(lambda: one.notes.snapshots and databases[2].is_released)
            assert one.notes.snapshots == [(2, False)]
            assert one.transport._snapshots == 2
            await one.transport.close()
            assert all(database.is_released for database in databases)
            assert one.transport._snapshots == 0

    run(scenario())


def test_an_interrupted_transfer_leaves_no_file(tmp_path: Path) -> None:
    """The sender disconnects in the middle, stalls, or violates the chunked coding."""

    async def scenario() -> None:
        envelope = encode_message(snapshot())
        start = struct.pack(">Q", len(envelope)) + envelope + bytes(3 << 20)
        for end in ("close", "stall", "garbage"):
            limits = Limits(read_timeout=0.3 if end == "stall" else 60.0)
            async with member(2, tmp_path / "2", limits=limits) as two:
                reader, writer = await asyncio.open_connection("127.0.0.1", two.port)
                head = request("POST", "/raft/snapshot", headers(**{"Transfer-Encoding": "chunked"}))
                head = head.replace(b"Content-Length: 0\r\n", b"")
                writer.write(head + b"%x\r\n%b\r\n" % (len(start), start))
                await writer.drain()
                if end == "stall":
                    await reader.read()  # until the receiver closes
                else:
                    await until(lambda: os.listdir(tmp_path / "2"))
                if end == "close":
                    writer.close()
                elif end == "garbage":
                    writer.write(b"zz\r\n")
                    assert b" 500 " in await reader.readline()
                await until(lambda: not os.listdir(tmp_path / "2"))
                writer.close()
                assert two.notes.messages == []

    run(scenario())


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (struct.pack(">Q", 2**64 - 1), b"failed to decode raft message (the message before the database has 18446744"),
        (struct.pack(">Q", 3) + b"\xff\xff\xff", b"failed to decode raft message ("),
        (struct.pack(">Q", 100) + b"\x08", b"failed to decode raft message (unexpected EOF)"),
        (struct.pack(">Q", 2) + b"\x08\x07", b"wrong raft message type"),
    ],
)  # fmt: skip
def test_malformed_snapshot_requests_are_refused(body: bytes, answer: bytes, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with member(2, tmp_path / "2") as two:
            status, _, text = split(await exchange(two.port, request("POST", "/raft/snapshot", headers(), body)))
            assert status == 400
            assert text.startswith(answer)

    run(scenario())


def test_failures_of_unknown_senders_are_counted_together(tmp_path: Path) -> None:
    """One count for each id that somebody invents would grow without bound."""

    async def scenario() -> None:
        async with member(2, tmp_path / "2") as two:
            for sender in (0xE1, 0xE2):
                no_snapshot = encode_message(Message(MessageType.HEARTBEAT, 2, sender))
                body = struct.pack(">Q", len(no_snapshot)) + no_snapshot
                await exchange(two.port, request("POST", "/raft/snapshot", headers(), body))
            assert {one: count.failed for one, count in two.transport.receptions().items()} == {0: 2}

    run(scenario())


def test_a_full_disk_is_reported_to_the_sender(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(snapshot_receiver, "_finish", full)

    async def scenario() -> None:
        async with member(1, tmp_path / "1") as one, member(2, tmp_path / "2") as two:
            one.transport.add_remote(2, [two.url])
            one.transport.send_snapshot(snapshot(), Database([b"db"])())
            await until(lambda: one.notes.snapshots)
            assert one.notes.snapshots == [(2, False)]
            await until(lambda: os.listdir(tmp_path / "2") == [])
            assert two.notes.messages == []

    run(scenario())


def test_stale_transfers_are_removed_at_start(tmp_path: Path) -> None:
    async def scenario() -> None:
        directory = tmp_path / "2"
        directory.mkdir()
        (directory / "tmp-snap-abc").write_bytes(b"half")
        (directory / "0000000000000005.snap.db").write_bytes(b"whole")
        async with member(2, directory):
            assert os.listdir(directory) == ["0000000000000005.snap.db"]

    run(scenario())


def test_a_large_database_uses_bounded_memory(tmp_path: Path) -> None:
    async def scenario() -> None:
        piece = bytes(1 << 20)
        async with member(1, tmp_path / "1") as one, member(2, tmp_path / "2") as two:
            one.transport.add_remote(2, [two.url])
            tracemalloc.start()
            one.transport.send_snapshot(snapshot(), Database([piece] * 96)())
            await until(lambda: one.notes.snapshots)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert one.notes.snapshots == [(2, True)]
            assert snapshot_path(tmp_path / "2", INDEX).stat().st_size == 96 << 20
            assert peak < 24 << 20
            assert two.notes.messages == [snapshot()]

    run(scenario())


def test_messages_are_sent_during_a_snapshot(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with member(1, tmp_path / "1") as one, member(2, tmp_path / "2") as two:
            one.transport.add_remote(2, [two.url])
            one.transport.send_snapshot(snapshot(), Database([bytes(1 << 20)] * 20)())
            one.transport.send([append(0, 1)])
            await until(lambda: two.notes.messages)
            assert two.notes.messages[0].type == MessageType.APP
            await until(lambda: one.notes.snapshots)

    run(scenario())
