"""Changes of the membership, of leadership and of alarms, requested from the leader.

    member_id = await add_learner(members, "https://172.27.129.105:2380")
    await promote(members, member_id)      # StatusError until it has caught up

Raises StatusError with the member's reason, HostError if SSH fails.
"""

from __future__ import annotations

from tercet.client import methods
from tercet.deploy.members.members import MemberAnswer, Members
from tercet.errors import Code, StatusError
from tercet.proto import rpc_pb2

_SECONDS = 10.0
_COMPACT_SECONDS = 600.0
_DEFRAGMENT_SECONDS = 600.0
_HASH_SECONDS = 120.0
NOT_CAUGHT_UP = "in sync with leader"
"""In the error of a promotion that comes too early. Source: etcd, ErrGRPCLearnerNotReady."""
NOT_CONNECTED = "unhealthy cluster"
"""In the error of a change while a member has been connected for less than five seconds. Source: etcd, ErrGRPCUnhealthy."""


async def leader_of(members: Members) -> MemberAnswer:
    """Raises StatusError if no member reports to be the leader."""
    answers = await members.answers()
    for answer in answers.values():
        if answer.is_leader:
            return answer
    raise StatusError(Code.UNAVAILABLE, "no member is the leader")


async def add_learner(members: Members, peer_url: str) -> int:
    """Add a member without a vote. Returns its id."""
    leader = members.member((await leader_of(members)).name)
    request = rpc_pb2.MemberAddRequest(peerURLs=[peer_url], isLearner=True)
    return (await leader.call(methods.MEMBER_ADD, request, timeout=_SECONDS)).member.ID


async def promote(members: Members, member_id: int) -> None:
    """Give a learner its vote."""
    leader = members.member((await leader_of(members)).name)
    await leader.call(methods.MEMBER_PROMOTE, rpc_pb2.MemberPromoteRequest(ID=member_id), timeout=_SECONDS)


async def remove(members: Members, member_id: int) -> None:
    """Remove a member; the leader is asked to step down before."""
    leader = await leader_of(members)
    if leader.member_id == member_id:
        others = [
            one for one in (await members.answers()).values() if one.member_id not in (0, member_id) and not one.is_learner
        ]
        if others:
            await members.move_leader(leader.name, max(others, key=lambda one: one.raft_index))
            leader = await leader_of(members)
    caller = members.member(leader.name)
    await caller.call(methods.MEMBER_REMOVE, rpc_pb2.MemberRemoveRequest(ID=member_id), timeout=_SECONDS)


async def disarm(members: Members, alarm: rpc_pb2.AlarmMember) -> None:
    """Disarm one alarm of one member."""
    leader = members.member((await leader_of(members)).name)
    action = rpc_pb2.AlarmRequest.DEACTIVATE
    request = rpc_pb2.AlarmRequest(action=action, memberID=alarm.memberID, alarm=alarm.alarm)
    await leader.maintenance.alarm(request, timeout=_SECONDS)


async def compact(members: Members, revision: int) -> None:
    """Forget superseded versions up to `revision`; returns when the space can be reused."""
    leader = members.member((await leader_of(members)).name)
    await leader.kv.compact(rpc_pb2.CompactionRequest(revision=revision, physical=True), timeout=_COMPACT_SECONDS)


async def current_revision(members: Members) -> int:
    """Of the leader's store."""
    leader = members.member((await leader_of(members)).name)
    request = rpc_pb2.RangeRequest(key=b"\0", limit=1, keys_only=True)
    return (await leader.kv.range(request, timeout=_SECONDS)).header.revision


async def hash_of(members: Members, name: str, revision: int = 0) -> rpc_pb2.HashKVResponse:
    """The hash of keys and history in this member's store up to `revision`; 0: up to the newest."""
    request = rpc_pb2.HashKVRequest(revision=revision)
    return await members.member(name).maintenance.hash_kv(request, timeout=_HASH_SECONDS)


async def defragment(members: Members, name: str) -> None:
    """Rewrite the database of this member without its free pages. It answers nothing meanwhile: seconds, on a large one."""
    await members.member(name).maintenance.defragment(rpc_pb2.DefragmentRequest(), timeout=_DEFRAGMENT_SECONDS)
