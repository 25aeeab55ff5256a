"""The peer listener against slow, endless and malformed requests."""

from __future__ import annotations

import asyncio
import socket
import tracemalloc
from contextlib import suppress
from pathlib import Path

import pytest

from tercet.peer import Limits
from tercet.raft.codec import encode_message
from tests.peer.harness import CLUSTER, Notes, append, exchange, member, request, run, split
from tests.peer.test_member_questions import Api
from tests.support.waiting import scaled, until

HEADERS = {"X-Server-Version": "3.7.1", "X-Min-Cluster-Version": "3.0.0", "X-Etcd-Cluster-ID": f"{CLUSTER:x}"}
QUICK = Limits(read_timeout=0.3)


def post(body: bytes = b"", **headers: str) -> bytes:
    changes = {name.replace("_", "-"): text for name, text in headers.items()}
    return request("POST", "/raft", HEADERS | changes, body)


async def read_answer(reader: asyncio.StreamReader) -> int:
    """The status of the next response, whose body is read too."""
    status, headers, _ = split(await reader.readuntil(b"\r\n\r\n"))
    await reader.readexactly(int(headers.get("content-length", "0")))
    return status


async def write_on(writer: asyncio.StreamWriter, data: bytes) -> None:
    for _ in range(2000):
        writer.write(data)
        await writer.drain()


def test_one_connection_serves_many_requests_also_pipelined(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with member(2, tmp_path / "2") as two:
            reader, writer = await asyncio.open_connection("127.0.0.1", two.port)
            body = encode_message(append(0, 3))
            for _ in range(3):
                writer.write(post(body) + request("GET", "/raft/probing") + post(b"\xff") + request("GET", "/nothing"))
                assert [await read_answer(reader) for _ in range(4)] == [204, 200, 400, 404]
            assert two.notes.messages == [append(0, 3)] * 3
            writer.close()

    run(scenario())


def test_a_request_in_single_bytes(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with member(2, tmp_path / "2") as two:
            reader, writer = await asyncio.open_connection("127.0.0.1", two.port)
            for byte in post(encode_message(append(0, 1, size=64))):
                writer.write(bytes((byte,)))
                await asyncio.sleep(0)
            assert await read_answer(reader) == 204
            writer.close()

    run(scenario())


def test_expect_100_continue_is_answered(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with member(2, tmp_path / "2") as two:
            reader, writer = await asyncio.open_connection("127.0.0.1", two.port)
            body = encode_message(append(0, 1))
            head = post(body, Expect="100-continue")
            writer.write(head.removesuffix(body))
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(body)
            assert await read_answer(reader) == 204
            writer.close()

    run(scenario())


def test_a_client_that_half_closes_gets_its_answer(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with member(2, tmp_path / "2") as two:
            assert (await exchange(two.port, request("GET", "/raft/probing"), half_close=True)).startswith(b"HTTP/1.1 200 ")
            assert (await exchange(two.port, post(b"abc")[:-1], half_close=True)).startswith(b"HTTP/1.1 400 ")
            await until(lambda: not two.transport._connections)

    run(scenario())


@pytest.mark.parametrize(
    "head",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200) + b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",  # no Host
        b"POST /raft HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /raft HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /raft HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"GET /" + b"x" * 20_000,
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-A: b\r\n" * 5000,
    ],
)  # fmt: skip
def test_malformed_requests_end_the_connection(head: bytes, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with member(2, tmp_path / "2") as two:
            answer = await exchange(two.port, head)
            assert answer == b"" or 400 <= split(answer)[0] < 600
            await until(lambda: not two.transport._connections)

    run(scenario())


@pytest.mark.parametrize("sent", [b"", b"POST /raft HT", post(b"x" * 100)[:-50], post(b"")])
def test_a_silent_client_is_disconnected(sent: bytes, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with member(2, tmp_path / "2", limits=QUICK) as two:
            began = asyncio.get_running_loop().time()
            reader, writer = await asyncio.open_connection("127.0.0.1", two.port)
            writer.write(sent)
            with suppress(ConnectionResetError):
                await reader.read()
            assert 0.2 < asyncio.get_running_loop().time() - began < scaled(10)
            writer.close()

    run(scenario())


def test_an_endless_message_is_refused_in_bounded_memory(tmp_path: Path) -> None:
    """With a Content-Length and chunked; the refusal arrives while the sender still sends."""
    limits = Limits(post_bytes_max=1 << 20)

    async def scenario() -> None:
        async with member(2, tmp_path / "2", limits=limits) as two:
            for coding in ("Content-Length: 99999999999", "Transfer-Encoding: chunked"):
                reader, writer = await asyncio.open_connection("127.0.0.1", two.port)
                tracemalloc.start()
                writer.write(post().replace(b"Content-Length: 0", coding.encode()))
                piece = bytes(64 << 10)
                if "chunked" in coding:
                    piece = b"%x\r\n%b\r\n" % (len(piece), piece)
                refused = asyncio.ensure_future(reader.readuntil(b"\r\n\r\n"))
                with pytest.raises(OSError):  # noqa: PT011 - reset or broken pipe, as the kernel likes
                    await write_on(writer, piece)
                assert tracemalloc.get_traced_memory()[1] < 8 << 20
                tracemalloc.stop()
                assert (await refused).startswith(b"HTTP/1.1 400 ")
                writer.close()
            assert two.notes.messages == []
            await until(lambda: not two.transport._connections)

    run(scenario())


def test_all_bodies_being_received_share_one_limit(tmp_path: Path) -> None:
    limits = Limits(post_bytes_max=1 << 20, posts_bytes_max=2 << 20)

    async def scenario() -> None:
        async with member(2, tmp_path / "2", limits=limits) as two:
            body = encode_message(append(0, 1, size=900 << 10))
            lines = [await asyncio.open_connection("127.0.0.1", two.port) for _ in range(3)]
            for _, writer in lines:
                writer.write(post(body)[:-1])
            answers = [asyncio.ensure_future(read_answer(reader)) for reader, _ in lines]
            first, _ = await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
            assert [task.result() for task in first] == [400]
            for _, writer in lines:
                writer.close()
            await asyncio.gather(*answers, return_exceptions=True)
            await until(lambda: not two.transport._connections)
            assert two.transport._raft_endpoints._posts_bytes == 0
            assert split(await exchange(two.port, post(body)))[0] == 204

    run(scenario())


def test_a_client_that_does_not_read_is_disconnected(tmp_path: Path) -> None:
    class Talkative(Api):
        def versions(self) -> dict[str, str]:
            return {"etcdserver": "3" * 100_000}

    async def scenario() -> None:
        async with member(2, tmp_path / "2", limits=QUICK, api=Talkative()) as two:
            narrow = socket.socket()
            narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            narrow.setblocking(False)
            await asyncio.get_running_loop().sock_connect(narrow, ("127.0.0.1", two.port))
            reader, writer = await asyncio.open_connection(sock=narrow)
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            ask = request("GET", "/version") * 1000
            with pytest.raises(OSError):  # noqa: PT011
                await write_on(writer, ask)
            await until(lambda: not two.transport._connections)
            writer.close()
            del reader

    run(scenario())


def test_an_exception_in_the_handler_is_a_500_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def broken(message: object) -> None:
        raise RuntimeError("broken")

    async def scenario() -> None:
        async with member(2, tmp_path / "2") as two:
            two.notes.receive = broken  # type: ignore[method-assign, assignment]
            answer = await exchange(two.port, post(encode_message(append(0, 1))))
            assert split(answer)[::2] == (500, b"error processing raft message\n")
            assert isinstance(two.notes, Notes)

    run(scenario())
    assert "RuntimeError: broken" in caplog.text
    assert "Traceback" not in caplog.text


def test_close_cancels_requests_in_progress(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with member(2, tmp_path / "2") as two:
            reader, writer = await asyncio.open_connection("127.0.0.1", two.port)
            writer.write(post(b"x" * 100)[:-1])
            await until(lambda: any(connection._task for connection in two.transport._connections))
            await two.transport.close()
            assert not two.transport._connections
            writer.close()
            del reader

    run(scenario())
