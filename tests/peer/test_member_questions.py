"""Queries between members: our client and our listener, against each other and against etcd 3.5.1."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest

from tercet import errors
from tercet.errors import StatusError
from tercet.peer import MemberJson, NoAnswer, NotPrimaryLessor, PeerClient
from tercet.proto import internal_pb2, rpc_pb2
from tests.peer.harness import CLUSTER, Member, exchange, fake, member, request, run, split
from tests.support.etcd import Etcd

_MEMBERS: list[MemberJson] = [
    {"id": 7, "peerURLs": ["http://a:1"], "name": "n7", "clientURLs": ["http://a:2"]},
    {"id": 2**64 - 1, "peerURLs": ["http://b:1"], "isLearner": True},
]


def parsed(answer: bytes) -> rpc_pb2.LeaseTimeToLiveResponse:
    return rpc_pb2.LeaseTimeToLiveResponse.FromString(answer)


class Api:
    """A MemberApi that answers, or raises `error`."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.asked: list[object] = []
        self.lease_answer = b""

    def members(self) -> Sequence[MemberJson]:
        return _MEMBERS

    def versions(self) -> dict[str, str]:
        return {"etcdserver": "3.7.1", "etcdcluster": "3.7.0", "storage": "3.7.0"}

    async def downgrade_enabled(self) -> bool:
        return False

    async def promote(self, id: int, authorization: str) -> Sequence[MemberJson]:
        self._note((id, authorization))
        return _MEMBERS

    async def hash_kv(self, revision: int) -> rpc_pb2.HashKVResponse:
        self._note(revision)
        header = rpc_pb2.ResponseHeader(cluster_id=CLUSTER, member_id=2**64 - 1, revision=revision, raft_term=4)
        return rpc_pb2.HashKVResponse(header=header, hash=2**32 - 1, compact_revision=-1, hash_revision=revision)

    async def renew_lease(self, id: int) -> rpc_pb2.LeaseKeepAliveResponse:
        self._note(id)
        return rpc_pb2.LeaseKeepAliveResponse(ID=id, TTL=30)

    async def lease_time_to_live(self, request: rpc_pb2.LeaseTimeToLiveRequest) -> bytes:
        self._note(request)
        if self.lease_answer:
            return self.lease_answer
        answer = rpc_pb2.LeaseTimeToLiveResponse(ID=request.ID, TTL=29, grantedTTL=30, keys=[b"k"] if request.keys else [])
        return answer.SerializeToString()

    def _note(self, asked: object) -> None:
        self.asked.append(asked)
        if self.error is not None:
            raise self.error


def ask(directory: Path, questions: Callable[[Member, Api, PeerClient], Coroutine[Any, Any, None]]) -> None:
    """Run queries against a member with an `Api`."""

    async def scenario() -> None:
        api = Api()
        async with member(7, directory / "7", api=api) as one, PeerClient(timeout=30.0) as client:
            await questions(one, api, client)

    run(scenario())


def test_every_query_is_answered(tmp_path: Path) -> None:
    async def questions(one: Member, api: Api, client: PeerClient) -> None:
        urls = ["http://127.0.0.1:1", one.url]  # the first usable answer is taken
        view = await client.members(urls)
        assert (view.cluster_id, view.members) == (CLUSTER, _MEMBERS)
        assert await client.versions(urls) == api.versions()
        assert await client.downgrade_enabled(urls) is False
        assert await client.promote(urls, 7, "token") == _MEMBERS
        answer = await client.hash_kv(one.url, 12, CLUSTER)
        assert answer == await api.hash_kv(12)
        assert (await client.renew_lease(urls, 2**62)).TTL == 30
        live = parsed(await client.lease_time_to_live(urls, rpc_pb2.LeaseTimeToLiveRequest(ID=5, keys=True)))
        assert (live.ID, live.TTL, live.grantedTTL, list(live.keys)) == (5, 29, 30, [b"k"])
        assert (7, "token") in api.asked
        several = await client.versions_of({1: ["http://127.0.0.1:1"], 7: urls})
        assert several == {1: None, 7: api.versions()}

    ask(tmp_path, questions)


def test_a_member_whose_version_is_not_known_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Operators search for etcd's message when a member is down."""

    async def questions(one: Member, api: Api, client: PeerClient) -> None:
        await client.versions_of({0xA1: ["http://127.0.0.1:1"], 7: [one.url]})

    ask(tmp_path, questions)
    logged: list[dict[str, str]] = [vars(record)["fields"] for record in caplog.records if "get version" in record.message]
    assert [line["remote-member-id"] for line in logged] == ["a1"]
    assert "127.0.0.1:1" in logged[0]["error"]


def test_the_keys_of_a_large_lease_are_passed_on_as_they_are(tmp_path: Path) -> None:
    """Parsed only where they are few: a million would make a long turn of the loop. Beyond a limit they are refused once."""
    keys = [b"%09d" % number for number in range(600_000)]

    async def questions(one: Member, api: Api, client: PeerClient) -> None:
        request = rpc_pb2.LeaseTimeToLiveRequest(ID=5, keys=True)
        body = rpc_pb2.LeaseTimeToLiveResponse(ID=5, TTL=29, keys=keys).SerializeToString()
        header = rpc_pb2.LeaseTimeToLiveResponse(header=rpc_pb2.ResponseHeader(revision=1 << 40)).SerializeToString()
        for before in (b"", b"\x0a\x00", header):
            api.lease_answer = before + body
            assert await client.lease_time_to_live([one.url], request) == body
        api.lease_answer = body * 6
        with pytest.raises(StatusError) as caught:
            await client.lease_time_to_live([one.url, one.url], request)
        assert caught.value.code == errors.Code.RESOURCE_EXHAUSTED

    ask(tmp_path, questions)


def test_answers_are_encoded_as_by_etcd(tmp_path: Path) -> None:
    async def questions(one: Member, api: Api, client: PeerClient) -> None:
        _, headers, body = split(await exchange(one.port, request("GET", "/members")))
        assert (headers["content-type"], headers["x-etcd-cluster-id"]) == ("application/json", f"{CLUSTER:x}")
        assert body.endswith(b'{"id":18446744073709551615,"peerURLs":["http://b:1"],"isLearner":true}]\n')
        _, headers, body = split(await exchange(one.port, request("GET", "/version")))
        assert body == b'{"etcdserver":"3.7.1","etcdcluster":"3.7.0","storage":"3.7.0"}'
        assert "x-etcd-cluster-id" not in headers
        _, _, body = split(await exchange(one.port, request("GET", "/members/hashkv", {}, b'{"revision":12}')))
        header = f'{{"cluster_id":{CLUSTER},"member_id":18446744073709551615,"revision":12,"raft_term":4}}'
        assert body.decode() == f'{{"header":{header},"hash":4294967295,"compact_revision":-1,"hash_revision":12}}'

    ask(tmp_path, questions)


_LAGGING = "waiting for node to catch up its applied index has timed out"

# The call, the exception of the owner, status and body of the answer, the exception of the client.
_REFUSALS: list[tuple[str, Exception, int, str, type[Exception] | StatusError]] = [
    ("promote", errors.MEMBER_NOT_FOUND, 404, "membership: ID not found", errors.MEMBER_NOT_FOUND),
    ("promote", errors.LEARNER_NOT_READY, 412, errors.LEARNER_NOT_READY.message, errors.LEARNER_NOT_READY),
    ("promote", errors.LEARNER_ONLY, 412, errors.LEARNER_ONLY.message, errors.LEARNER_ONLY),
    ("promote", errors.NO_LEADER, 500, "etcdserver: no leader", NoAnswer),
    ("hash", errors.COMPACTED, 400, "mvcc: required revision has been compacted", errors.COMPACTED),
    ("hash", errors.FUTURE_REVISION, 400, "mvcc: required revision is a future revision", errors.FUTURE_REVISION),
    ("renew", errors.LEASE_NOT_FOUND, 404, "lease not found", errors.LEASE_NOT_FOUND),
    ("renew", errors.TIMEOUT_WAIT_APPLIED, 408, _LAGGING, errors.TIMEOUT_WAIT_APPLIED),
    ("renew", NotPrimaryLessor(), 400, "not a primary lessor", NotPrimaryLessor),
    ("live", errors.LEASE_NOT_FOUND, 404, "lease not found", errors.LEASE_NOT_FOUND),
    ("live", NotPrimaryLessor(), 500, "not a primary lessor", NotPrimaryLessor),
    ("live", RuntimeError("broken"), 500, "Internal Server Error", NoAnswer),
]


@pytest.mark.parametrize(("call", "raised", "status", "text", "arrives"), _REFUSALS)
def test_errors_of_the_owner_are_raised_by_the_client(
    call: str, raised: Exception, status: int, text: str, arrives: type[Exception] | StatusError, tmp_path: Path
) -> None:
    raw = {
        "promote": request("POST", "/members/promote/9"),
        "hash": request("GET", "/members/hashkv", {}, b'{"revision":5}'),
        "renew": request("POST", "/leases", {}, rpc_pb2.LeaseKeepAliveRequest(ID=5).SerializeToString()),
        "live": request("POST", "/leases/internal", {}, b"\x0a\x02\x08\x05"),
    }

    async def questions(one: Member, api: Api, client: PeerClient) -> None:
        api.error = raised
        answer = split(await exchange(one.port, raw[call]))
        assert (answer[0], answer[2].decode()) == (status, f"{text}\n")
        calls = {
            "promote": lambda: client.promote([one.url], 9),
            "hash": lambda: client.hash_kv(one.url, 5, CLUSTER),
            "renew": lambda: client.renew_lease([one.url], 5),
            "live": lambda: client.lease_time_to_live([one.url], rpc_pb2.LeaseTimeToLiveRequest(ID=5)),
        }
        with pytest.raises(Exception) as caught:  # noqa: PT011 - which one is checked below
            await calls[call]()
        assert caught.value is arrives or (isinstance(arrives, type) and isinstance(caught.value, arrives))

    ask(tmp_path, questions)


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status", "text"),
    [
        ("POST", "/members/promote/x", {}, b"", 404, b"member x not found in cluster\n"),
        ("POST", "/members/promote/18446744073709551616", {}, b"", 404, b"member 18446744073709551616 not found in cluster\n"),
        ("GET", "/members/promote/1", {}, b"", 405, b"Method Not Allowed\n"),
        ("GET", "/members/hashkv", {"X-Etcd-Cluster-ID": "1"}, b'{"revision":1}', 412, b"cluster ID mismatch\n"),
        ("GET", "/members/hashkv", {}, b"", 400, b"error unmarshalling request\n"),
        ("GET", "/members/hashkv", {}, b"[]", 400, b"error unmarshalling request\n"),
        ("GET", "/members/hashkv", {}, b"[" * 60_000, 400, b"error unmarshalling request\n"),
        ("GET", "/members/hashkv", {}, b'{"revision":"1"}', 400, b"error unmarshalling request\n"),
        ("GET", "/members/hashkv", {}, b'{"revision":9223372036854775808}', 400, b"error unmarshalling request\n"),
        ("GET", "/leases", {}, b"", 405, b"Method Not Allowed\n"),
        ("POST", "/leases", {}, b"\xff", 400, b"error unmarshalling request\n"),
        ("POST", "/leases", {}, bytes(70_000), 413, b"request body too large\n"),
        ("POST", "/leases/internal", {}, b"\xff", 400, b"error unmarshalling request\n"),
        ("POST", "/version", {}, b"", 405, b"Method Not Allowed\n"),
        ("GET", "/members/", {}, b"", 404, b"404 page not found\n"),
    ],
)
def test_bad_requests_get_etcds_status_and_text(
    method: str, path: str, headers: dict[str, str], body: bytes, status: int, text: bytes, tmp_path: Path
) -> None:
    async def questions(one: Member, api: Api, client: PeerClient) -> None:
        answer = split(await exchange(one.port, request(method, path, headers, body)))
        assert (answer[0], answer[2]) == (status, text)
        assert api.asked == []

    ask(tmp_path, questions)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"[1]",
        b'[{"id":0,"peerURLs":[]}]',
        b'[{"id":"7","peerURLs":[]}]',
        b'[{"id":18446744073709551616}]',
        b'[{"id":7,"peerURLs":"http://a:1"}]',
        b'[{"id":7,"peerURLs":[1]}]',
        b'[{"id":7,"name":[]}]',
        b'[{"id":7,"isLearner":1}]',
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_malformed_members_are_no_answer(body: bytes) -> None:
    async def scenario() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nX-Etcd-Cluster-ID: ab\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            writer.close()

        async with fake(answer) as url, PeerClient(timeout=30.0) as client:
            for question in (client.members, client.versions, client.downgrade_enabled):
                if question == client.versions and body == b"{}":
                    continue
                with pytest.raises(NoAnswer):
                    await question([url])
            with pytest.raises(NoAnswer):
                await client.members(["nonsense", "https://127.0.0.1:1"])

    run(scenario())


@pytest.mark.parametrize("behaviour", ["endless", "silent", "not http", "closes"])
def test_a_missing_or_endless_answer_is_bounded_in_time_and_memory(behaviour: str) -> None:
    async def scenario() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            if behaviour == "endless":
                writer.write(b"HTTP/1.1 200 OK\r\nX-Etcd-Cluster-ID: ab\r\n\r\n")
                for _ in range(200):
                    writer.write(bytes(1 << 16))
            elif behaviour == "not http":
                writer.write(b"\x15\x03\x01\x00\x02\x02\x46")
            elif behaviour == "closes":
                writer.close()

        async with fake(answer) as url, PeerClient(timeout=0.3) as client:
            with pytest.raises(NoAnswer) as caught:
                await client.members([url])
            assert "\n" not in str(caught.value)

    run(scenario())


def test_a_reused_connection_that_the_listener_closed_is_replaced(tmp_path: Path) -> None:
    async def questions(one: Member, api: Api, client: PeerClient) -> None:
        for _ in range(3):
            await client.versions([one.url])
            assert len(one.transport._connections) == 1  # the same one
            [connection] = one.transport._connections
            connection.abort()  # and the next request may not have seen it yet

    ask(tmp_path, questions)


@pytest.mark.parametrize("name", ["localhost:2380", "peer.sock"])
def test_a_member_is_asked_over_a_unix_socket(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """etcd's sockets are files in the working directory, named like addresses."""
    monkeypatch.chdir(tmp_path)
    url = f"unix://{name}" if ":" in name else f"unix://{tmp_path}/{name}"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\n" + b'{"etcdserver":"3.7.1"}')

    async def scenario() -> None:
        server = await asyncio.start_unix_server(answer, name)
        async with PeerClient(timeout=30.0) as client:
            assert await client.versions([url]) == {"etcdserver": "3.7.1"}
        server.close()

    run(scenario())


def test_etcd_answers_our_client(shared_etcd: Etcd) -> None:
    async def scenario() -> None:
        async with PeerClient(timeout=30.0) as client:
            urls = [shared_etcd.peer_url]
            view = await client.members(urls)
            assert view.cluster_id == shared_etcd.cluster_id
            assert [one["id"] for one in view.members] == [shared_etcd.id]
            assert view.members[0]["clientURLs"] == [shared_etcd.client_url]
            assert (await client.versions(urls))["etcdserver"] == "3.5.1"
            assert await client.downgrade_enabled(urls) is False
            shared_etcd.ctl_json("put", "a", "b")
            hashed = shared_etcd.ctl_json("put", "a", "c")["header"]["revision"]
            answer = await client.hash_kv(shared_etcd.peer_url, hashed, shared_etcd.cluster_id)
            assert answer.hash != 0
            with pytest.raises(StatusError) as caught:
                await client.hash_kv(shared_etcd.peer_url, 10**9, shared_etcd.cluster_id)
            assert caught.value is errors.FUTURE_REVISION
            with pytest.raises(StatusError) as caught:
                await client.promote(urls, 12345)
            assert caught.value is errors.MEMBER_NOT_FOUND
            with pytest.raises(StatusError) as caught:
                await client.renew_lease(urls, 12345)
            assert caught.value is errors.LEASE_NOT_FOUND
            lease = shared_etcd.ctl_json("lease", "grant", "60")["ID"]
            assert (await client.renew_lease(urls, lease)).TTL == 60
            live = parsed(await client.lease_time_to_live(urls, rpc_pb2.LeaseTimeToLiveRequest(ID=lease)))
            assert (live.ID, live.grantedTTL) == (lease, 60)
            with pytest.raises(StatusError) as caught:
                await client.lease_time_to_live(urls, rpc_pb2.LeaseTimeToLiveRequest(ID=12345))
            assert caught.value is errors.LEASE_NOT_FOUND

    run(scenario())


def test_lease_answers_are_encoded_as_by_etcd(shared_etcd: Etcd, tmp_path: Path) -> None:
    lease = shared_etcd.ctl_json("lease", "grant", "60")["ID"]
    asked = internal_pb2.LeaseInternalRequest(LeaseTimeToLiveRequest=rpc_pb2.LeaseTimeToLiveRequest(ID=lease))

    async def questions(one: Member, api: Api, client: PeerClient) -> None:
        raw = request("POST", "/leases/internal", {}, asked.SerializeToString())
        answers = [split(await exchange(port, raw)) for port in (one.port, shared_etcd.peer_port)]
        bodies = [internal_pb2.LeaseInternalResponse.FromString(body) for _, _, body in answers]
        assert [body.LeaseTimeToLiveResponse.ID for body in bodies] == [lease, lease]
        assert {headers["content-type"] for _, headers, _ in answers} == {"application/protobuf"}
        members = json.loads(split(await exchange(shared_etcd.peer_port, request("GET", "/members")))[2])
        assert set(members[0]) == set(_MEMBERS[0])

    ask(tmp_path, questions)
