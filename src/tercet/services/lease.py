"""The Lease service: LeaseGrant, LeaseRevoke, LeaseKeepAlive, LeaseTimeToLive, LeaseLeases.

Grants and revokes go through the log. Renewals and remaining TTLs are known to the leader alone: it answers from memory
(replica/lease_keeper.py), and any other member asks it over the peers' protocol, again and again until the request times out.
Source: etcd server/etcdserver/api/v3rpc/lease.go and v3_server.go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Protocol, TypeVar

from google.protobuf.message import DecodeError

from tercet import errors
from tercet.errors import RequestError, StatusError, Unavailable
from tercet.intake import intake_of_running_loop
from tercet.lease import Lease
from tercet.proto import rpc_pb2
from tercet.proto.wire import decode_varint, varint
from tercet.replica.lease_keys_check import LeaseKeysCheck
from tercet.replica.membership import Member
from tercet.replica.proposals import Outcome
from tercet.replica.quota import lease_cost
from tercet.replica.replica import Replica
from tercet.replica.requests import canonical_encoding
from tercet.rpc import Call, Handler, ServerStream, UnaryCall, bidi_stream, unary, unary_async, unmarshal, unmarshal_streamed
from tercet.services.authorization import Authorization
from tercet.services.headers import Headers
from tercet.services.kv import refuse
from tercet.services.lease_answers import LeaseIds, LeaseKeys, encoded_lease_id, time_to_live_body
from tercet.services.scheduler import Scheduler
from tercet.slots import Slots

_INT63: Final = (1 << 63) - 1
_RETRY_SECONDS: Final = 0.05
_RENEWALS_IN_TURN: Final = 64  # of one stream

Found = TypeVar("Found")


class LeaderLeases(Protocol):
    """The leases of another member, the leader. None: no usable answer; it may lead no more."""

    async def renew(self, leader: Member, lease_id: int) -> int | None:
        """The TTL in seconds. Raises LEASE_NOT_FOUND."""
        ...

    async def time_to_live(self, leader: Member, request: rpc_pb2.LeaseTimeToLiveRequest) -> bytes | None:
        """An encoded LeaseTimeToLiveResponse without header. Raises LEASE_NOT_FOUND."""
        ...


class LeaseService:
    """etcdserverpb.Lease on one member."""

    def __init__(
        self,
        replica: Replica,
        headers: Headers,
        scheduler: Scheduler,
        authorization: Authorization,
        leader: LeaderLeases,
        *,
        timeout_seconds: float,
    ) -> None:
        self._replica = replica
        self._auth = authorization.auth
        self._authorization = authorization
        self._headers = headers
        self._scheduler = scheduler
        self._leader = leader
        self._timeout_seconds = timeout_seconds
        self._intake = intake_of_running_loop()
        self._listing = Slots()
        self._lists_asked = 0
        self._listed: tuple[int, bytes] = (0, b"")  # the last list, and how many of those who asked it can answer

    def handlers(self) -> dict[str, Handler]:
        return {
            "/etcdserverpb.Lease/LeaseGrant": unary(self.grant),
            "/etcdserverpb.Lease/LeaseRevoke": unary(self.revoke),
            "/etcdserverpb.Lease/LeaseKeepAlive": bidi_stream(self.keep_alive),
            "/etcdserverpb.Lease/LeaseTimeToLive": unary_async(self.time_to_live),
            "/etcdserverpb.Lease/LeaseLeases": unary_async(self.leases),
        }

    # --- through the log

    def grant(self, call: UnaryCall, body: bytes) -> None:
        try:
            request = rpc_pb2.LeaseGrantRequest.FromString(body)
            while not request.ID:
                request.ID = self._replica.next_request_id() & _INT63
            if not self._replica.quota.allows(lease_cost(request)):
                self._replica.alarm_proposals.raise_no_space()
                raise errors.NO_SPACE
            identity = self._authorization.require_identity(call)
            self._replica.propose("lease_grant", canonical_encoding(request), request, partial(self._written, call), identity)
        except (DecodeError, RequestError, Unavailable) as error:
            refuse(call, error)

    def revoke(self, call: UnaryCall, body: bytes) -> None:
        try:
            request = rpc_pb2.LeaseRevokeRequest.FromString(body)
            identity = self._authorization.require_identity(call)
            self._replica.propose("lease_revoke", canonical_encoding(request), request, partial(self._written, call), identity)
        except (DecodeError, RequestError, Unavailable) as error:
            refuse(call, error)

    def _written(self, call: UnaryCall, outcome: Outcome) -> None:
        if isinstance(outcome, StatusError):
            call.fail_with(outcome)
        else:
            assert isinstance(outcome, bytes)
            call.reply(self._headers.current() + outcome)

    # --- renewals

    async def keep_alive(self, stream: ServerStream) -> None:
        """One answer for each request, in order; TTL 0 for a lease that does not exist."""
        keeper = self._replica.leases
        stream.handle_at_once(partial(self._keep_alive_at_once, stream))
        in_turn = 0
        async for message in stream:
            lease_id = unmarshal_streamed(rpc_pb2.LeaseKeepAliveRequest.FromString, message).ID
            # The header is made first: its revision must not be later than the renewal, or a client would see a lease live on
            # at a revision at which it was revoked already.
            header = self._headers.current()
            if self._auth.is_enabled:
                await self._check_keys(stream, self._named(lease_id), to_write=True)
            ttl = keeper.renew_now(lease_id) or await self._renew(lease_id)
            if not stream.send_now(_keep_alive_response(header, lease_id, ttl)):
                await stream.drained()
            in_turn += 1
            if in_turn == _RENEWALS_IN_TURN:  # a full inbox must not keep the loop busy
                in_turn = 0
                await asyncio.sleep(0)

    def _keep_alive_at_once(self, stream: ServerStream, message: bytes) -> bool:
        """Answer a request that needs no waiting. False: it is left to the stream's task, and nothing was done."""
        if self._auth.is_enabled or not stream.has_room:
            return False
        encoded_id = encoded_lease_id(message)
        if not encoded_id:
            return False
        header = self._headers.current()
        ttl = self._replica.leases.renew_now(decode_varint(encoded_id))
        if not ttl:
            return False
        stream.send_now(b"%b\x10%b\x18%b" % (header, encoded_id, varint(ttl)))
        return True

    async def _renew(self, lease_id: int) -> int:
        """Renew a lease here or at the leader. Returns its TTL in seconds, 0 if it does not exist. Raises Unavailable."""
        try:
            return await self._at_leader(partial(self._try_renew, lease_id), partial(self._leader_renews, lease_id))
        except RequestError as error:
            if error is not errors.LEASE_NOT_FOUND:
                raise
            errors.strip_traceback(error)
            return 0

    async def _leader_renews(self, lease_id: int, leader: Member) -> int | None:
        return await self._leader.renew(leader, lease_id)

    async def _try_renew(self, lease_id: int) -> int | None:
        """None: this member does not decide over the leases. Raises StatusError."""
        future: asyncio.Future[int | StatusError] = asyncio.get_running_loop().create_future()
        self._replica.leases.renew(lease_id, partial(self._intake.resolve, future))
        outcome = await future
        if isinstance(outcome, int):
            return outcome
        if outcome is errors.NOT_PRIMARY:
            return None
        raise outcome

    async def renew_here(self, lease_id: int) -> int | None:
        """The TTL of a lease that a peer renews; None if this member does not decide over the leases. Raises StatusError."""
        await self._wait_applied()
        return await self._try_renew(lease_id)

    # --- remaining TTL

    async def time_to_live(self, call: UnaryCall, body: bytes) -> bytes:
        request = unmarshal(rpc_pb2.LeaseTimeToLiveRequest.FromString, body)
        self._authorization.require_identity(call)
        auth_revision = self._auth.revision
        if request.keys:
            await self._check_keys(call, self._named(request.ID), to_write=False)
        try:
            found = await self._at_leader(partial(self._time_to_live, request), partial(self._leader_tells, request))
        except RequestError as error:
            if error is not errors.LEASE_NOT_FOUND:
                raise
            errors.strip_traceback(error)
            found = time_to_live_body(request.ID, -1, 0)
        if request.keys and self._auth.is_enabled and self._auth.revision != auth_revision:
            raise errors.AUTH_OLD_REVISION
        return self._headers.current() + found

    async def _leader_tells(self, request: rpc_pb2.LeaseTimeToLiveRequest, leader: Member) -> bytes | None:
        return await self._leader.time_to_live(leader, request)

    async def _time_to_live(self, request: rpc_pb2.LeaseTimeToLiveRequest) -> bytes:
        found = await self.time_to_live_here(request)
        if found is None:
            raise errors.LEADER_CHANGED
        return found

    async def time_to_live_here(self, request: rpc_pb2.LeaseTimeToLiveRequest) -> bytes | None:
        """An encoded response without header. None: this member does not decide over the leases. Raises StatusError."""
        await self._wait_applied()
        lease = self._replica.lessor.get(request.ID)
        if lease is None:
            raise errors.LEASE_NOT_FOUND
        remaining = self._replica.leases.remaining_seconds(lease)
        if remaining is None:
            return None
        body = time_to_live_body(lease.id, int(remaining), lease.ttl_seconds)
        if not request.keys or not lease.key_count:
            return body
        answer = LeaseKeys(body, lease)
        await self._scheduler.finish(answer, self._replica.store)
        return b"".join(answer.parts)

    async def leases(self, call: UnaryCall, body: bytes) -> bytes:
        unmarshal(rpc_pb2.LeaseLeasesRequest.FromString, body)
        self._authorization.require_identity(call)
        if self._auth.is_enabled and not self._auth.is_admin(self._authorization.identify(call)):
            async with self._listing:
                await self._check_keys(call, list(self._replica.lessor), to_write=False)
        return self._headers.current() + await self._list()

    async def _list(self) -> bytes:
        """The ids of all leases. One list at a time is made, for all who ask before it begins: each needs a copy of all leases,
        a millisecond and a megabyte for 100,000 of them.
        """
        self._lists_asked = number = self._lists_asked + 1
        async with self._listing:
            if self._listed[0] < number:
                asked = self._lists_asked
                answer = LeaseIds(list(self._replica.lessor), self._replica.leases)
                await self._scheduler.finish(answer, self._replica.store)
                self._listed = asked, b"".join(answer.parts)
            listed = self._listed[1]
            if self._listed[0] == number:
                self._listed = number, b""  # nobody else needs it
            return listed

    # --- permissions

    def _named(self, lease_id: int) -> list[Lease]:
        lease = self._replica.lessor.get(lease_id)
        return [] if lease is None else [lease]

    async def _check_keys(self, call: Call, leases: list[Lease], *, to_write: bool) -> None:
        """May the caller read, or write, all keys of these leases? Raises StatusError."""
        auth = self._auth
        identity = self._authorization.require_identity(call)
        if not auth.is_enabled or auth.is_admin(identity):
            return
        revision = auth.revision
        await self._scheduler.finish(LeaseKeysCheck(auth, identity, leases, to_write=to_write), self._replica.store)
        if auth.revision != revision:
            raise errors.AUTH_OLD_REVISION

    # --- waiting

    async def _wait_applied(self) -> None:
        """Until everything committed by now is applied. Raises Unavailable after a second."""
        future: asyncio.Future[StatusError | None] = asyncio.get_running_loop().create_future()
        self._replica.leases.wait_applied(partial(self._intake.resolve, future))
        error = await future
        if error is not None:
            raise error

    async def _at_leader(
        self, here: Callable[[], Awaitable[Found | None]], there: Callable[[Member], Awaitable[Found | None]]
    ) -> Found:
        """What the leader answers, this member or another, until it does. Raises NO_LEADER, TIMEOUT, and what they raise."""
        replica = self._replica
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout_seconds
        while True:
            leader = None if replica.is_leader else replica.membership.members.get(replica.leader_id)
            found: Found | None = None
            if replica.is_leader:
                found = await here()
            elif leader is not None:
                found = await there(leader)
            if found is not None:
                return found
            if loop.time() >= deadline:
                raise errors.TIMEOUT if replica.leader_id else errors.NO_LEADER
            await asyncio.sleep(_RETRY_SECONDS)


def _keep_alive_response(header: bytes, lease_id: int, ttl_seconds: int) -> bytes:
    body = b"%b\x10%b" % (header, varint(lease_id)) if lease_id else header
    return body + b"\x18" + varint(ttl_seconds) if ttl_seconds else body
