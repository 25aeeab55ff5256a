"""Two transports: both streams, POST, reconnection, removal, TLS and limits."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tercet.peer import Limits
from tercet.peer.msgapp_stream import MsgAppDecoder
from tercet.peer.transport import strip_redundant
from tercet.raft.types import Message, MessageType
from tests.peer.harness import CLUSTER, Member, append, exchange, fake, hole, member, pair, request, run
from tests.peer.tls import FixedTls, contexts
from tests.support.ports import free_port
from tests.support.waiting import until

QUICK = Limits(redial_pause=0.02, probe_interval=0.05)
IMPATIENT = Limits(read_timeout=0.6, write_timeout=0.6, redial_pause=0.02)


def heartbeat(to: int, from_: int, term: int = 3) -> Message:
    return Message(MessageType.HEARTBEAT, to, from_, term)


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
            reader, writer = await _dial(one, "msgapp")
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


def test_a_restarted_peer_is_reconnected(tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    ("head", "removed"),
    [
        (f"410 Gone\r\nX-Etcd-Cluster-ID: {CLUSTER:x}", 1),
        (f"403 Forbidden\r\nX-Etcd-Cluster-ID: {CLUSTER:x}", 1),
        ("410 Gone\r\nX-Etcd-Cluster-ID: 1234", 0),
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
        ('403 Forbidden\r\nContent-Length: 56\r\n\r\n{"message":"cannot process message from removed member"}', 1),
        ('403 Forbidden\r\nContent-Length: 57\r\n\r\n{"message":"cannot process message to mismatch member"}  ', 0),
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
            writer.write(b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n")

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
            lines = [await _dial(one, "msgapp") for _ in range(100)]
            ended = await asyncio.gather(*(reader.read() for reader, _ in lines[:-1]), return_exceptions=True)
            assert len(ended) == 99  # closed by the member
            one.transport.send([append(0, 1)])
            reader, _ = lines[-1]
            assert b"\x02" in await reader.readuntil(b"\r\n\x02")
            for _, writer in lines:
                writer.close()

    run(scenario())


async def _dial(one: Member, kind: str, tls: ssl.SSLContext | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Dial a stream to `one` as member 2, by hand."""
    headers = {"X-Server-Version": "3.5.1", "X-Min-Cluster-Version": "3.0.0", "X-Etcd-Cluster-ID": f"{CLUSTER:x}"}
    reader, writer = await asyncio.open_connection("127.0.0.1", one.port, ssl=tls)
    writer.write(request("GET", f"/raft/stream/{kind}/2", headers | {"X-Raft-To": "1"}))
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
    return reader, writer


async def _dial_and_do_not_read(one: Member, kind: str, tls: ssl.SSLContext | None = None) -> asyncio.StreamWriter:
    _, writer = await _dial(one, kind, tls)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    return writer


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_peer_that_does_not_read_costs_a_bounded_number_of_bytes(encrypted: bool, tmp_path: Path) -> None:
    limits = Limits(stream_bytes_max=8 << 20)

    async def scenario() -> None:
        tls = contexts(tmp_path, client_certificate=True) if encrypted else None
        async with member(1, tmp_path / "1", limits=limits, tls=tls) as one:
            one.transport.add_peer(2, ["http://127.0.0.1:1"])
            writer = await _dial_and_do_not_read(one, "msgapp", tls[1] if tls else None)
            peer = one.transport.peer(2)
            assert peer is not None
            stream = peer._msgapp_writer
            assert stream is not None
            size = 256 << 10
            for index in range(300):  # 75 MiB
                one.transport.send([append(index, 1, size=size)])
                await asyncio.sleep(0)
            assert stream._transport.get_write_buffer_size() <= limits.stream_bytes_max + 2 * size
            assert one.notes.unreachable[0] == 2
            status = one.transport.status(2)
            assert status is not None
            assert status.sent_failures > 200
            writer.close()

    run(scenario())


def test_a_peer_that_does_not_read_costs_a_bounded_number_of_messages(tmp_path: Path) -> None:
    limits = Limits(stream_messages_max=50)

    async def scenario() -> None:
        async with member(1, tmp_path / "1", limits=limits) as one:
            one.transport.add_peer(2, ["http://127.0.0.1:1"])
            writer = await _dial_and_do_not_read(one, "message")
            while not one.notes.unreachable:
                one.transport.send([append(0, 1, size=64 << 10)])
                await asyncio.sleep(0)
            peer = one.transport.peer(2)
            assert peer is not None
            assert peer._message_writer is not None
            assert peer._message_writer._queued == 50
            writer.close()

    run(scenario())


def test_a_peer_that_does_not_read_is_disconnected(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with member(1, tmp_path / "1", limits=IMPATIENT) as one:
            one.transport.add_peer(2, ["http://127.0.0.1:1"])
            writer = await _dial_and_do_not_read(one, "message")
            peer = one.transport.peer(2)
            assert peer is not None
            one.transport.send([append(0, 1, size=16 << 20)])
            assert peer._message_writer is not None
            await until(lambda: peer._message_writer is None)
            await until(lambda: one.notes.unreachable == [2])
            assert one.transport.active_since(2) is None
            writer.close()

    run(scenario())


def test_a_member_that_is_down_costs_a_bounded_queue(tmp_path: Path) -> None:
    """Its port is closed, or accepts and never answers: at most 64 messages and a bounded number of bytes are queued."""
    limits = Limits(pipeline_bytes_max=1 << 20, post_timeout=0.05)

    async def scenario() -> None:
        async with member(1, tmp_path / "1", limits=limits) as one, fake(hole) as url:
            one.transport.add_remote(2, [url])
            remote = one.transport._remotes[2]
            for _ in range(200):
                one.transport.send([heartbeat(2, 1)])
            assert len(remote._pipeline._queue) == 64
            await until(lambda: not remote._pipeline._workers)
            for _ in range(100):
                one.transport.send([append(0, 1, size=128 << 10)])
            assert remote._pipeline._queued_bytes <= (1 << 20) + (130 << 10)
            await until(lambda: not remote._pipeline._workers)
            assert remote.status.sent_failures == 300

    run(scenario())


def test_messages_go_to_a_member_that_does_not_answer_one_at_a_time_and_else_four(tmp_path: Path) -> None:
    held: list[asyncio.StreamWriter] = []
    answers = 1

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal answers
        await reader.readuntil(b"\r\n\r\n")
        held.append(writer)
        if answers:
            answers -= 1
            writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")

    async def scenario() -> None:
        async with member(1, tmp_path / "1", limits=Limits(post_timeout=60)) as one, fake(answer) as url:
            one.transport.add_remote(2, [url])
            pipeline = one.transport._remotes[2]._pipeline
            one.transport.send([heartbeat(2, 1)] * 9)
            assert pipeline._workers == 1
            await until(lambda: len(held) == 5)  # the one that was answered, and four that wait
            assert pipeline._workers == 4
            for writer in held:
                writer.close()
            await until(lambda: len(held) == 6)  # of the failed ones a single one tries again
            assert pipeline._workers == 1

    run(scenario())


def test_an_outage_is_logged_twice(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="tercet.peer")

    async def scenario() -> None:
        async with pair(tmp_path, limits=QUICK) as (one, two):
            await two.transport.close()
            caplog.clear()
            await asyncio.sleep(0.5)  # about forty dials
            lines = [record.getMessage() for record in caplog.records if "peer 2" in record.getMessage()]
            assert len(lines) <= 4, lines
            assert all("\n" not in line for line in lines)
            assert not [record for record in caplog.records if record.exc_info]
            assert one.notes.removals == 0

    run(scenario())


def test_redundant_acknowledgements_are_dropped() -> None:
    def ack(index: int, *, to: int = 1, reject: bool = False) -> Message:
        return Message(MessageType.APP_RESP, to, 2, 3, index=index, reject=reject)

    batch = [ack(1), heartbeat(1, 2), ack(2), ack(9, reject=True), ack(3, to=4), ack(5)]
    assert strip_redundant(batch) == [batch[1], batch[3], batch[4], batch[5]]
    assert strip_redundant(iter([ack(1)])) == [ack(1)]
    assert strip_redundant([ack(9), ack(5), ack(4)]) == [ack(9), ack(5), ack(4)]
    assert strip_redundant([ack(4), ack(9), ack(5), ack(5)]) == [ack(9), ack(5)]


async def _is_refused(one: Member, id: int) -> None:
    """Wait until a dial to that member has failed; no stream may be up."""
    peer = one.transport.peer(id)
    assert peer is not None
    await until(lambda: peer.status._failures)
    assert one.transport.active_since(id) is None


@pytest.mark.parametrize("client_certificate", [True, False])
def test_mutual_tls(client_certificate: bool, tmp_path: Path) -> None:
    async def scenario() -> None:
        server, client = contexts(tmp_path, client_certificate=client_certificate)
        async with (
            member(1, tmp_path / "1", tls=(server, client), limits=QUICK) as one,
            member(2, tmp_path / "2", tls=(server, client), limits=QUICK) as two,
        ):
            one.transport.add_peer(2, [two.url])
            two.transport.add_peer(1, [one.url])
            if client_certificate:
                await one.is_joined_to(2)
                one.transport.send([append(0, 1000)])
                await until(lambda: two.notes.messages)
                assert two.notes.messages == [append(0, 1000)]
            else:
                await _is_refused(one, 2)
                await _is_refused(two, 1)

    run(scenario())


def test_a_renewed_certificate_is_used_for_the_next_dial(tmp_path: Path) -> None:
    """A certificate that was read once, at start, would leave the cluster without a leader after it has expired."""

    async def scenario() -> None:
        server, good = contexts(tmp_path, client_certificate=True)
        unusable = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(tmp_path / "ca.pem"))
        dialers = FixedTls(unusable), FixedTls(unusable)
        async with (
            member(1, tmp_path / "1", tls=(server, dialers[0]), limits=QUICK) as one,
            member(2, tmp_path / "2", tls=(server, dialers[1]), limits=QUICK) as two,
        ):
            one.transport.add_peer(2, [two.url])
            two.transport.add_peer(1, [one.url])
            await _is_refused(one, 2)
            await _is_refused(two, 1)
            for dialer in dialers:
                dialer.current = good
            await one.is_joined_to(2)

    run(scenario())


def test_a_peer_whose_certificate_is_refused_is_not_dialled(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        server, client = contexts(tmp_path, client_certificate=True)
        dialer = FixedTls(client, refusal="client certificate authentication failed")
        async with (
            member(1, tmp_path / "1", tls=(server, dialer), limits=QUICK) as one,
            member(2, tmp_path / "2", tls=(server, client), limits=QUICK) as two,
        ):
            one.transport.add_peer(2, [two.url])
            await until(lambda: "client certificate authentication failed" in caplog.text)
            assert one.transport.active_since(2) is None
            dialer.refusal = ""
            two.transport.add_peer(1, [one.url])
            await one.is_joined_to(2)

    run(scenario())


def test_https_peers_need_certificates(tmp_path: Path) -> None:
    async def scenario() -> None:
        server, client = contexts(tmp_path, client_certificate=True)
        async with (
            member(1, tmp_path / "1", limits=QUICK) as one,
            member(2, tmp_path / "2", tls=(server, client), limits=QUICK) as two,
        ):
            one.transport.add_peer(2, [two.url])  # https, and 1 has no certificates
            two.transport.add_peer(1, [one.url.replace("http:", "https:")])
            await _is_refused(one, 2)
            await _is_refused(two, 1)
            answer = await exchange(two.port, request("GET", "/raft/probing"))
            assert answer == b""

    run(scenario())
