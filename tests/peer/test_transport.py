"""Two transports: both streams, POST, reconnection and removal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tercet.peer.msgapp_stream import MsgAppDecoder
from tercet.peer.transport import strip_redundant
from tercet.raft.types import Message, MessageType
from tests.peer.harness import CLUSTER, append, fake, member, pair, run
from tests.peer.streams_by_hand import IMPATIENT, QUICK, dial, heartbeat
from tests.support.ports import free_port
from tests.support.waiting import until


def test_messages_are_sent_both_ways(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with pair(tmp_path) as (one, two):
            sent = [append(0, 2), append(2, 3), heartbeat(2, 1), append(5, 0)]
            one.transport.send(sent)
            two.transport.send([Message(MessageType.APP_RESP, 1, 2, 3, index=5)])
            await until(lambda: len(two.notes.messages) == 4 and one.notes.messages)
            # Messages are ordered within a stream, not between the two.
            assert [message for message in two.notes.messages if message.type == MessageType.APP] == sent[:2] + sent[3:]
            assert one.notes.messages[0].index == 5
            assert one.notes.unreachable == two.notes.unreachable == []

    run(scenario())


def test_the_appends_of_a_turn_are_sent_in_one_chunk(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with member(1, tmp_path / "1") as one:
            one.transport.add_peer(2, ["http://127.0.0.1:1"])
            reader, writer = await dial(one, "msgapp")
            one.transport.send([append(0, 5), append(5, 5), append(10, 5)])
            size = int((await reader.readuntil(b"\r\n")).strip(), 16)
            decoder = MsgAppDecoder(remote=1, own=2)
            assert len(decoder.feed(await reader.readexactly(size))) == 3
            writer.close()

    run(scenario())


def test_before_any_stream_messages_go_by_post(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with member(1, tmp_path / "1") as one, member(2, tmp_path / "2") as two:
            one.transport.add_peer(2, [two.url])  # member 2 does not know member 1, and does not dial it
            sent = [append(index, 1) for index in range(10)]
            one.transport.send(sent)
            await until(lambda: len(two.notes.messages) == 10)
            assert sorted(message.index for message in two.notes.messages) == list(range(10))
            assert one.transport.active_since(2) is None
            two.transport.send([heartbeat(1, 2)])  # member 1 sent its address: it is a remote
            await until(lambda: two.transport.status(1) is not None)

    run(scenario())


def test_a_restarted_peer_is_reconnected(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with member(1, tmp_path / "1", limits=QUICK) as one:
            port = free_port()
            async with member(2, tmp_path / "2", port=port, limits=QUICK) as two:
                one.transport.add_peer(2, [two.url])
                two.transport.add_peer(1, [one.url])
                await one.is_joined_to(2)
                assert one.transport.active_since(2) is not None
            await until(lambda: one.transport.active_since(2) is None)
            assert 2 in one.notes.unreachable
            assert "lost TCP streaming connection with remote peer" in caplog.messages
            one.transport.send([heartbeat(2, 1)])  # lost, and reported
            reports = len(one.notes.unreachable)
            await until(lambda: len(one.notes.unreachable) > reports)
            async with member(2, tmp_path / "2", port=port, limits=QUICK) as two:
                two.transport.add_peer(1, [one.url])
                await one.is_joined_to(2)
                one.transport.send([append(0, 1)])
                await until(lambda: two.notes.messages)
                status = one.transport.status(2)
                assert status is not None
                assert status.disconnects == 1

    run(scenario())


def test_a_member_is_reached_at_any_of_its_urls(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with member(1, tmp_path / "1", limits=QUICK) as one, member(2, tmp_path / "2", limits=QUICK) as two:
            one.transport.add_peer(2, ["http://127.0.0.1:1", two.url])
            two.transport.add_peer(1, ["http://127.0.0.1:1"])
            await until(lambda: one.transport.active_since(2) is not None)  # dialled by 1 at the second URL
            assert two.transport.peer(1) is not None
            two.transport.update_peer(1, [one.url])
            await one.is_joined_to(2)

    run(scenario())


def test_heartbeats_keep_an_idle_stream_open(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with pair(tmp_path, limits=IMPATIENT) as (one, two):
            since = one.transport.active_since(2)
            await asyncio.sleep(IMPATIENT.read_timeout * 1.5)
            assert one.transport.active_since(2) == since
            assert one.notes.messages == two.notes.messages == []
            assert one.notes.unreachable == []

    run(scenario())


def test_round_trips_and_clocks_are_measured(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with pair(tmp_path, limits=QUICK) as (one, _):
            status = one.transport.status(2)
            assert status is not None
            await until(lambda: status.rtt is not None and sum(status.round_trip_counts) >= 2)
            assert status.rtt is not None
            assert status.clock_drift is not None
            assert 0 < status.rtt < status.round_trip_sum
            assert abs(status.clock_drift) <= status.rtt  # the same clock, read at any time of the round trip

    run(scenario())


def test_a_silent_stream_is_closed_and_dialled_again(tmp_path: Path) -> None:
    """The peer answers the dial, and then sends nothing, not even heartbeats."""

    async def scenario() -> None:
        dials = 0

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal dials
            if b"/raft/stream/" in await reader.readuntil(b"\r\n\r\n"):
                dials += 1
                writer.write(b"HTTP/1.1 200 OK\r\nX-Server-Version: 3.5.1\r\nTransfer-Encoding: chunked\r\n\r\n")

        async with member(1, tmp_path / "1", limits=IMPATIENT) as one, fake(answer) as url:
            one.transport.add_peer(2, [url])
            await until(lambda: dials >= 4)
            one.transport.remove_peer(2)

    run(scenario())


OURS = f"X-Etcd-Cluster-ID: {CLUSTER:x}\r\n"


@pytest.mark.parametrize(
    ("head", "removed"),
    [
        (f"410 Gone\r\nX-Etcd-Cluster-ID: {CLUSTER:x}", 1),
        (f"403 Forbidden\r\nX-Etcd-Cluster-ID: {CLUSTER:x}", 1),
        ("410 Gone\r\nX-Etcd-Cluster-ID: 1234", 0),
        ("403 Forbidden\r\nServer: a proxy", 0),
        (f"412 Precondition Failed\r\nX-Etcd-Cluster-ID: {CLUSTER:x}", 0),
        (f"404 Not Found\r\nX-Etcd-Cluster-ID: {CLUSTER:x}", 0),
        ("500 Oops", 0),
        ("200 OK\r\nX-Server-Version: 2.0.0\r\nTransfer-Encoding: chunked", 0),
        ("200 OK\r\nX-Server-Version: 3.7.1", 0),
    ],
)
def test_only_our_own_cluster_can_report_our_removal_to_a_dial(head: str, removed: int, tmp_path: Path) -> None:
    """It is reported once, however often the peer is dialled."""

    async def scenario() -> None:
        dials = 0

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal dials
            dials += b"/raft/stream/" in await reader.readuntil(b"\r\n\r\n")
            end = "\r\n\r\n" if "chunked" in head else "\r\nContent-Length: 4\r\n\r\ntext"
            writer.write(f"HTTP/1.1 {head}{end}".encode())

        async with member(1, tmp_path / "1", limits=IMPATIENT) as one, fake(answer) as url:
            one.transport.add_peer(2, [url])
            await until(lambda: dials >= 6)
            assert one.notes.removals == removed
            assert one.transport.active_since(2) is None

    run(scenario())


@pytest.mark.parametrize(
    ("answer", "removals"),
    [
        (f'403 Forbidden\r\n{OURS}Content-Length: 56\r\n\r\n{{"message":"cannot process message from removed member"}}', 1),
        (f'403 Forbidden\r\n{OURS}Content-Length: 57\r\n\r\n{{"message":"cannot process message to mismatch member"}}  ', 0),
        pytest.param(f"403 Forbidden\r\n{OURS}Content-Length: 5000\r\n\r\n{'[' * 5000}", 1, id="nested too deeply"),
        ("403 Forbidden\r\nServer: a proxy\r\nContent-Length: 9\r\n\r\nforbidden", 0),
        ("412 Precondition Failed\r\nContent-Length: 20\r\n\r\ncluster ID mismatch\n", 0),
        ("500 Internal Server Error\r\nContent-Length: 0\r\n\r\n", 0),
        ("204 No Content\r\n\r\n", None),
    ],
)
def test_only_our_own_cluster_can_report_our_removal_to_a_post(answer: str, removals: int | None, tmp_path: Path) -> None:
    async def scenario() -> None:
        posts = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal posts
            posts += (await reader.readuntil(b"\r\n\r\n")).startswith(b"POST /raft ")
            writer.write(f"HTTP/1.1 {answer}".encode())

        async with member(1, tmp_path / "1", limits=QUICK) as one, fake(serve) as url:
            one.transport.add_remote(2, [url])
            one.transport.send([heartbeat(2, 1)])
            await until(lambda: posts == 1 and one.notes.unreachable == ([] if removals is None else [2]))
            assert one.notes.removals == (removals or 0)

    run(scenario())


def test_an_unverified_remote_cannot_report_our_removal(tmp_path: Path) -> None:
    """Its address, known only from its own request, answers 410 to everything."""

    async def scenario() -> None:
        async def gone(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"HTTP/1.1 410 Gone\r\n{OURS}Content-Length: 0\r\n\r\n".encode())

        async with member(1, tmp_path / "1", limits=QUICK) as one, fake(gone) as url:
            one.transport.learn_remote(2, [url])
            one.transport.send([heartbeat(2, 1)])
            await until(lambda: one.notes.unreachable == [2])
            assert one.notes.removals == 0
            one.transport.add_peer(2, [url])  # now it is in the configuration
            await until(lambda: one.notes.removals == 1)

    run(scenario())


def test_messages_queued_for_a_remote_are_sent_when_it_becomes_a_peer(tmp_path: Path) -> None:
    """A joining member applies the entry that adds its leader right after it has acknowledged it."""

    async def scenario() -> None:
        async with member(1, tmp_path / "1") as one, member(2, tmp_path / "2") as two:
            one.transport.add_remote(2, [two.url])
            one.transport.send([heartbeat(2, 1)])
            one.transport.add_peer(2, [two.url])
            await until(lambda: two.notes.messages == [heartbeat(2, 1)])

    run(scenario())


def test_a_snapshot_to_an_unknown_member_fails(tmp_path: Path) -> None:
    async def database() -> AsyncIterator[bytes]:
        yield b""

    async def scenario() -> None:
        async with member(1, tmp_path / "1") as one:
            one.transport.send([heartbeat(9, 1), heartbeat(0, 1)])
            one.transport.send_snapshot(Message(MessageType.SNAP, 9, 1, 3), database())
            await until(lambda: one.notes.snapshots == [(9, False)])

    run(scenario())


def test_a_removed_peer_still_receives_what_was_written(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with pair(tmp_path) as (one, two):
            one.transport.send([append(0, 50)])
            one.transport.remove_peer(2)
            one.notes.gone.add(2)
            await until(lambda: two.notes.messages)
            await until(lambda: two.notes.removals)  # its next dial is answered 410
            one.transport.send([heartbeat(2, 1)])
            two.transport.remove_peer(1)
            assert two.notes.removals == 1
            assert len(two.notes.messages) == 1

    run(scenario())


def test_messages_of_a_removed_member_are_ignored(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with pair(tmp_path) as (one, two):
            two.notes.gone.add(1)
            one.transport.send([heartbeat(2, 1)])
            two.transport.send([heartbeat(1, 2)])
            await until(lambda: one.notes.messages)
            await asyncio.sleep(0.05)
            assert two.notes.messages == []

    run(scenario())


def test_a_new_stream_replaces_the_old_one(tmp_path: Path) -> None:
    """Many reconnections leave one stream of each kind."""

    async def scenario() -> None:
        async with member(1, tmp_path / "1") as one:
            one.transport.add_peer(2, ["http://127.0.0.1:1"])
            lines = [await dial(one, "msgapp") for _ in range(100)]
            ended = await asyncio.gather(*(reader.read() for reader, _ in lines[:-1]), return_exceptions=True)
            assert len(ended) == 99  # closed by the member
            one.transport.send([append(0, 1)])
            reader, _ = lines[-1]
            assert b"\x02" in await reader.readuntil(b"\r\n\x02")
            for _, writer in lines:
                writer.close()

    run(scenario())


def test_redundant_acknowledgements_are_dropped() -> None:
    def ack(index: int, *, to: int = 1, reject: bool = False) -> Message:
        return Message(MessageType.APP_RESP, to, 2, 3, index=index, reject=reject)

    batch = [ack(1), heartbeat(1, 2), ack(2), ack(9, reject=True), ack(3, to=4), ack(5)]
    assert strip_redundant(batch) == [batch[1], batch[3], batch[4], batch[5]]
    assert strip_redundant(iter([ack(1)])) == [ack(1)]
    assert strip_redundant([ack(9), ack(5), ack(4)]) == [ack(9), ack(5), ack(4)]
    assert strip_redundant([ack(4), ack(9), ack(5), ack(5)]) == [ack(9), ack(5)]
