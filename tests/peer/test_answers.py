"""The answers to bad requests under /raft, compared with etcd 3.5.1 byte for byte."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tercet.peer.prober import parse_probe, probe_answer
from tercet.raft.codec import encode_message
from tercet.raft.types import ConfState, Message, MessageType, Snapshot
from tests.peer.harness import CLUSTER, append, exchange, member, request, run, split
from tests.support.etcd import Etcd
from tests.support.waiting import until

OWN = 7
_FROM_REMOVED = b'{"message":"cannot process message from removed member"}'
_TO_MISMATCH = b'{"message":"cannot process message to mismatch member"}'


def good(cluster: int = CLUSTER, **changes: str) -> dict[str, str]:
    """The headers of an acceptable request from member ab; `changes` by names with underscores."""
    headers = {
        "X-Server-From": "ab",
        "X-Server-Version": "3.7.1",
        "X-Min-Cluster-Version": "3.0.0",
        "X-Etcd-Cluster-ID": f"{cluster:x}",
    }
    return headers | {name.replace("_", "-"): text for name, text in changes.items()}


def envelope(message: bytes) -> bytes:
    return struct.pack(">Q", len(message)) + message


# Name, method, path, changed headers, body; status and body of the answer.
_CASES = [
    ("raft wants POST", "GET", "/raft", {}, b"", 405, b"Method Not Allowed\n"),
    ("method before version", "PUT", "/raft", {"X_Server_Version": "1.0.0"}, b"", 405, b"Method Not Allowed\n"),
    ("no version", "POST", "/raft", {"X_Server_Version": ""}, b"", 412, b"incompatible version\n"),
    ("too old", "POST", "/raft", {"X_Server_Version": "2.3.8"}, b"", 412, b"incompatible version\n"),
    ("too new", "POST", "/raft", {"X_Min_Cluster_Version": "9.0.0"}, b"", 412, b"incompatible version\n"),
    ("order", "POST", "/raft", {"X_Server_Version": "2.3.8", "X_Etcd_Cluster_ID": "1"}, b"", 412, b"incompatible version\n"),
    ("other cluster", "POST", "/raft", {"X_Etcd_Cluster_ID": "1"}, b"", 412, b"cluster ID mismatch\n"),
    ("no message", "POST", "/raft", {}, b"\xff\xff", 400, b"error unmarshalling raft message\n"),
    ("snapshot wants POST", "GET", "/raft/snapshot", {}, b"", 405, b"Method Not Allowed\n"),
    ("snapshot, other cluster", "POST", "/raft/snapshot", {"X_Etcd_Cluster_ID": "1"}, b"", 412, b"cluster ID mismatch\n"),
    ("half a length", "POST", "/raft/snapshot", {}, b"\0\0", 400, b"failed to decode raft message (unexpected EOF)\n"),
    ("no snapshot", "POST", "/raft/snapshot", {}, envelope(b"\x08\x08"), 400, b"wrong raft message type\n"),
    ("stream wants GET", "POST", "/raft/stream/message/ab", {}, b"", 405, b"Method Not Allowed\n"),
    ("stream, too old", "GET", "/raft/stream/message/ab", {"X_Server_Version": "2.3.8"}, b"", 412, b"incompatible version\n"),
    ("stream, other cluster", "GET", "/raft/stream/foo/ab", {"X_Etcd_Cluster_ID": "1"}, b"", 412, b"cluster ID mismatch\n"),
    ("no such stream", "GET", "/raft/stream/foo/ab", {}, b"", 404, b"invalid path\n"),
    ("a stream without a sender", "GET", "/raft/stream/message", {}, b"", 404, b"invalid path\n"),
    ("a stream and more", "GET", "/raft/stream/message/ab/", {}, b"", 404, b"invalid path\n"),
    ("no id", "GET", "/raft/stream/msgapp/xyz", {}, b"", 404, b"invalid from\n"),
    ("an unknown sender", "GET", "/raft/stream/msgapp/ab", {}, b"", 404, b"error sender not found\n"),
    ("unknown path", "GET", "/raft/nothing", {}, b"", 404, b"404 page not found\n"),
    ("slash", "GET", "/members/", {}, b"", 404, b"404 page not found\n"),
]  # fmt: skip


def test_refusals_are_etcds(shared_etcd: Etcd, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with member(OWN, tmp_path / "own", cluster=shared_etcd.cluster_id, version="3.5.1") as own:
            for name, method, path, changes, body, status, text in _CASES:
                asked = request(method, path, good(shared_etcd.cluster_id, **changes), body)
                ours = split(await exchange(own.port, asked))
                theirs = split(await exchange(shared_etcd.peer_port, asked))
                for answer in (ours, theirs):
                    answer[1].pop("date")
                assert ours == theirs, name
                assert (ours[0], ours[2]) == (status, text), name

    run(scenario())


def test_an_accepted_message_is_answered_as_by_etcd(shared_etcd: Etcd, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with member(shared_etcd.id, tmp_path / "own", cluster=shared_etcd.cluster_id) as own:
            body = encode_message(Message(MessageType.HEARTBEAT, shared_etcd.id, 0xAB))
            asked = request("POST", "/raft", good(shared_etcd.cluster_id), body)
            ours, theirs = split(await exchange(own.port, asked)), split(await exchange(shared_etcd.peer_port, asked))
            assert ours[0] == theirs[0] == 204
            assert set(ours[1]) == set(theirs[1]) == {"x-etcd-cluster-id", "date"}
            assert [message.from_ for message in own.notes.messages] == [0xAB]

    run(scenario())


def test_messages_from_removed_members_or_for_others_are_refused(tmp_path: Path) -> None:
    """Answers that depend on the membership, or are newer than 3.5.1."""

    async def scenario() -> None:
        async with member(OWN, tmp_path / "own") as own:
            own.notes.gone.add(0xAB)
            own.transport.add_peer(0xCD, ["http://127.0.0.1:1"])
            snapshot = Message(MessageType.SNAP, OWN, 0xAB, snapshot=Snapshot(5, 1, ConfState((1,))))
            to_us = append(0, 1, to=OWN, from_=0xAB)
            for method, path, changes, body, status, text in [
                ("GET", "/raft/stream/message/ab", {}, b"", 410, b"removed member\n"),
                ("GET", "/raft/stream/message/cd", {"X_Raft_To": "8"}, b"", 412, b"to field mismatch\n"),
                ("GET", "/raft/stream/message/cd", {}, b"", 412, b"to field mismatch\n"),
                ("POST", "/raft", {}, encode_message(to_us), 403, _FROM_REMOVED),
                ("POST", "/raft/snapshot", {}, envelope(encode_message(snapshot)) + b"db", 403, _FROM_REMOVED),
                ("POST", "/raft", {}, encode_message(append(0, 1, to=8, from_=0xCD)), 403, _TO_MISMATCH),
            ]:  # fmt: skip
                answer = split(await exchange(own.port, request(method, path, good(**changes), body)))
                assert (answer[0], answer[2]) == (status, text)
                assert answer[1]["x-etcd-cluster-id"] == f"{CLUSTER:x}"
            assert own.notes.messages == []
            assert list((tmp_path / "own").iterdir()) == []

    run(scenario())


def test_local_messages_are_dropped_and_accepted(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with member(OWN, tmp_path / "own") as own:
            for kind in (MessageType.HUP, MessageType.BEAT, MessageType.UNREACHABLE, MessageType.CHECK_QUORUM):
                body = encode_message(Message(kind, OWN, 0xAB))
                assert split(await exchange(own.port, request("POST", "/raft", good(), body)))[0] == 204
            assert own.notes.messages == []

    run(scenario())


def test_a_snapshot_message_without_a_snapshot_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with member(OWN, tmp_path / "own") as own:
            body = encode_message(Message(MessageType.SNAP, OWN, 0xAB))
            assert split(await exchange(own.port, request("POST", "/raft", good(), body)))[0] == 403
            assert own.notes.messages == []

    run(scenario())


def test_a_sender_that_gives_its_address_becomes_a_remote(tmp_path: Path) -> None:
    """Messages to it go by POST. Bad addresses, and senders over the limit, are ignored."""

    async def scenario() -> None:
        async with member(OWN, tmp_path / "own") as own, member(0xAB, tmp_path / "sender") as sender:
            headers = good(X_PeerURLs=f"{sender.url},http://127.0.0.1:1", X_Raft_To=f"{OWN:x}")
            assert split(await exchange(own.port, request("GET", "/raft/stream/message/ab", headers)))[0] == 404
            own.transport.send([Message(MessageType.HEARTBEAT, 0xAB, OWN)])
            await until(lambda: sender.notes.messages)
            assert own.transport.peers == []
            for sender_id in range(1000, 1200):
                headers = good(X_Server_From=f"{sender_id:x}", X_PeerURLs="http://127.0.0.1:1" if sender_id % 2 else "nonsense")
                body = encode_message(Message(MessageType.HEARTBEAT, OWN, sender_id))
                assert split(await exchange(own.port, request("POST", "/raft", headers, body)))[0] == 204
            assert len(own.transport._remotes) == 64
            own.transport.add_peer(0xAB, [sender.url])
            assert 0xAB not in own.transport._remotes

    run(scenario())


def test_probing_returns_the_time(shared_etcd: Etcd, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with member(OWN, tmp_path / "own") as own:
            times = []
            for port in (own.port, shared_etcd.peer_port):
                status, headers, body = split(await exchange(port, request("GET", "/raft/probing")))
                assert (status, headers["content-type"]) == (200, "text/plain; charset=utf-8")
                times.append(parse_probe(body))
            assert times[0] is not None
            assert times[1] is not None
            assert abs(times[0] - times[1]) < 5

    run(scenario())


def test_go_timestamps_are_parsed() -> None:
    assert probe_answer(1_700_000_000_120_000_000) == b'{"OK":true,"Now":"2023-11-14T22:13:20.12Z"}\n'
    assert probe_answer(1_700_000_000_000_000_000) == b'{"OK":true,"Now":"2023-11-14T22:13:20Z"}\n'
    assert parse_probe(b'{"OK":true,"Now":"2023-11-14T22:13:20.123456789Z"}') == pytest.approx(1_700_000_000.123456789)
    assert parse_probe(b'{"OK":true,"Now":"2023-11-15T00:13:20+02:00"}') == 1_700_000_000
    for wrong in (
        b"",
        b"[]",
        b'{"OK":false,"Now":"2023-11-14T22:13:20Z"}',
        b'{"OK":true,"Now":7}',
        b'{"OK":true,"Now":"2023-19-14T22:13:20Z"}',
        b"[" * 100_000,
    ):
        assert parse_probe(wrong) is None
