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
NOT_CAUGHT_UP = "in sync with leader"
"""In the error of a promotion that comes too early. Source: etcd, ErrGRPCLearnerNotReady."""


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
