"""Who may attach, renew and revoke a lease, who may watch, and which user a certificate names, also of locks and elections."""

from __future__ import annotations

import asyncio

import pytest
from google.protobuf.message import Message

from tercet import errors
from tercet.mvcc import Apply, Budget
from tercet.proto import election_pb2, lock_pb2, rpc_pb2
from tercet.replica.apply import APPLY_WORK
from tercet.replica.auth_requests import LEASE_KEYS_MAX
from tercet.replica.requests import AppliedRequest
from tercet.rpc import InProcessChannel, InProcessStream, Peer, RpcError, method_table
from tercet.services.authorization import Authorization
from tercet.services.election import queue_handlers
from tercet.services.lock import Cleanups
from tests.services.users import READ, READWRITE, Put, Range, Txn, Users, op, with_users


def test_a_lease_is_attached_renewed_read_and_revoked_only_by_who_may_do_that_to_all_its_keys() -> None:
    async def test(users: Users) -> None:
        await users.add("ann", (READWRITE, b"a", b""))
        await users.add("bob", (READWRITE, b"b", b""))
        for user in ("ann", "bob"):
            await users.log_in(user)
        await users.call("Lease/LeaseGrant", rpc_pb2.LeaseGrantRequest(ID=7, TTL=60), "ann")
        await users.call("KV/Put", Put(key=b"a", lease=7), "ann")
        denied = errors.PERMISSION_DENIED.message
        requests: list[tuple[str, Message]] = [
            ("KV/Put", Put(key=b"b", lease=7)),
            ("KV/Txn", Txn(success=[op(Txn(success=[op(Put(key=b"b", lease=7))]))])),
            ("Lease/LeaseTimeToLive", rpc_pb2.LeaseTimeToLiveRequest(ID=7, keys=True)),
            ("Lease/LeaseLeases", rpc_pb2.LeaseLeasesRequest()),
            ("Lease/LeaseRevoke", rpc_pb2.LeaseRevokeRequest(ID=7)),
        ]
        for method, request in requests:
            assert await users.outcome(method, request, "bob") == denied, method
        assert await users.outcome("Lease/LeaseTimeToLive", rpc_pb2.LeaseTimeToLiveRequest(ID=7), "bob") == ""
        for user, refused in (("bob", True), ("ann", False), ("root", False)):
            stream = users.member.channel.stream("/etcdserverpb.Lease/LeaseKeepAlive", metadata=[("token", users.tokens[user])])
            await stream.send(rpc_pb2.LeaseKeepAliveRequest(ID=7).SerializeToString())
            if refused:
                with pytest.raises(RpcError, match=denied):
                    await stream.receive()
            else:
                answer = await stream.receive()
                assert answer is not None
                assert rpc_pb2.LeaseKeepAliveResponse.FromString(answer).TTL == 60
        for method, request in requests[2:]:
            assert await users.outcome(method, request, "ann") == "", method

    with_users(test)


def test_the_keys_of_a_large_lease_are_checked_before_a_put_or_a_revocation() -> None:
    async def test(users: Users) -> None:
        await users.add("ann", (READWRITE, b"a", b"b"))
        await users.log_in("ann")
        await users.call("Lease/LeaseGrant", rpc_pb2.LeaseGrantRequest(ID=7, TTL=60), "ann")
        for number in range(3 * LEASE_KEYS_MAX):
            users.member.replica.store.put(Put(key=b"a%d" % number, lease=7))
        assert await users.outcome("KV/Put", Put(key=b"a", lease=7, prev_kv=True), "ann") == ""
        users.member.replica.store.put(Put(key=b"b", lease=7))
        for method, request in (
            ("KV/Put", Put(key=b"a", lease=7)),
            ("Lease/LeaseRevoke", rpc_pb2.LeaseRevokeRequest(ID=7)),
        ):
            assert await users.outcome(method, request, "ann") == errors.PERMISSION_DENIED.message
        assert await users.outcome("Lease/LeaseRevoke", rpc_pb2.LeaseRevokeRequest(ID=7), "root") == ""
        assert len(users.member.replica.lessor) == 0

    with_users(test)


def test_the_keys_of_a_lease_count_as_work_of_a_put() -> None:
    """143 keys take 100 us, and a turn had room for a thousand such puts."""

    async def test(users: Users) -> None:
        await users.add("ann", (READWRITE, b"a", b"b"))
        await users.call("Lease/LeaseGrant", rpc_pb2.LeaseGrantRequest(ID=7, TTL=60), "root")
        replica = users.member.replica
        keys = 143
        for number in range(keys):
            replica.lessor.attach(b"a%d" % number, 7)
        request = AppliedRequest("put", Put(key=b"a0", value=b"v", lease=7), replica.auth.identity_of("ann"))
        apply = replica.state_machine.handlers["put"](request)
        assert isinstance(apply, Apply)
        apply.is_awaited = False
        budget = Budget(1000)
        assert not apply.step(budget)
        assert budget.left <= 1000 - keys

    with_users(test)


async def _grant_large_lease(users: Users) -> None:
    """Lease 7 of ann, who may read and write all its keys. Their check takes several slices."""
    await users.add("ann", (READWRITE, b"a", b"b"))
    await users.log_in("ann")
    await users.call("Lease/LeaseGrant", rpc_pb2.LeaseGrantRequest(ID=7, TTL=60), "ann")
    for number in range(3 * APPLY_WORK):
        users.member.replica.lessor.attach(b"a%d" % number, 7)


async def _renewing(users: Users) -> InProcessStream:
    """A stream on which ann has asked for a renewal of lease 7."""
    stream = users.member.channel.stream("/etcdserverpb.Lease/LeaseKeepAlive", metadata=[("token", users.tokens["ann"])])
    await stream.send(rpc_pb2.LeaseKeepAliveRequest(ID=7).SerializeToString())
    return stream


def test_the_keys_of_a_large_lease_are_checked_in_slices() -> None:
    async def test(users: Users) -> None:
        await _grant_large_lease(users)
        steps = users.member.replica.apply_steps
        assert await users.outcome("KV/Put", Put(key=b"a", lease=7), "ann") == ""
        assert users.member.replica.apply_steps >= steps + 3, "checked while it is applied"
        slices = users.member.scheduler.slices
        stream = await _renewing(users)
        assert await stream.receive()
        assert users.member.scheduler.slices >= slices + 10, "checked before the renewal"

    with_users(test)


def test_a_permission_that_is_lost_while_the_keys_of_a_lease_are_checked_refuses_the_renewal() -> None:
    async def test(users: Users) -> None:
        await _grant_large_lease(users)
        slices = users.member.scheduler.slices
        stream = await _renewing(users)
        for _ in range(1000):
            if users.member.scheduler.slices > slices:
                break
            await asyncio.sleep(0)
        users.member.replica.auth.raise_revision()
        with pytest.raises(RpcError, match="old"):
            await stream.receive()

    with_users(test)


def test_a_watch_that_is_not_permitted_is_cancelled_with_the_text_of_go() -> None:
    async def test(users: Users) -> None:
        await users.add("ann", (READ, b"a", b"c"))
        await users.log_in("ann")
        empty = "rpc error: code = InvalidArgument desc = etcdserver: user name is empty"
        invalid = "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token"
        denied = "rpc error: code = PermissionDenied desc = etcdserver: permission denied"
        for token, key, end, reason in (
            ("", b"a", b"", empty),
            ("garbage", b"a", b"", invalid),
            (users.tokens["ann"], b"c", b"", denied),
            (users.tokens["ann"], b"a", b"\0", denied),
            (users.tokens["ann"], b"", b"", denied),
            (users.tokens["ann"], b"a", b"c", ""),
            (users.tokens["root"], b"", b"\0", ""),
        ):
            stream = users.member.channel.stream("/etcdserverpb.Watch/Watch", metadata=[("token", token)] if token else [])
            request = rpc_pb2.WatchRequest(create_request=rpc_pb2.WatchCreateRequest(key=key, range_end=end))
            await stream.send(request.SerializeToString())
            answer = rpc_pb2.WatchResponse.FromString(await stream.receive() or b"")
            assert (answer.created, answer.cancel_reason, answer.canceled) == (True, reason, bool(reason)), (key, end)
            assert answer.watch_id == (-1 if reason else 0)
            stream.cancel()

    with_users(test)


# --- certificates


def test_the_common_name_of_a_certificate_is_the_user_where_there_is_no_token() -> None:
    async def test(users: Users) -> None:
        member = users.member
        await users.add("ann", (READ, b"a", b""))
        get, range_response = Range(key=b"a"), rpc_pb2.RangeResponse

        async def outcome(name: str | None, *, token: str = "", trusted: bool = True, gateway: bool = False) -> str:
            authorization = Authorization(member.replica, client_cert_auth=trusted)
            member.rewire(authorization, Peer("127.0.0.1:1", name))
            metadata = [("token", token)] if token else []
            metadata += [("grpcgateway-accept", "*/*")] if gateway else []
            try:
                await member.call("KV/Range", get, range_response, metadata=metadata)
            except RpcError as error:
                return str(error.message)
            return ""

        assert await outcome("ann") == ""
        assert await outcome("ann", trusted=False) == errors.USER_EMPTY.message
        assert await outcome("ann", gateway=True) == errors.USER_EMPTY.message
        assert await outcome("stranger") == errors.PERMISSION_DENIED.message
        assert await outcome(None) == errors.USER_EMPTY.message
        assert await outcome("") == errors.PERMISSION_DENIED.message  # a user that does not exist, as in etcd
        assert await outcome("ann", token="garbage") == errors.INVALID_AUTH_TOKEN.message
        assert await outcome("stranger", token=users.tokens["root"]) == ""

    with_users(test)


def test_the_certificate_of_a_gateway_names_no_user_of_locks_and_elections() -> None:
    """Their calls of other services say, too, that a gateway has sent them."""

    async def test(users: Users) -> None:
        member, ann = users.member, Peer("127.0.0.1:1", "ann")
        await users.add("ann", (READWRITE, b"a", b"b"))
        member.rewire(Authorization(member.replica, client_cert_auth=True), ann)
        channel = InProcessChannel(method_table(queue_handlers(member.methods, Cleanups())), peer=ann)
        leader = election_pb2.LeaderKey(name=b"a", key=b"a/7", lease=7)
        requests: list[tuple[str, Message]] = [
            ("v3lockpb.Lock/Lock", lock_pb2.LockRequest(name=b"a")),
            ("v3lockpb.Lock/Unlock", lock_pb2.UnlockRequest(key=b"a/7")),
            ("v3electionpb.Election/Campaign", election_pb2.CampaignRequest(name=b"a1")),
            ("v3electionpb.Election/Leader", election_pb2.LeaderRequest(name=b"a1")),
            ("v3electionpb.Election/Resign", election_pb2.ResignRequest(leader=leader)),
        ]
        for method, request in requests:
            with pytest.raises(RpcError, match=errors.USER_EMPTY.message):
                await channel.unary(f"/{method}", request.SerializeToString(), metadata=[("grpcgateway-accept", "*/*")])
            await channel.unary(f"/{method}", request.SerializeToString())
        channel.close()

    with_users(test)
