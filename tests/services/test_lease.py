"""The Lease service on one member that leads, and on one that asks another leader."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tercet import errors
from tercet.errors import Code
from tercet.intake import TASK_WORK, TURN_WORK
from tercet.lease import TTL_SECONDS_MAX
from tercet.proto import rpc_pb2
from tercet.replica.membership import Member
from tercet.rpc import InProcessStream, RpcError
from tests.services.harness import ServedMember, run, served

_Grant, _Granted = rpc_pb2.LeaseGrantRequest, rpc_pb2.LeaseGrantResponse
_Alive, _Lived = rpc_pb2.LeaseKeepAliveRequest, rpc_pb2.LeaseKeepAliveResponse
_Left, _Found = rpc_pb2.LeaseTimeToLiveRequest, rpc_pb2.LeaseTimeToLiveResponse


async def grant(member: ServedMember, lease: int, ttl: int) -> rpc_pb2.LeaseGrantResponse:
    return await member.call("Lease/LeaseGrant", _Grant(ID=lease, TTL=ttl), _Granted)


async def time_to_live(member: ServedMember, lease: int, *, keys: bool = False) -> rpc_pb2.LeaseTimeToLiveResponse:
    return await member.call("Lease/LeaseTimeToLive", _Left(ID=lease, keys=keys), _Found)


async def listed(member: ServedMember) -> list[int]:
    answer = await member.call("Lease/LeaseLeases", rpc_pb2.LeaseLeasesRequest(), rpc_pb2.LeaseLeasesResponse)
    return [lease.ID for lease in answer.leases]


async def renewed(stream: InProcessStream) -> tuple[int, int]:
    answer = await stream.receive()
    assert answer is not None
    found = _Lived.FromString(answer)
    assert found.header.member_id
    return found.ID, found.TTL


def test_l1_l2_ids_and_ttls_of_grants() -> None:
    async def test() -> None:
        async with served() as member:
            chosen = await grant(member, 0, 30)
            assert (chosen.ID > 0, chosen.TTL, chosen.error) == (True, 30, "")
            assert (await grant(member, -5, 1)).TTL == 2
            assert (await grant(member, 6, TTL_SECONDS_MAX)).TTL == TTL_SECONDS_MAX
            for lease, ttl, error in ((6, TTL_SECONDS_MAX + 1, errors.TOO_LARGE_LEASE_TTL), (6, 1, errors.LEASE_EXISTS)):
                with pytest.raises(RpcError) as caught:
                    await grant(member, lease, ttl)
                assert (caught.value.code, caught.value.message) == (error.code, error.message)
            assert await listed(member) == [-5, chosen.ID, 6]

    run(test())


def test_l5_time_to_live_with_keys_and_of_a_lease_that_does_not_exist() -> None:
    async def test() -> None:
        async with served() as member:
            await grant(member, 7, 100)
            for key in (b"a", b"b"):
                put = rpc_pb2.PutRequest(key=key, lease=7)
                await member.call("KV/Put", put, rpc_pb2.PutResponse)
            member.now += 30.5
            found = await time_to_live(member, 7, keys=True)
            assert (found.ID, found.TTL, found.grantedTTL, sorted(found.keys)) == (7, 69, 100, [b"a", b"b"])
            assert (await time_to_live(member, 7)).keys == []
            missing = await time_to_live(member, 8, keys=True)
            assert (missing.ID, missing.TTL, missing.grantedTTL) == (8, -1, 0)
            assert missing.header.revision == 3

    run(test())


def test_l3_renewals_are_answered_in_order_and_half_close_ends_the_stream() -> None:
    async def test() -> None:
        async with served() as member:
            await grant(member, 7, 100)
            await grant(member, -8, 200)
            member.now += 0.2
            stream = member.channel.stream("/etcdserverpb.Lease/LeaseKeepAlive")
            for lease in (7, 9, -8, 0, 7):
                await stream.send(_Alive(ID=lease).SerializeToString())
            stream.half_close()
            assert [await renewed(stream) for _ in range(5)] == [(7, 100), (9, 0), (-8, 200), (0, 0), (7, 100)]
            assert await stream.receive() is None
            member.now += 0.2
            member.replica.tick()
            member.now += 60
            assert (await time_to_live(member, 7)).TTL == 39

    run(test())


def test_l7_a_revoked_lease_takes_its_keys_along_and_may_be_granted_again() -> None:
    async def test() -> None:
        async with served() as member:
            await grant(member, 7, 100)
            for key in (b"b", b"a"):
                await member.call("KV/Put", rpc_pb2.PutRequest(key=key, lease=7), rpc_pb2.PutResponse)
            revoke = rpc_pb2.LeaseRevokeRequest(ID=7)
            answer = await member.call("Lease/LeaseRevoke", revoke, rpc_pb2.LeaseRevokeResponse)
            assert answer.header.revision == 4
            with pytest.raises(RpcError) as caught:
                await member.call("Lease/LeaseRevoke", revoke, rpc_pb2.LeaseRevokeResponse)
            assert (caught.value.code, caught.value.message) == (Code.NOT_FOUND, "etcdserver: requested lease not found")
            assert (await grant(member, 7, 5)).TTL == 5

    run(test())


def test_large_answers_are_made_in_slices() -> None:
    async def test() -> None:
        async with served() as member:
            lessor = member.replica.lessor
            for lease in range(1, 20_001):
                lessor.grant(lease, 60 + lease % 7)
            for number in range(20_000):
                lessor.attach(b"key-%d" % number, 1)
            before = member.scheduler.slices
            ids = await listed(member)
            assert ids == sorted(range(1, 20_001), key=lambda lease: (lease % 7, lease))  # the soonest to expire first
            assert member.scheduler.slices > before + 10
            before = member.scheduler.slices
            assert len((await time_to_live(member, 1, keys=True)).keys) == 20_000
            assert member.scheduler.slices > before + 10

    run(test())


def test_a_list_of_all_leases_is_made_once_for_all_who_wait() -> None:
    """Five thousand copies of 100,000 leases were a turn of two seconds, and a gigabyte."""

    async def test() -> None:
        async with served() as member:
            for lease in range(1, 5001):
                member.replica.lessor.grant(lease, 60)
            before = member.scheduler.slices
            assert len(await listed(member)) == 5000
            slices = member.scheduler.slices - before
            gone, *others = [asyncio.create_task(listed(member)) for _ in range(50)]
            await asyncio.sleep(0)
            gone.cancel()
            assert [len(ids) for ids in await asyncio.gather(*others)] == [5000] * 49
            assert member.scheduler.slices - before <= 5 * slices
            member.replica.lessor.grant(5001, 60)
            assert len(await listed(member)) == 5001

    run(test())


def test_a_stream_with_many_requests_waiting_lets_others_run() -> None:
    async def test() -> None:
        async with served() as member:
            await grant(member, 7, 100)
            turns = 0

            async def others() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            stream = member.channel.stream("/etcdserverpb.Lease/LeaseKeepAlive")
            for _ in range(1000):
                await stream.send(_Alive(ID=7).SerializeToString())
            task = asyncio.ensure_future(others())
            for _ in range(1000):
                assert await renewed(stream) == (7, 100)
            task.cancel()
            assert turns > 10

    run(test())


@pytest.mark.parametrize("kind", ["renewals of absent leases", "remaining times"])
def test_what_waits_for_the_same_apply_goes_on_in_several_turns(kind: str) -> None:
    async def test() -> None:
        async with served() as member:
            await grant(member, 7, 60)
            member.raft.commit_index += 1
            tasks: list[asyncio.Future[Any]] = []
            for _ in range(1000):
                if kind == "remaining times":
                    tasks.append(asyncio.ensure_future(member.leases.time_to_live_here(_Left(ID=7))))
                else:
                    tasks.append(asyncio.ensure_future(member.leases._renew(9)))
            await asyncio.sleep(0)
            member.replica.leases.applied(member.raft.commit_index, member.raft.term)
            member.raft.commit_index -= 1
            most = before = 0
            for _ in range(1000):
                await asyncio.sleep(0)
                now = sum([task.done() for task in tasks])
                most, before = max(most, now - before), now
                if now == len(tasks):
                    break
            assert most <= 2 * TURN_WORK // TASK_WORK
            assert {bool(await task) for task in tasks} == {kind == "remaining times"}

    run(test())


class Leader:
    """The leader that is asked: refuses, then knows one lease."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.asked = 0

    async def renew(self, leader: Member, lease_id: int) -> int | None:
        self.asked += 1
        if self.asked <= self.refusals:
            return None
        if lease_id != 7:
            raise errors.LEASE_NOT_FOUND
        return 100

    async def time_to_live(self, leader: Member, request: rpc_pb2.LeaseTimeToLiveRequest) -> bytes | None:
        ttl = await self.renew(leader, request.ID)
        return None if ttl is None else rpc_pb2.LeaseTimeToLiveResponse(ID=7, TTL=ttl, grantedTTL=200).SerializeToString()


def follow(member: ServedMember) -> None:
    """Another member leads."""
    others = member.replica.membership.members
    others[2] = Member(2, ("http://localhost:1",))
    member.raft.become_follower(member.raft.term + 1, 2)
    member.settle()


def test_l12_a_member_that_does_not_lead_asks_the_leader_until_it_answers() -> None:
    async def test() -> None:
        async with served() as member:
            follow(member)
            leader = member.leases._leader = Leader(refusals=2)
            stream = member.channel.stream("/etcdserverpb.Lease/LeaseKeepAlive")
            for lease in (7, 8):
                await stream.send(_Alive(ID=lease).SerializeToString())
            assert [await renewed(stream) for _ in range(2)] == [(7, 100), (8, 0)]
            assert leader.asked == 4
            found = await time_to_live(member, 7)
            assert (found.TTL, found.grantedTTL, found.header.member_id) == (100, 200, 1)
            assert (await time_to_live(member, 8)).TTL == -1

    run(test())


def test_a_leader_that_never_answers_times_out() -> None:
    async def test() -> None:
        async with served() as member:
            follow(member)
            member.leases._timeout_seconds = 0.5
            with pytest.raises(RpcError) as caught:
                await time_to_live(member, 7)
            assert (caught.value.code, caught.value.message) == (Code.UNAVAILABLE, "etcdserver: request timed out")
            member.raft.become_follower(member.raft.term + 1, 0)
            stream = member.channel.stream("/etcdserverpb.Lease/LeaseKeepAlive")
            await stream.send(_Alive(ID=7).SerializeToString())
            with pytest.raises(RpcError) as caught:
                await stream.receive()
            assert (caught.value.code, caught.value.message) == (Code.UNAVAILABLE, "etcdserver: no leader")

    run(test())


def test_no_space_refuses_a_grant() -> None:
    async def test() -> None:
        async with served() as member:
            alarm = rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.ACTIVATE, memberID=1, alarm=rpc_pb2.NOSPACE)
            await member.call("Maintenance/Alarm", alarm, rpc_pb2.AlarmResponse)
            with pytest.raises(RpcError) as caught:
                await grant(member, 7, 5)
            assert caught.value.message == "etcdserver: mvcc: database space exceeded"

    run(test())
