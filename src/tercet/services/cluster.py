"""The Cluster service: lists the members and changes one at a time.

A change whose call has a deadline waits for it, as in etcd: for a leader, for the change before it, and for its own apply. One
without a deadline, for which etcd waits as long as the client does, fails after the timeout of requests.

The checks that protect the quorum are made here, by the member that received the request: they look at connections, which
differ between members. The checks that all members must agree on are made when the change is applied (replica/membership.py).
Source: etcd server/etcdserver/server.go (mayAddMember, mayRemoveMember, mayPromote), --strict-reconfig-check.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn, Protocol

from tercet import errors
from tercet.gotext.urls import parse_url
from tercet.log_fields import fields
from tercet.proto import rpc_pb2
from tercet.raft.types import ConfChange, ConfChangeType
from tercet.replica.identity import member_id as compute_member_id
from tercet.replica.membership import Member, change_context, hex_id
from tercet.replica.replica import Replica
from tercet.rpc import Handler, UnaryCall, unary_async, unmarshal
from tercet.services.authorization import Authorization, token_of
from tercet.services.awaitables import read_index, settle
from tercet.services.headers import Headers
from tercet.slots import Slots

logger = logging.getLogger(__name__)

CONNECTED_SECONDS_MIN: Final = 5.0  # etcd's HealthInterval
_RETRY_SECONDS: Final = 0.05
_URLS_MAX: Final = 256  # of a member
_URLS_CHARACTERS_MAX: Final = 64 << 10  # a megabyte of them takes 0.3 s to check, and each member keeps them
_NOT_ENOUGH: Final = "not enough healthy members"
_NOT_CONNECTED: Final = "local member has not been connected to {} peers, reconfigure breaks active quorum"
_CHANGES: Final = {  # as raft calls them
    ConfChangeType.ADD_NODE: "ConfChangeAddNode",
    ConfChangeType.REMOVE_NODE: "ConfChangeRemoveNode",
    ConfChangeType.UPDATE_NODE: "ConfChangeUpdateNode",
    ConfChangeType.ADD_LEARNER_NODE: "ConfChangeAddLearnerNode",
}


class Connections(Protocol):
    """What the peer transport knows of the other members."""

    def connected_seconds(self, member_id: int) -> float:
        """How long a member has been connected without interruption; 0 if it is not."""
        ...

    async def forward_promote(self, member_id: int, token: bytes) -> list[dict[str, Any]]:
        """Ask the leader to promote a learner; token: of the client. Returns the members' JSON.

        Raises RequestError, or Unavailable if there is no leader or it does not answer.
        """
        ...


class ClusterService:
    """etcdserverpb.Cluster on one member."""

    def __init__(
        self,
        replica: Replica,
        headers: Headers,
        authorization: Authorization,
        connections: Connections,
        *,
        strict: bool,
        timeout_seconds: float = 7.0,
    ) -> None:
        """strict: --strict-reconfig-check. timeout_seconds: of a change that has no deadline."""
        self._replica = replica
        self._timeout_seconds = timeout_seconds
        self.promotions = 0  # made by this member as leader
        self.promotion_failures: dict[str, int] = {}  # by the error's text
        self._turn = Slots()  # of those that propose: one at a time tries again
        self._headers = headers
        self._authorization = authorization
        self._connections = connections
        self._strict = strict

    def handlers(self) -> dict[str, Handler]:
        return {
            "/etcdserverpb.Cluster/MemberList": unary_async(self.member_list),
            "/etcdserverpb.Cluster/MemberAdd": unary_async(self.member_add),
            "/etcdserverpb.Cluster/MemberRemove": unary_async(self.member_remove),
            "/etcdserverpb.Cluster/MemberUpdate": unary_async(self.member_update),
            "/etcdserverpb.Cluster/MemberPromote": unary_async(self.member_promote),
        }

    async def member_list(self, call: UnaryCall, body: bytes) -> bytes:
        if unmarshal(rpc_pb2.MemberListRequest.FromString, body).linearizable:
            await read_index(self._replica)
        self._authorization.require_identity(call)
        return self._header() + rpc_pb2.MemberListResponse(members=self._members()).SerializeToString()

    async def member_add(self, call: UnaryCall, body: bytes) -> bytes:
        request = unmarshal(rpc_pb2.MemberAddRequest.FromString, body)
        urls = check_peer_urls(list(request.peerURLs))
        self._authorization.require_admin(call)
        member_id = compute_member_id(urls, unix_seconds=int(time.time()))
        member = Member(member_id, tuple(urls), is_learner=request.isLearner)
        if self._strict:
            self._check_addition(member)
        kind = ConfChangeType.ADD_LEARNER_NODE if request.isLearner else ConfChangeType.ADD_NODE
        await self._change(kind, member_id, change_context(member), call.deadline)
        added = self._replica.membership.members.get(member_id, member)
        response = rpc_pb2.MemberAddResponse(member=to_wire(added), members=self._members())
        return self._header() + response.SerializeToString()

    async def member_remove(self, call: UnaryCall, body: bytes) -> bytes:
        request = unmarshal(rpc_pb2.MemberRemoveRequest.FromString, body)
        self._authorization.require_admin(call)
        if self._strict:
            self._check_removal(request.ID)
        await self._change(ConfChangeType.REMOVE_NODE, request.ID, b"", call.deadline)
        return self._header() + rpc_pb2.MemberRemoveResponse(members=self._members()).SerializeToString()

    async def member_update(self, call: UnaryCall, body: bytes) -> bytes:
        request = unmarshal(rpc_pb2.MemberUpdateRequest.FromString, body)
        self._authorization.require_admin(call)
        await self._check_update(request.ID, list(request.peerURLs))
        member = Member(request.ID, tuple(request.peerURLs))
        await self._change(ConfChangeType.UPDATE_NODE, request.ID, change_context(member), call.deadline)
        return self._header() + rpc_pb2.MemberUpdateResponse(members=self._members()).SerializeToString()

    async def member_promote(self, call: UnaryCall, body: bytes) -> bytes:
        request = unmarshal(rpc_pb2.MemberPromoteRequest.FromString, body)
        self._authorization.require_admin(call)
        members = await self._promote(request.ID, token_of(call) or b"", call.deadline)
        return self._header() + rpc_pb2.MemberPromoteResponse(members=members).SerializeToString()

    async def _promote(self, member_id: int, token: bytes, deadline: float | None) -> list[rpc_pb2.Member]:
        """Promote here or at the leader; wait for a leader that answers until the timeout of requests. Raises StatusError."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self._timeout_seconds
        while loop.time() < give_up_at:
            if self._replica.is_leader:
                await self.promote_here(member_id, deadline)
                return self._members()
            try:
                raw = await self._connections.forward_promote(member_id, token)
            except errors.Unavailable as error:
                errors.strip_traceback(error)
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return [to_wire(Member.from_json(one)) for one in raw]
        raise errors.TIMEOUT if self._replica.leader_id else errors.NO_LEADER

    async def promote_here(self, member_id: int, deadline: float | None = None) -> None:
        """Promote a learner and count the outcome. On the leader only. Raises StatusError."""
        try:
            await self._promote_learner(member_id, deadline)
        except errors.StatusError as error:
            self.promotion_failures[error.message] = self.promotion_failures.get(error.message, 0) + 1
            raise
        self.promotions += 1

    async def _promote_learner(self, member_id: int, deadline: float | None) -> None:
        """The leader knows how far the learner has caught up.

        As in etcd, that it is a learner at all is checked last, when the change is applied.
        """
        member = self._replica.membership.members.get(member_id)
        if member is None:
            raise errors.MEMBER_NOT_FOUND
        if not self._replica.is_learner_ready(member_id):
            logger.error("rejecting promote learner: learner is not ready", extra=fields(member_id=hex_id(member_id)))
            raise errors.LEARNER_NOT_READY
        if self._strict:
            voters = self._replica.membership.voters()
            if sum(one.is_started for one in voters) + 1 < (len(voters) + 1) // 2 + 1:
                shown = {"requested-member-remove-id": hex_id(member_id)}  # as etcd names it
                self._refuse("promote", _NOT_ENOUGH, errors.NOT_ENOUGH_STARTED, shown)
        await self._change(ConfChangeType.ADD_NODE, member_id, change_context(member, is_promote=True), deadline)

    async def _change(self, kind: ConfChangeType, member_id: int, context: bytes, deadline: float | None) -> None:
        """Propose a change and wait until this member has applied it. Raises StatusError."""
        change = ConfChange(kind, node_id=member_id, id=self._replica.next_request_id(), context=context)
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def is_awaited() -> bool:
            return deadline is not None and not future.done()  # a call that has ended, also by its deadline, cancels it

        await self._propose(lambda: self._replica.propose_conf_change(change, settle(future), is_awaited), deadline)
        await future
        shown = fields(
            local_member_id=hex_id(self._replica.member_id),
            raft_conf_change=_CHANGES[kind],
            raft_conf_change_node_id=hex_id(member_id),
        )
        logger.info("applied a configuration change through raft", extra=shown)

    async def _propose(self, is_accepted: Callable[[], bool], deadline: float | None) -> None:
        """Propose a change, again and again while it is not accepted: there is no leader, leadership is being transferred, or
        another change is pending. Raises StatusError.
        """
        give_up_at = None if deadline is not None else asyncio.get_running_loop().time() + self._timeout_seconds
        try:
            async with asyncio.timeout_at(give_up_at), self._turn:
                while not is_accepted():
                    await asyncio.sleep(_RETRY_SECONDS)
        except TimeoutError:
            raise errors.TIMEOUT from None

    async def _check_update(self, member_id: int, urls: list[str]) -> None:
        """etcd members stop at the entry of an update whose URLs they cannot parse. Raises StatusError."""
        try:
            check_peer_urls(urls)
        except errors.RequestError as refusal:
            errors.strip_traceback(refusal)
            await read_index(self._replica)
            if member_id not in self._replica.membership.members:
                raise errors.MEMBER_NOT_FOUND from None
            raise

    # --- protection of the quorum

    def _check_addition(self, added: Member) -> None:
        voters = self._replica.membership.voters()
        quorum = (len(voters) + 1) // 2 + 1
        started = sum(one.is_started for one in voters)
        shown = {"requested-member-add": _as_go_prints(added)}
        if not added.is_learner and started < quorum and not (len(voters) == 1 and started == 1):
            self._refuse("add", _NOT_ENOUGH, errors.NOT_ENOUGH_STARTED, shown)
        if len(voters) > 1 and self._connected(voters) < quorum:
            self._refuse("add", _NOT_CONNECTED.format("majority"), errors.UNHEALTHY, shown)

    def _check_removal(self, member_id: int) -> None:
        membership = self._replica.membership
        member = membership.members.get(member_id)
        if member is not None and member.is_learner:
            return
        others = [one for one in membership.voters() if one.id != member_id]
        quorum = len(others) // 2 + 1
        if sum(one.is_started for one in others) < quorum:
            self._refuse("remove", _NOT_ENOUGH, errors.NOT_ENOUGH_STARTED, {"requested-member-remove-id": hex_id(member_id)})
        if member_id != self._replica.member_id and not self._connections.connected_seconds(member_id):
            return  # it is down, so the active quorum does not lose it
        active = self._connected(membership.voters())
        if active - 1 < quorum:
            shown = {"requested-member-remove": hex_id(member_id), "active-peers": active}
            self._refuse("remove", _NOT_CONNECTED.format("all"), errors.UNHEALTHY, shown)

    def _refuse(self, what: str, reason: str, refusal: errors.StatusError, shown: Mapping[str, object]) -> NoReturn:
        """Log why a change would endanger the quorum, and raise `refusal`."""
        named = {"local-member-id": hex_id(self._replica.member_id), **shown, "error": refusal.message}
        logger.warning(f"rejecting member {what} request; {reason}", extra=fields(named))
        raise refusal

    def _connected(self, members: list[Member]) -> int:
        return sum(self._is_connected(one.id) for one in members)

    def _is_connected(self, member_id: int) -> bool:
        is_self = member_id == self._replica.member_id
        return is_self or self._connections.connected_seconds(member_id) >= CONNECTED_SECONDS_MIN

    # --- encoding

    def _header(self) -> bytes:
        return self._headers.encode(0)  # without a revision, as in etcd

    def _members(self) -> list[rpc_pb2.Member]:
        return [to_wire(member) for member in self._replica.membership.sorted()]


def _as_go_prints(member: Member) -> str:
    """A member to add, by the verb %+v."""
    raft = f"{{PeerURLs:[{' '.join(member.peer_urls)}] IsLearner:{str(member.is_learner).lower()}}}"
    return f"{{ID:{hex_id(member.id)} RaftAttributes:{raft} Attributes:{{Name: ClientURLs:[]}}}}"


def to_wire(member: Member) -> rpc_pb2.Member:
    return rpc_pb2.Member(
        ID=member.id,
        name=member.name,
        peerURLs=member.peer_urls,
        clientURLs=member.client_urls,
        isLearner=member.is_learner,
    )


def check_peer_urls(urls: list[str]) -> list[str]:
    """The URLs of a member to add, trimmed and sorted. Raises RequestError for one that etcd refuses (NewURLs)."""
    if not urls or len(urls) > _URLS_MAX or sum(map(len, urls)) > _URLS_CHARACTERS_MAX:
        raise errors.BAD_MEMBER_URLS
    try:
        return sorted(parse_url(url).text for url in urls)
    except ValueError as error:
        raise errors.BAD_MEMBER_URLS from error
