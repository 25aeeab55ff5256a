"""Where a client's endpoints come from: the members of the cluster, and SRV records."""

from __future__ import annotations

import asyncio

import pytest

import tercet
from tercet import AsyncClient
from tercet.client import methods, srv
from tercet.client.srv import LookupFailed
from tercet.errors import Code
from tercet.proto import rpc_pb2
from tercet.rpc import UnaryCall
from tests.client.member import member, run
from tests.support.ports import free_port
from tests.support.waiting import settled, until

RANGE, MEMBERS = methods.RANGE.path, methods.MEMBER_LIST.path


def found(call: UnaryCall, _: bytes) -> None:
    call.reply(rpc_pb2.RangeResponse(count=1).SerializeToString())


def test_the_members_are_asked_for_at_the_first_connection_and_again() -> None:
    urls = ["http://a:1"]

    def members(call: UnaryCall, _: bytes) -> None:
        listed = [
            rpc_pb2.Member(ID=1, name="n1", clientURLs=urls),
            rpc_pb2.Member(ID=2, name="", clientURLs=["http://not-started:1"]),
            rpc_pb2.Member(ID=3, name="n3", clientURLs=["http://learner:1"], isLearner=True),
        ]
        call.reply(rpc_pb2.MemberListResponse(members=listed).SerializeToString())

    async def test() -> None:
        nonlocal urls
        async with member({RANGE: found, MEMBERS: members}) as up:
            async with AsyncClient(up.endpoint, sync_interval=0.01) as client:
                await client.count("a")
                await until(lambda: client.endpoints == ["http://a:1", up.endpoint])  # what was given is the last resort
                urls = ["http://b:1"]
                await until(lambda: "http://b:1" in client.endpoints and "http://a:1" not in client.endpoints)
            await settled(lambda: len(up.asked))  # a closed client asks for nothing

    run(test())


def test_members_that_cannot_be_listed_change_nothing() -> None:
    def refuse(call: UnaryCall, _: bytes) -> None:
        call.fail(Code.PERMISSION_DENIED, "etcdserver: permission denied")

    async def test() -> None:
        async with (
            member({RANGE: found, MEMBERS: refuse}) as up,
            AsyncClient(up.endpoint, sync_interval=0.01) as client,
        ):
            await client.count("a")
            await until(lambda: up.asked.count("MemberList") >= 3)
            assert client.endpoints == [up.endpoint]
            assert await client.count("a") == 1

    run(test())


def test_a_domain_names_the_endpoints_and_is_asked_again_when_none_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    lookups: list[tuple[str, str]] = []
    endpoint = f"http://127.0.0.1:{free_port()}"

    def look_up(domain: str, name: str, resolver: object) -> list[str]:
        lookups.append((domain, name))
        return [endpoint]

    monkeypatch.setattr(srv, "client_endpoints", look_up)

    async def test() -> None:
        nonlocal endpoint
        async with member({RANGE: found}) as up, AsyncClient(discovery_srv="x.test", discovery_srv_name="n") as client:
            waiting = asyncio.create_task(client.count("a", timeout=60))
            await until(lambda: lookups)
            endpoint = f"http://{up.endpoint}"
            assert await waiting == 1
            assert client.endpoints == [endpoint]
            assert set(lookups) == {("x.test", "n")}
            assert len(lookups) >= 2

    run(test())


def test_a_domain_without_records_is_an_error_that_names_the_lookup(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(*_: object) -> list[str]:
        raise LookupFailed("lookup _etcd-client._tcp.x.test: no such host")

    monkeypatch.setattr(srv, "client_endpoints", look_up)

    async def test() -> None:
        async with AsyncClient(discovery_srv="x.test") as client:
            with pytest.raises(tercet.Unavailable, match=r"lookup _etcd-client\._tcp\.x\.test: no such host"):
                await client.count("a")

    run(test())
