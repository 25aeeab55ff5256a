"""A peer that does not read, does not answer or is down costs a bounded queue, and one line of the log."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from tercet.peer import Limits
from tests.peer.harness import append, fake, hole, member, pair, run
from tests.peer.streams_by_hand import IMPATIENT, QUICK, dial_and_do_not_read, heartbeat
from tests.peer.tls import contexts
from tests.support.waiting import until


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_peer_that_does_not_read_costs_a_bounded_number_of_bytes(encrypted: bool, tmp_path: Path) -> None:
    limits = Limits(stream_bytes_max=8 << 20)

    async def scenario() -> None:
        tls = contexts(tmp_path, client_certificate=True) if encrypted else None
        async with member(1, tmp_path / "1", limits=limits, tls=tls) as one:
            one.transport.add_peer(2, ["http://127.0.0.1:1"])
            writer = await dial_and_do_not_read(one, "msgapp", tls[1] if tls else None)
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
            writer = await dial_and_do_not_read(one, "message")
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
            writer = await dial_and_do_not_read(one, "message")
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
            about: list[dict[str, str]] = [getattr(record, "fields", {}) for record in caplog.records]
            lines = [line for line in about if line.get("remote-peer-id") == "2"]
            assert 1 <= len(lines) <= 8, lines  # two links are lost, and two things fail
            assert all("\n" not in line.get("error", "") for line in lines)
            assert not [record for record in caplog.records if record.exc_info]
            assert one.notes.removals == 0

    run(scenario())
