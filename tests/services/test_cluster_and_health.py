"""Cluster and Health on a member that leads a cluster of one, and the checks that all services share."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tercet import errors
from tercet.errors import Code
from tercet.intake import TASK_WORK, TURN_WORK
from tercet.proto import health_pb2, rpc_pb2
from tercet.replica.membership import Member
from tercet.rpc import InProcessChannel, InProcessStream, RpcError, method_table
from tercet.services.authorization import Authorization
from tercet.services.cluster import ClusterService, check_peer_urls
from tercet.services.headers import Headers
from tercet.services.health import HealthService
from tests.replica.lone_member import SELF, LoneMember
from tests.services.harness import Alone, run, served
from tests.support.waiting import scaled


def test_member_list_names_the_member_and_carries_no_revision() -> None:
    async def test() -> None:
        async with served() as member:
            for linearizable in (False, True):
                request = rpc_pb2.MemberListRequest(linearizable=linearizable)
                found = await member.call("Cluster/MemberList", request, rpc_pb2.MemberListResponse)
                assert [(one.ID, one.name, list(one.peerURLs)) for one in found.members] == [
                    (1, "only", ["http://localhost:2380"])
                ]
                assert found.header.revision == 0

    run(test())


@pytest.mark.parametrize(("member_id", "text"), [(5, "etcdserver: member not found"), (SELF, "etcdserver: given member URLs")])
def test_an_update_with_bad_urls_is_refused_for_an_unknown_id_first(member_id: int, text: str) -> None:
    async def test() -> None:
        async with served() as member:
            request = rpc_pb2.MemberUpdateRequest(ID=member_id, peerURLs=["bad"])
            before = member.raft.log.last_index
            with pytest.raises(RpcError, match=text):
                await member.call("Cluster/MemberUpdate", request, rpc_pb2.MemberUpdateResponse)
            assert member.raft.log.last_index == before

    run(test())


def test_a_learner_is_added_updated_and_removed() -> None:
    async def test() -> None:
        async with served() as member:
            request = rpc_pb2.MemberAddRequest(peerURLs=["http://b:2380"], isLearner=True)
            added = await member.call("Cluster/MemberAdd", request, rpc_pb2.MemberAddResponse)
            assert (added.member.isLearner, len(added.members)) == (True, 2)
            learner = added.member.ID

            update = rpc_pb2.MemberUpdateRequest(ID=learner, peerURLs=["http://c:2380"])
            updated = await member.call("Cluster/MemberUpdate", update, rpc_pb2.MemberUpdateResponse)
            assert [list(one.peerURLs) for one in updated.members if learner == one.ID] == [["http://c:2380"]]

            request_ = rpc_pb2.MemberPromoteRequest(ID=learner)
            with pytest.raises(RpcError, match="can only promote a learner member which is in sync with leader"):
                await member.call("Cluster/MemberPromote", request_, rpc_pb2.MemberPromoteResponse)

            removal = rpc_pb2.MemberRemoveRequest(ID=learner)
            left = await member.call("Cluster/MemberRemove", removal, rpc_pb2.MemberRemoveResponse)
            assert [one.ID for one in left.members] == [1]

    run(test())


TOO_MANY, TOO_LONG = [f"http://b:{port}" for port in range(1, 1000)], ["http://b" + "b" * 70_000 + ":2380"]


@pytest.mark.parametrize(
    "urls",
    [[], ["ftp://b:2380"], ["http://b"], ["http://b:2380/path"], ["http://b:port"], TOO_MANY, TOO_LONG],
    ids=lambda urls: f"{len(urls)} urls, {len(repr(urls))} characters",
)
def test_a_member_with_invalid_peer_urls_is_rejected(urls: list[str]) -> None:
    async def test() -> None:
        async with served() as member:
            request = rpc_pb2.MemberAddRequest(peerURLs=urls)
            with pytest.raises(RpcError, match="given member URLs are invalid"):
                await member.call("Cluster/MemberAdd", request, rpc_pb2.MemberAddResponse)

    run(test())


def test_peer_urls_that_etcd_accepts() -> None:
    """The port of a Unix socket's name may be any number; one of TCP that nobody can dial is found out by dialling."""
    urls = ["unix://127.0.0.1:2100200001", "unixs:/run/peer", " https://[::1]:5", "HTTP://h:99999"]
    assert check_peer_urls(urls) == ["http://h:99999", "https://[::1]:5", "unix://127.0.0.1:2100200001", "unixs:/run/peer"]


def test_promoting_an_unknown_member_or_a_voter_is_rejected() -> None:
    async def test() -> None:
        async with served() as member:
            for member_id, text in ((9, "etcdserver: member not found"), (1, "can only promote a learner member")):
                request = rpc_pb2.MemberPromoteRequest(ID=member_id)
                with pytest.raises(RpcError, match=text):
                    await member.call("Cluster/MemberPromote", request, rpc_pb2.MemberPromoteResponse)

    run(test())


class Leaderless(Alone):
    async def forward_promote(self, member_id: int, token: bytes) -> list[dict[str, Any]]:
        raise errors.NO_LEADER


def test_a_promotion_without_a_leader_says_so() -> None:
    async def test() -> None:
        replica = LoneMember().replica
        headers, authorization = Headers(replica, cluster_id=1, member_id=SELF), Authorization(replica)
        service = ClusterService(replica, headers, authorization, Leaderless(), strict=True, timeout_seconds=0.01)
        channel = InProcessChannel(method_table(service.handlers()))
        body = rpc_pb2.MemberPromoteRequest(ID=2).SerializeToString()
        with pytest.raises(RpcError, match=errors.NO_LEADER.message):
            await channel.unary("/etcdserverpb.Cluster/MemberPromote", body)
        channel.close()

    run(test())


CHANGES = {
    "MemberAdd": rpc_pb2.MemberAddRequest(peerURLs=["http://b:2380"], isLearner=True),
    "MemberRemove": rpc_pb2.MemberRemoveRequest(ID=SELF),
    "MemberUpdate": rpc_pb2.MemberUpdateRequest(ID=SELF, peerURLs=["http://b:2380"]),
}


@pytest.mark.parametrize("method", CHANGES)
def test_a_change_without_a_leader_waits_for_its_deadline(method: str) -> None:
    """As in etcd, where one without a deadline waits for ever; here it fails after the timeout of requests."""

    async def test() -> None:
        replica = LoneMember().replica
        headers, authorization = Headers(replica, cluster_id=1, member_id=SELF), Authorization(replica)
        service = ClusterService(replica, headers, authorization, Alone(), strict=False, timeout_seconds=0.01)
        channel = InProcessChannel(method_table(service.handlers()))
        body = CHANGES[method].SerializeToString()
        for timeout, error in ((0.2, "context deadline exceeded"), (None, errors.TIMEOUT.message)):
            waiting = [channel.unary(f"/etcdserverpb.Cluster/{method}", body, timeout) for _ in range(3)]
            for outcome in await asyncio.gather(*waiting, return_exceptions=True):
                assert isinstance(outcome, RpcError)
                assert outcome.message == error
        channel.close()

    run(test())


def test_a_change_is_made_when_a_leader_is_found_after_the_timeout_of_requests() -> None:
    async def test() -> None:
        member = LoneMember(initial_members=[Member(SELF, ("http://localhost:2380",), "only")])
        replica = member.replica
        headers, authorization = Headers(replica, cluster_id=1, member_id=SELF), Authorization(replica)
        service = ClusterService(replica, headers, authorization, Alone(), strict=True, timeout_seconds=0.01)
        channel = InProcessChannel(method_table(service.handlers()))
        body = CHANGES["MemberUpdate"].SerializeToString()
        change = asyncio.create_task(channel.unary("/etcdserverpb.Cluster/MemberUpdate", body, scaled(60)))
        await asyncio.sleep(0.05)
        member.lead()
        before = member.raft.log.last_index
        async with asyncio.timeout(scaled(30)):
            while member.raft.log.last_index == before:
                await asyncio.sleep(0.01)
        member.now += 8  # and its apply may take longer, too
        member.replica.tick()
        member.settle()
        assert [list(one.peerURLs) for one in rpc_pb2.MemberUpdateResponse.FromString(await change).members] == [
            ["http://b:2380"]
        ]
        channel.close()

    run(test())


def test_health_is_serving_for_the_empty_service_name_only() -> None:
    async def test() -> None:
        async with served() as member:
            path = "/grpc.health.v1.Health/Check"
            answer = health_pb2.HealthCheckResponse.FromString(await member.channel.unary(path, b""))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
            request = health_pb2.HealthCheckRequest(service="etcdserverpb.KV").SerializeToString()
            with pytest.raises(RpcError) as caught:
                await member.channel.unary(path, request)
            assert (caught.value.code, caught.value.message) == (Code.NOT_FOUND, "unknown service")

            statuses = health_pb2.HealthCheckResponse
            for body, expected in ((b"", statuses.SERVING), (request, statuses.SERVICE_UNKNOWN)):
                async with member.channel.stream("/grpc.health.v1.Health/Watch") as watch:
                    await watch.send(body)
                    shown = await watch.receive()
                    assert shown is not None
                    assert statuses.FromString(shown).status == expected

    run(test())


def test_of_two_changes_at_once_the_second_waits_for_the_first() -> None:
    async def test() -> None:
        async with served() as member:
            updates = [rpc_pb2.MemberUpdateRequest(ID=SELF, peerURLs=[f"http://localhost:{port}"]) for port in (1, 2)]
            before = member.raft.log.last_index
            await asyncio.gather(*(member.call("Cluster/MemberUpdate", one, rpc_pb2.MemberUpdateResponse) for one in updates))
            assert member.raft.log.last_index == before + 2

    run(test())


def test_health_lists_the_empty_service_name() -> None:
    async def test() -> None:
        async with served() as member:
            body = await member.channel.unary("/grpc.health.v1.Health/List", b"")
            serving = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)
            assert dict(health_pb2.HealthListResponse.FromString(body).statuses) == {"": serving}

    run(test())


def test_health_watchers_learn_of_a_defragmentation() -> None:
    async def test() -> None:
        service = HealthService()
        channel = InProcessChannel(method_table(service.handlers()))
        watches = [channel.stream("/grpc.health.v1.Health/Watch") for _ in range(2)]
        states: list[list[int]] = [[], []]
        for defragmenting in (None, True, False):
            if defragmenting is not None:
                service.defragmenting(defragmenting)
            for watch, seen in zip(watches, states, strict=True):
                if not seen:
                    await watch.send(b"")
                    watch.half_close()
                message = await watch.receive()
                assert message is not None
                seen.append(health_pb2.HealthCheckResponse.FromString(message).status)
        status = health_pb2.HealthCheckResponse
        assert states == [[status.SERVING, status.NOT_SERVING, status.SERVING]] * 2
        for watch in watches:
            watch.cancel()

    run(test())


def test_many_health_watchers_learn_of_a_defragmentation_over_several_turns() -> None:
    async def test() -> None:
        service = HealthService()
        channel = InProcessChannel(method_table(service.handlers()))
        watches = [channel.stream("/grpc.health.v1.Health/Watch") for _ in range(500)]
        for watch in watches:
            await watch.send(b"")
            watch.half_close()
            await watch.receive()
        told = 0

        async def hear(watch: InProcessStream) -> None:
            nonlocal told
            await watch.receive()
            told += 1

        hearing = asyncio.gather(*(hear(watch) for watch in watches))
        await asyncio.sleep(0)
        service.defragmenting(True)
        before = 0
        while told < 500:
            await asyncio.sleep(0)
            assert told - before <= 2 * TURN_WORK // TASK_WORK
            before = told
        await hearing
        for watch in watches:
            watch.cancel()

    run(test())


def test_the_only_member_is_not_removed() -> None:
    async def test() -> None:
        async with served() as member:
            with pytest.raises(RpcError) as refused:
                await member.call("Cluster/MemberRemove", rpc_pb2.MemberRemoveRequest(ID=SELF), rpc_pb2.MemberRemoveResponse)
            text = "etcdserver: re-configuration failed due to not enough started members"
            assert (refused.value.code, refused.value.message) == (Code.UNKNOWN, text)

    run(test())
