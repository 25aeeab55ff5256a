"""Auth on a member that leads a cluster of its own: refusals of every kind, and who may call what on which keys."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google.protobuf.message import Message

from tercet import errors
from tercet.auth import Identity
from tercet.mvcc.work import OPERATION
from tercet.proto import auth_pb2, rpc_pb2
from tercet.replica.requests import RequestIds, decode_request, encode_request
from tercet.rpc import Peer, RpcError
from tercet.services.authorization import Authorization
from tercet.services.scheduler import SLICE_WORK
from tests.services.harness import ServedMember
from tests.services.users import READ, READWRITE, WRITE, Delete, Put, Range, Txn, Users, op, with_users

# --- errors: each text of errors.py is raised, with its code

ADMINISTRATION: dict[str, tuple[errors.RequestError, str, dict[str, Any]]] = {
    "add a user without a name": (errors.USER_EMPTY, "UserAdd", {"password": "p"}),
    "add a user twice": (errors.USER_EXISTS, "UserAdd", {"name": "root", "password": "p"}),
    "add a user with a long password": (errors.PASSWORD_TOO_LONG, "UserAdd", {"name": "u", "password": "p" * 73}),
    "change to a long password": (errors.PASSWORD_TOO_LONG, "UserChangePassword", {"name": "root", "password": "p" * 73}),
    "a hash that is not base64": (errors.NO_PASSWORD_USER, "UserChangePassword", {"name": "root", "hashedPassword": "*"}),
    "delete an unknown user": (errors.USER_NOT_FOUND, "UserDelete", {"name": "u"}),
    "get an unknown user": (errors.USER_NOT_FOUND, "UserGet", {"name": "u"}),
    "password of an unknown user": (errors.USER_NOT_FOUND, "UserChangePassword", {"name": "u", "password": "p"}),
    "grant a role to an unknown user": (errors.USER_NOT_FOUND, "UserGrantRole", {"user": "u", "role": "root"}),
    "grant an unknown role": (errors.ROLE_NOT_FOUND, "UserGrantRole", {"user": "root", "role": "r"}),
    "revoke a role that is not granted": (errors.ROLE_NOT_GRANTED, "UserRevokeRole", {"name": "root", "role": "r"}),
    "revoke a role of an unknown user": (errors.USER_NOT_FOUND, "UserRevokeRole", {"name": "u", "role": "r"}),
    "add a role without a name": (errors.ROLE_EMPTY, "RoleAdd", {}),
    "add a role twice": (errors.ROLE_EXISTS, "RoleAdd", {"name": "root"}),
    "delete an unknown role": (errors.ROLE_NOT_FOUND, "RoleDelete", {"role": "r"}),
    "get an unknown role": (errors.ROLE_NOT_FOUND, "RoleGet", {"role": "r"}),
    "grant no permission": (errors.PERMISSION_NOT_GIVEN, "RoleGrantPermission", {"name": "root"}),
    "grant on an empty range": (
        errors.INVALID_AUTH_MANAGEMENT,
        "RoleGrantPermission",
        {"name": "root", "perm": auth_pb2.Permission(key=b"b", range_end=b"a")},
    ),
    "grant to an unknown role": (
        errors.ROLE_NOT_FOUND,
        "RoleGrantPermission",
        {"name": "r", "perm": auth_pb2.Permission(key=b"b")},
    ),
    "revoke a permission of an unknown role": (errors.ROLE_NOT_FOUND, "RoleRevokePermission", {"role": "r", "key": b"a"}),
    "revoke a permission that is not granted": (
        errors.PERMISSION_NOT_GRANTED,
        "RoleRevokePermission",
        {"role": "root", "key": b"a"},
    ),
    "delete root": (errors.INVALID_AUTH_MANAGEMENT, "UserDelete", {"name": "root"}),
    "delete the role root": (errors.INVALID_AUTH_MANAGEMENT, "RoleDelete", {"role": "root"}),
    "revoke root of root": (errors.INVALID_AUTH_MANAGEMENT, "UserRevokeRole", {"name": "root", "role": "root"}),
    "log in with a wrong password": (errors.AUTH_FAILED, "Authenticate", {"name": "root", "password": "x"}),
    "log in as nobody": (errors.AUTH_FAILED, "Authenticate", {"name": "u", "password": "x"}),
}


def test_each_refused_administration_has_etcds_code_and_text() -> None:
    async def test(users: Users) -> None:
        for name, (error, method, fields) in ADMINISTRATION.items():
            revision = users.member.replica.auth.revision
            if method == "Authenticate":
                refused = users.call("Auth/Authenticate", rpc_pb2.AuthenticateRequest(**fields))
            else:
                refused = users.auth(method, **fields)
            with pytest.raises(RpcError) as caught:
                await refused
            assert (caught.value.code, caught.value.message) == (error.code, error.message), name
            assert users.member.replica.auth.revision == revision, f"{name}: nothing has changed"

    with_users(test)


def test_enabling_needs_a_root_user_with_the_role_root() -> None:
    async def test(users: Users) -> None:
        enable = rpc_pb2.AuthEnableRequest()
        assert await users.outcome("Auth/AuthEnable", enable) == errors.ROOT_USER_NOT_FOUND.message
        await users.auth("UserAdd", name="root", password="p")
        assert await users.outcome("Auth/AuthEnable", enable) == errors.ROOT_ROLE_NOT_FOUND.message
        login = rpc_pb2.AuthenticateRequest(name="root", password="p")
        assert await users.outcome("Auth/Authenticate", login) == errors.AUTH_NOT_ENABLED.message
        await users.auth("UserGrantRole", user="root", role="root")
        assert await users.outcome("Auth/AuthEnable", enable) == ""
        assert (await users.auth("AuthStatus")).enabled

    with_users(test, enabled=False)


def test_the_auth_revision_counts_changes_and_nothing_else() -> None:
    async def test(users: Users) -> None:
        async def revision() -> int:
            number: int = (await users.auth("AuthStatus")).authRevision
            return number

        assert await revision() == 1
        await users.add("root", (READ, b"a", b""))
        assert await revision() == 5
        await users.auth("UserGrantRole", user="root", role="root")
        await users.auth("AuthEnable")
        await users.log_in("root")
        assert await revision() == 5
        await users.auth("AuthDisable")
        assert await revision() == 6
        await users.auth("AuthDisable")
        assert await revision() == 6

    with_users(test, enabled=False)


# --- who may call what

_Alarm = rpc_pb2.AlarmRequest


ANYBODY, NAMED, ROOT_ONLY = "anybody", "named", "root only"

METHODS: dict[str, tuple[str, Message]] = {
    "Auth/AuthStatus": (ANYBODY, rpc_pb2.AuthStatusRequest()),
    "Maintenance/Status": (NAMED, rpc_pb2.StatusRequest()),
    "Maintenance/Alarm": (NAMED, _Alarm(action=_Alarm.GET)),
    "Maintenance/Alarm ": (ROOT_ONLY, _Alarm(action=_Alarm.DEACTIVATE, alarm=rpc_pb2.NOSPACE)),
    "Maintenance/Hash": (ROOT_ONLY, rpc_pb2.HashRequest()),
    "Maintenance/HashKV": (ROOT_ONLY, rpc_pb2.HashKVRequest()),
    "Maintenance/Defragment": (ROOT_ONLY, rpc_pb2.DefragmentRequest()),
    "Maintenance/MoveLeader": (ROOT_ONLY, rpc_pb2.MoveLeaderRequest(targetID=9)),
    "Maintenance/Downgrade": (ROOT_ONLY, rpc_pb2.DowngradeRequest(version="1")),
    "Cluster/MemberList": (NAMED, rpc_pb2.MemberListRequest()),
    "Cluster/MemberAdd": (ROOT_ONLY, rpc_pb2.MemberAddRequest(peerURLs=["http://localhost:2380"])),
    "Cluster/MemberRemove": (ROOT_ONLY, rpc_pb2.MemberRemoveRequest(ID=9)),
    "Cluster/MemberUpdate": (ROOT_ONLY, rpc_pb2.MemberUpdateRequest(ID=9, peerURLs=["http://localhost:2380"])),
    "Cluster/MemberPromote": (ROOT_ONLY, rpc_pb2.MemberPromoteRequest(ID=9)),
    "KV/Compact": (ROOT_ONLY, rpc_pb2.CompactionRequest(revision=1 << 40)),
    "Lease/LeaseGrant": (NAMED, rpc_pb2.LeaseGrantRequest(TTL=60)),
    "Lease/LeaseRevoke": (NAMED, rpc_pb2.LeaseRevokeRequest(ID=99)),
    "Lease/LeaseTimeToLive": (NAMED, rpc_pb2.LeaseTimeToLiveRequest(ID=99, keys=True)),
    "Lease/LeaseLeases": (NAMED, rpc_pb2.LeaseLeasesRequest()),
    "Auth/UserList": (ROOT_ONLY, rpc_pb2.AuthUserListRequest()),
    "Auth/RoleList": (ROOT_ONLY, rpc_pb2.AuthRoleListRequest()),
    "Auth/UserAdd": (ROOT_ONLY, rpc_pb2.AuthUserAddRequest(name="new")),
    "Auth/RoleAdd": (ROOT_ONLY, rpc_pb2.AuthRoleAddRequest(name="new")),
    "Auth/UserGet": (ROOT_ONLY, rpc_pb2.AuthUserGetRequest(name="root")),
    "Auth/RoleGet": (ROOT_ONLY, rpc_pb2.AuthRoleGetRequest(role="root")),
}

REFUSALS = {
    errors.USER_EMPTY.message,
    errors.INVALID_AUTH_TOKEN.message,
    errors.PERMISSION_DENIED.message,
    errors.USER_NOT_FOUND.message,
}


def test_each_method_asks_for_the_caller_that_etcd_asks_for() -> None:
    async def test(users: Users) -> None:
        await users.add("ann")
        await users.log_in("ann")
        for path, (needs, request) in METHODS.items():
            method = path.strip()
            nobody = "" if needs == ANYBODY else errors.USER_EMPTY.message
            assert await users.outcome(method, request) == nobody, path
            assert await users.outcome(method, request, token="garbage") == errors.INVALID_AUTH_TOKEN.message, path
            refused = await users.outcome(method, request, "ann")
            assert (refused == errors.PERMISSION_DENIED.message) == (needs == ROOT_ONLY), (path, refused)
            assert await users.outcome(method, request, "root") not in REFUSALS, path

    with_users(test)


def test_users_see_themselves_and_their_roles() -> None:
    async def test(users: Users) -> None:
        await users.add("ann", (READ, b"a", b""))
        await users.log_in("ann")
        assert list((await users.auth("UserGet", by="ann", name="ann")).roles) == ["ann"]
        assert (await users.auth("RoleGet", by="ann", role="ann")).perm[0].key == b"a"
        root = (await users.auth("RoleGet", role="root")).perm[0]
        assert (root.permType, root.key, root.range_end) == (READWRITE, b"", b"\0")

    with_users(test)


# ann may read [a, c) and write [b, d)
ALLOWED: dict[str, Message] = {
    "read": Range(key=b"a"),
    "read, serializable": Range(key=b"a", serializable=True),
    "read a range": Range(key=b"a", range_end=b"c"),
    "write": Put(key=b"c"),
    "write and read": Put(key=b"b", prev_kv=True),
    "delete a range": Delete(key=b"b", range_end=b"d"),
    "empty txn": Txn(),
    "txn": Txn(compare=[rpc_pb2.Compare(key=b"a")], success=[op(Put(key=b"b"))], failure=[op(Range(key=b"a"))]),
}

DENIED: dict[str, Message] = {
    "read outside": Range(key=b"c"),
    "read outside, serializable": Range(key=b"c", serializable=True),
    "read over the end": Range(key=b"a", range_end=b"c\0"),
    "read to the end of the keys": Range(key=b"a", range_end=b"\0"),
    "write outside": Put(key=b"a"),
    "write and read": Put(key=b"c", prev_kv=True),
    "delete over the end": Delete(key=b"b", range_end=b"e"),
    "delete and read": Delete(key=b"c", prev_kv=True),
    "compare": Txn(compare=[rpc_pb2.Compare(key=b"c")]),
    "compare a range": Txn(compare=[rpc_pb2.Compare(key=b"a", range_end=b"d")]),
    "branch not taken": Txn(compare=[rpc_pb2.Compare(key=b"a")], failure=[op(Put(key=b"a"))]),
    "read in a txn": Txn(success=[op(Range(key=b"c"))]),
    "nested": Txn(success=[op(Txn(failure=[op(Txn(success=[op(Put(key=b"a"))]))]))]),
    "nested prev_kv": Txn(success=[op(Txn(success=[op(Put(key=b"c", prev_kv=True))]))]),
    "nested delete": Txn(success=[op(Txn(success=[op(Delete(key=b"c", prev_kv=True))]))]),
}

METHOD_OF = {Range: "KV/Range", Put: "KV/Put", Delete: "KV/DeleteRange", Txn: "KV/Txn"}


def test_keys_are_read_and_written_as_far_as_permitted() -> None:
    async def test(users: Users) -> None:
        await users.add("ann", (READ, b"a", b"c"), (WRITE, b"b", b"d"))
        await users.log_in("ann")
        for name, request in ALLOWED.items():
            assert await users.outcome(METHOD_OF[type(request)], request, "ann") == "", name
        for name, request in DENIED.items():
            method = METHOD_OF[type(request)]
            assert await users.outcome(method, request, "ann") == errors.PERMISSION_DENIED.message, name
            assert await users.outcome(method, request, "root") == "", name
        for name, request in (ALLOWED | DENIED).items():
            is_empty = request == Txn()
            assert await users.outcome(METHOD_OF[type(request)], request) == ("" if is_empty else errors.USER_EMPTY.message), (
                name
            )

    with_users(test)


def test_a_stream_of_a_range_is_checked() -> None:
    async def test(users: Users) -> None:
        await users.add("ann", (READ, b"a", b"c"))
        await users.log_in("ann")
        for user, text in (("", errors.USER_EMPTY.message), ("ann", errors.PERMISSION_DENIED.message), ("root", "")):
            metadata = [("token", users.tokens[user])] if user else []
            stream = await users.member.open("KV/RangeStream", Range(key=b"a", range_end=b"d"), metadata=metadata)
            if text:
                with pytest.raises(RpcError, match=text):
                    await stream.receive()
            else:
                assert await stream.receive() is not None

    with_users(test)


def test_a_permission_that_is_revoked_during_a_long_read_fails_it() -> None:
    async def test(users: Users) -> None:
        await users.add("ann", (READ, b"a", b"b"))
        await users.log_in("ann")
        for number in range(3000):
            users.member.replica.store.put(Put(key=b"a%d" % number, value=bytes(2000)))
        read = asyncio.ensure_future(users.outcome("KV/Range", Range(key=b"a", range_end=b"b", serializable=True), "ann"))
        await asyncio.sleep(0)
        assert not read.done()
        users.member.replica.auth.delete_role("ann")
        assert await read == errors.AUTH_OLD_REVISION.message

    with_users(test)


def test_permissions_of_a_large_read_only_txn_are_checked_in_slices() -> None:
    """Only a permission of the last range is missing: the check of the others takes turns of its own."""

    async def test(users: Users) -> None:
        member = users.member
        member.rewire(Authorization(member.replica), Peer("in process", None), txn_ops_max=2000)
        await users.add("ann", (READ, b"a", b""))
        await users.log_in("ann")
        permitted = [op(Range(key=b"a"))] * 1999
        slices = []
        for ranges in ([op(Range(key=b"b")), *permitted], [*permitted, op(Range(key=b"b"))]):
            before = member.scheduler.slices
            assert await users.outcome("KV/Txn", Txn(success=ranges), "ann") == errors.PERMISSION_DENIED.message
            slices.append(member.scheduler.slices - before)
        assert slices[1] - slices[0] >= 2000 * OPERATION // SLICE_WORK - 1

    with_users(test)


def test_an_entry_is_checked_when_it_is_applied() -> None:
    """Its permission was revoked between its proposal and its apply: both are in the log, in this order."""

    async def test(users: Users) -> None:
        await users.add("ann", (WRITE, b"a", b""))
        member = users.member
        old = Identity("ann", member.replica.auth.revision)
        await users.auth("RoleRevokePermission", role="ann", key=b"a")
        with pytest.raises(errors.RequestError) as refused:
            apply_put(member, old)
        assert refused.value is errors.AUTH_OLD_REVISION
        with pytest.raises(errors.RequestError) as refused:
            apply_put(member, Identity("ann", member.replica.auth.revision))
        assert refused.value is errors.PERMISSION_DENIED
        apply_put(member, Identity("root", member.replica.auth.revision))

    with_users(test)


def apply_put(member: ServedMember, identity: Identity) -> None:
    body = Put(key=b"a").SerializeToString()
    member.replica.state_machine.apply(decode_request(encode_request("put", body, RequestIds(2, 2000), identity)))
