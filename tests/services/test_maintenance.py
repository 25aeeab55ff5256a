"""Every method of Maintenance on a member that leads a cluster of one."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from tercet import errors
from tercet.errors import Code
from tercet.intake import TASK_WORK, TURN_WORK
from tercet.proto import rpc_pb2
from tercet.rpc import RpcError
from tercet.services.awaitables import read_index
from tercet.storage.interfaces import Bucket
from tests.services.harness import ServedMember, run, served
from tests.support.fakes import uses_fakes
from tests.support.turns import Turns


async def put(member: ServedMember, key: bytes, value: bytes = b"") -> None:
    await member.call("KV/Put", rpc_pb2.PutRequest(key=key, value=value), rpc_pb2.PutResponse)


async def status(member: ServedMember) -> rpc_pb2.StatusResponse:
    return await member.call("Maintenance/Status", rpc_pb2.StatusRequest(), rpc_pb2.StatusResponse)


def test_status_shows_raft_and_the_store() -> None:
    async def test() -> None:
        async with served() as member:
            await put(member, b"a")
            member.replica.backend.put(Bucket.META, b"storageVersion", b"3.6.0")
            shown = await status(member)
            assert (shown.version, shown.storageVersion) == ("3.7.1", "3.6.0")
            assert shown.leader == shown.header.member_id == member.raft.id
            assert shown.raftIndex == shown.raftAppliedIndex == member.raft.log.last_index
            assert (shown.raftTerm, shown.header.revision, list(shown.errors)) == (member.raft.term, 2, [])
            assert 0 < shown.dbSizeInUse <= shown.dbSize

    run(test())


def test_status_shows_an_enabled_downgrade() -> None:
    async def test() -> None:
        async with served() as member:
            assert not (await status(member)).downgradeInfo.enabled
            member.replica.membership.set_downgrade(True, "3.6.0")
            shown = (await status(member)).downgradeInfo
            assert (shown.enabled, shown.targetVersion) == (True, "3.6.0")

    run(test())


def test_requests_that_are_applied_together_are_answered_over_several_turns() -> None:
    async def test() -> None:
        async with served() as member:
            request = rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.GET)
            member.paused = True
            turns = Turns()
            calls = [
                asyncio.ensure_future(member.call("Maintenance/Alarm", request, rpc_pb2.AlarmResponse)) for _ in range(1000)
            ]
            for call in calls:
                call.add_done_callback(lambda _: turns.note())
            for _ in range(100):  # turns, until all wait for the member
                await asyncio.sleep(0)
            member.resume()
            await asyncio.gather(*calls)
            assert max(turns.events) <= 2 * TURN_WORK // TASK_WORK

    run(test())


def test_an_alarm_is_raised_listed_and_disarmed() -> None:
    async def test() -> None:
        async with served() as member:
            raised = rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.ACTIVATE, memberID=1, alarm=rpc_pb2.NOSPACE)
            answer = await member.call("Maintenance/Alarm", raised, rpc_pb2.AlarmResponse)
            assert [(one.memberID, one.alarm) for one in answer.alarms] == [(1, rpc_pb2.NOSPACE)]
            assert list((await status(member)).errors) == ["memberID:1 alarm:NOSPACE"]
            with pytest.raises(RpcError, match="etcdserver: mvcc: database space exceeded"):
                await put(member, b"a")
            raised.action = rpc_pb2.AlarmRequest.DEACTIVATE
            await member.call("Maintenance/Alarm", raised, rpc_pb2.AlarmResponse)
            listed = await member.call("Maintenance/Alarm", rpc_pb2.AlarmRequest(), rpc_pb2.AlarmResponse)
            assert not listed.alarms
            await put(member, b"a")

    run(test())


@pytest.mark.parametrize(
    ("body", "text"),
    [(b"\x08\x09", "etcdserver: unknown alarm action 9"), (b"\x08\x01\x18\x09", "etcdserver: unknown alarm 9")],
)
def test_what_stops_members_of_etcd_3_5_is_rejected_before_it_is_proposed(body: bytes, text: str) -> None:
    async def test() -> None:
        async with served() as member:
            before = member.raft.log.last_index
            with pytest.raises(RpcError) as caught:
                await member.call("Maintenance/Alarm", body, rpc_pb2.AlarmResponse)
            assert (caught.value.code, caught.value.message) == (Code.INVALID_ARGUMENT, text)
            assert member.raft.log.last_index == before

    run(test())


def test_an_alarm_of_a_type_without_a_name_is_raised_from_cluster_version_3_6_on() -> None:
    async def test() -> None:
        async with served() as member:
            member.replica.membership.set_cluster_version("3.6.0")
            raised = rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.ACTIVATE, memberID=1, alarm=17)  # type: ignore[arg-type]
            assert len((await member.call("Maintenance/Alarm", raised, rpc_pb2.AlarmResponse)).alarms) == 1
            assert list((await status(member)).errors) == ["memberID:1 alarm:17"]
            await put(member, b"a")

    run(test())


def test_alarms_of_strangers_are_few() -> None:
    """Each Status lists all alarms: with thousands a few calls would be a long turn."""

    async def test() -> None:
        async with served() as member:

            async def activate(member_id: int) -> str:
                raised = rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.ACTIVATE, memberID=member_id, alarm=rpc_pb2.NOSPACE)
                try:
                    await member.call("Maintenance/Alarm", raised, rpc_pb2.AlarmResponse)
                except RpcError as error:
                    return error.message
                return ""

            outcomes = await asyncio.gather(*(activate(1000 + number) for number in range(70)))
            assert outcomes == [""] * 64 + [errors.TOO_MANY_REQUESTS.message] * 6
            assert await activate(next(iter(member.replica.membership.members))) == ""

    run(test())


def test_members_with_the_same_history_have_the_same_hash() -> None:
    async def test() -> None:
        async with served() as one, served() as other:
            hashes = []
            for member in (one, other):
                await put(member, b"a", b"1")
                request = rpc_pb2.HashKVRequest()
                hashes.append((await member.call("Maintenance/HashKV", request, rpc_pb2.HashKVResponse)).hash)
            assert hashes[0] == hashes[1]
            await put(other, b"a", b"2")
            at_two = rpc_pb2.HashKVRequest(revision=2)
            old = await other.call("Maintenance/HashKV", at_two, rpc_pb2.HashKVResponse)
            assert (old.hash, old.hash_revision) == (hashes[0], 2)
            for method, response in (("HashKV", rpc_pb2.HashKVResponse), ("Hash", rpc_pb2.HashResponse)):
                differing = [(await member.call(f"Maintenance/{method}", b"", response)).hash for member in (one, other)]
                assert differing[0] != differing[1]

    run(test())


def test_hash_kv_of_a_future_revision_is_rejected() -> None:
    async def test() -> None:
        async with served() as member:
            with pytest.raises(RpcError, match="required revision is a future revision"):
                await member.call("Maintenance/HashKV", rpc_pb2.HashKVRequest(revision=9), rpc_pb2.HashKVResponse)

    run(test())


def test_defragment_answers_with_an_empty_response() -> None:
    async def test() -> None:
        async with served() as member:
            answer = await member.channel.unary("/etcdserverpb.Maintenance/Defragment", b"")
            assert answer == b""

    run(test())


@uses_fakes
def test_many_defragmentations_that_end_together_answer_over_several_turns() -> None:
    async def test() -> None:
        async with served() as member:
            waiting: list[Callable[[], None]] = []
            member.replica.backend.defragment = waiting.append  # type: ignore[method-assign, assignment]
            calls = [
                asyncio.ensure_future(member.channel.unary("/etcdserverpb.Maintenance/Defragment", b"")) for _ in range(500)
            ]
            while len(waiting) < 500:
                await asyncio.sleep(0)
            for then in waiting:
                then()
            before = 0
            while before < 500:
                await asyncio.sleep(0)
                ended = sum(call.done() for call in calls)
                assert ended - before <= 2 * TURN_WORK // TASK_WORK
                before = ended

    run(test())


def test_tasks_that_wait_for_one_read_index_go_on_in_several_turns() -> None:
    async def test() -> None:
        async with served() as member:
            member.paused = True
            tasks = [asyncio.ensure_future(read_index(member.replica)) for _ in range(400)]
            await asyncio.sleep(0)
            assert not any(task.done() for task in tasks)
            member.resume()
            before = 0
            while before < len(tasks):
                await asyncio.sleep(0)
                ended = sum(task.done() for task in tasks)
                assert ended - before <= 2 * TURN_WORK // TASK_WORK
                before = ended

    run(test())


def test_a_snapshot_ends_with_its_checksum() -> None:
    async def test() -> None:
        async with served() as member:
            await put(member, b"a", bytes(100_000))
            stream = await member.open("Maintenance/Snapshot", rpc_pb2.SnapshotRequest())
            *blobs, last = [rpc_pb2.SnapshotResponse.FromString(message) async for message in stream]
            image = b"".join(part.blob for part in blobs)
            assert last.blob == hashlib.sha256(image).digest()
            assert blobs[0].remaining_bytes == len(image) - len(blobs[0].blob)
            assert blobs[-1].remaining_bytes == 0
            assert bytes(1000) in image

    run(test())


def test_move_leader_rejects_a_target_that_is_not_a_voter() -> None:
    async def test() -> None:
        async with served() as member:
            with pytest.raises(RpcError, match="etcdserver: bad leader transferee"):
                await member.call("Maintenance/MoveLeader", rpc_pb2.MoveLeaderRequest(targetID=9), rpc_pb2.MoveLeaderResponse)
            await member.call("Maintenance/MoveLeader", rpc_pb2.MoveLeaderRequest(targetID=1), rpc_pb2.MoveLeaderResponse)

    run(test())


def test_a_downgrade_that_is_not_possible_is_refused() -> None:
    async def test() -> None:
        async with served() as member:

            async def refusal(action: Any, version: str = "3.6") -> str:
                request = rpc_pb2.DowngradeRequest(action=action, version=version)
                try:
                    await member.call("Maintenance/Downgrade", request, rpc_pb2.DowngradeResponse)
                except RpcError as error:
                    return str(error.message)
                return ""

            action = rpc_pb2.DowngradeRequest
            assert await refusal(action.VALIDATE) == "etcdserver: cluster version not found during downgrade"
            member.replica.membership.set_cluster_version("3.7.0")
            assert await refusal(action.VALIDATE, "3.5") == "etcdserver: invalid downgrade target version"
            assert await refusal(action.VALIDATE, "x") == "etcdserver: wrong downgrade target version format"
            assert await refusal(9) == "etcdserver: unknown method"
            assert await refusal(action.CANCEL) == ""  # 3.7 does not say that there is none
            assert await refusal(action.ENABLE) == ""
            for again in (action.VALIDATE, action.ENABLE):
                assert await refusal(again) == "etcdserver: cluster has a downgrade job in progress"
            assert await refusal(action.CANCEL) == ""

    run(test())
