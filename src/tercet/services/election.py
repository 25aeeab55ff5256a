"""The Election service: Campaign, Proclaim, Leader, Observe, Resign. See queue_of_keys.py for the keys.

Source: etcd server/etcdserver/api/v3election, client/v3/concurrency/election.go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from tercet.errors import STOPPED, Code, StatusError
from tercet.proto import election_pb2, kv_pb2, rpc_pb2
from tercet.rpc import Handler, Method, ServerStream, UnaryCall, server_stream, unary_async, unmarshal, unmarshal_streamed
from tercet.services.lock import Cleanups, LockService
from tercet.services.own_client import DELETE, OwnCallFailed, OwnClient
from tercet.services.queue_of_keys import (
    SEARCHES_MAX,
    created_at,
    end_of,
    first_created,
    get_op,
    key_of,
    kv_in,
    prefix_of,
    put_op,
    session_of,
    wait_for_turn,
)
from tercet.slots import Slots

NOT_LEADER: Final = StatusError(Code.UNKNOWN, "election: not leader")
NO_LEADER: Final = StatusError(Code.UNKNOWN, "election: no leader")
MISSING_LEADER: Final = StatusError(Code.UNKNOWN, '"leader" field must be provided')

_LeaderKey = election_pb2.LeaderKey


def queue_handlers(methods: Mapping[bytes, Method], cleanups: Cleanups) -> dict[str, Handler]:
    """Those of Lock and Election on one member, which share the limit of searches."""
    searches = Slots(SEARCHES_MAX)
    lock, election = LockService(methods, cleanups, searches), ElectionService(methods, cleanups, searches)
    return lock.handlers() | election.handlers()


class ElectionService:
    """v3electionpb.Election on one member. methods: of this member, those that clients call. searches: as of LockService."""

    def __init__(self, methods: Mapping[bytes, Method], cleanups: Cleanups, searches: Slots) -> None:
        self._methods = methods
        self._cleanups = cleanups
        self._searches = searches

    def handlers(self) -> dict[str, Handler]:
        return {
            "/v3electionpb.Election/Campaign": unary_async(self.campaign),
            "/v3electionpb.Election/Proclaim": unary_async(self.proclaim),
            "/v3electionpb.Election/Leader": unary_async(self.leader),
            "/v3electionpb.Election/Observe": server_stream(self.observe),
            "/v3electionpb.Election/Resign": unary_async(self.resign),
        }

    async def campaign(self, call: UnaryCall, body: bytes) -> bytes:
        """Answers when the candidate leads. A client that goes away while it waits is taken off the queue."""
        request = unmarshal(election_pb2.CampaignRequest.FromString, body)
        client = OwnClient(self._methods, call)
        lease_id = await session_of(client, request.lease)
        key = key_of(request.name, lease_id)
        entering = asyncio.ensure_future(
            client.txn(
                rpc_pb2.TxnRequest(
                    compare=[created_at(key, 0)],
                    success=[put_op(key, request.value, lease_id)],
                    failure=[get_op(key)],
                )
            )
        )
        try:
            entered = await asyncio.shield(entering)
        except asyncio.CancelledError:
            self._cleanups.run(_leave(client, key, entering))
            raise
        candidate = _LeaderKey(name=request.name, key=key, rev=entered.header.revision, lease=lease_id)
        if not entered.succeeded:
            own = kv_in(entered.responses[0])
            assert own is not None
            candidate.rev = own.create_revision
            if own.value != request.value:
                await self._proclaim_or_resign(client, candidate, request.value)
        try:
            await wait_for_turn(client, request.name, candidate.rev, self._searches)
        except asyncio.CancelledError:
            self._cleanups.run(_resign(client, candidate))
            raise
        return election_pb2.CampaignResponse(header=entered.header, leader=candidate).SerializeToString()

    async def _proclaim_or_resign(self, client: OwnClient, candidate: election_pb2.LeaderKey, value: bytes) -> None:
        try:
            await _proclaim(client, candidate, value)
        except StatusError:
            self._cleanups.run(_resign(client, candidate))
            raise

    async def proclaim(self, call: UnaryCall, body: bytes) -> bytes:
        request = unmarshal(election_pb2.ProclaimRequest.FromString, body)
        if not request.HasField("leader"):
            raise MISSING_LEADER
        client = OwnClient(self._methods, call)
        request.leader.lease = await session_of(client, request.leader.lease)
        header = await _proclaim(client, request.leader, request.value)
        return election_pb2.ProclaimResponse(header=header).SerializeToString()

    async def leader(self, call: UnaryCall, body: bytes) -> bytes:
        request = unmarshal(election_pb2.LeaderRequest.FromString, body)
        async with self._searches:
            found = await OwnClient(self._methods, call).range(first_created(request.name))
        if not found.kvs:
            raise NO_LEADER
        return election_pb2.LeaderResponse(header=found.header, kv=found.kvs[0]).SerializeToString()

    async def resign(self, call: UnaryCall, body: bytes) -> bytes:
        """Without effect for a candidate that does not lead."""
        request = unmarshal(election_pb2.ResignRequest.FromString, body)
        if not request.HasField("leader"):
            raise MISSING_LEADER
        header = await _resign(OwnClient(self._methods, call), request.leader)
        return election_pb2.ResignResponse(header=header).SerializeToString()

    async def observe(self, stream: ServerStream) -> None:
        """Sends the leader's pair, its changes, and then the next leader's.

        Ends with OK if it cannot go on, as etcd does; with an error when the member stops, so that clients try another one.
        """
        request = unmarshal_streamed(election_pb2.LeaderRequest.FromString, await stream.receive_one())
        client = OwnClient(self._methods, stream)
        try:
            while True:
                header, kv = await _await_leader(client, request.name, self._searches)
                await _send(stream, header, kv)
                await _follow(client, kv.key, header.revision + 1, stream)
        except OwnCallFailed as error:
            if error.code is STOPPED.code:
                raise


async def _proclaim(client: OwnClient, leader: election_pb2.LeaderKey, value: bytes) -> rpc_pb2.ResponseHeader:
    done = await client.txn(
        rpc_pb2.TxnRequest(
            compare=[created_at(leader.key, leader.rev)],
            success=[put_op(leader.key, value, leader.lease)],
        )
    )
    if not done.succeeded:
        raise NOT_LEADER
    return done.header


async def _leave(client: OwnClient, key: bytes, entering: asyncio.Future[rpc_pb2.TxnResponse]) -> None:
    """Resign the candidacy that a call may have begun when its client went away. (In etcd the key stays.)"""
    entered = await entering
    if entered.succeeded:
        await _resign(client, _LeaderKey(key=key, rev=entered.header.revision))


async def _resign(client: OwnClient, leader: election_pb2.LeaderKey) -> rpc_pb2.ResponseHeader:
    delete = rpc_pb2.RequestOp(request_delete_range=rpc_pb2.DeleteRangeRequest(key=leader.key))
    request = rpc_pb2.TxnRequest(compare=[created_at(leader.key, leader.rev)], success=[delete])
    return (await client.txn(request)).header


async def _await_leader(client: OwnClient, name: bytes, searches: Slots) -> tuple[rpc_pb2.ResponseHeader, kv_pb2.KeyValue]:
    """The leader's pair and the revision that it is known at; waits for a leader if there is none."""
    async with searches:
        found = await client.range(first_created(name))
    if found.kvs:
        return found.header, found.kvs[0]
    start = prefix_of(name)
    async with client.watch(start, range_end=end_of(start), start_revision=found.header.revision) as watch:
        while True:
            response = await watch.next()
            for event in response.events:
                if event.type != DELETE:
                    response.header.revision = event.kv.mod_revision
                    return response.header, event.kv


async def _follow(client: OwnClient, key: bytes, revision: int, stream: ServerStream) -> None:
    """Send the changes of the leader's pair until it is deleted."""
    async with client.watch(key, start_revision=revision) as watch:
        while True:
            response = await watch.next()
            for event in response.events:
                if event.type == DELETE:
                    return
                await _send(stream, response.header, event.kv)


async def _send(stream: ServerStream, header: rpc_pb2.ResponseHeader, kv: kv_pb2.KeyValue) -> None:
    await stream.send(election_pb2.LeaderResponse(header=header, kv=kv).SerializeToString())
