"""Auth on a member that leads a cluster of its own: logins, refusals of every kind, and who may call what."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.message import Message

from tercet import errors
from tercet.auth import Identity
from tercet.auth.jwt import JwtKey, JwtTokens
from tercet.mvcc.work import OPERATION
from tercet.proto import auth_pb2, rpc_pb2
from tercet.replica.apply import APPLY_WORK
from tercet.replica.auth_requests import LEASE_KEYS_MAX
from tercet.replica.requests import RequestIds, decode_request, encode_request
from tercet.rpc import InProcessStream, Peer, RpcError
from tercet.services.authorization import Authorization
from tercet.services.passwords import Passwords
from tercet.services.scheduler import SLICE_WORK
from tests.replica.lone_member import TOKEN_SECONDS
from tests.services.harness import ServedMember, run, served

_Put = rpc_pb2.PutRequest
_Range = rpc_pb2.RangeRequest
_Delete = rpc_pb2.DeleteRangeRequest
_Txn = rpc_pb2.TxnRequest
READ, WRITE, READWRITE = auth_pb2.Permission.READ, auth_pb2.Permission.WRITE, auth_pb2.Permission.READWRITE


class Users:
    """Calls as a user. `tokens` are those of the last login."""

    def __init__(self, member: ServedMember) -> None:
        self.member = member
        self.tokens: dict[str, str] = {}

    async def call(self, method: str, request: Message, user: str = "", *, token: str = "") -> Any:
        response = getattr(rpc_pb2, request.DESCRIPTOR.name.removesuffix("Request") + "Response")
        token = token or self.tokens.get(user, "")
        metadata = [("token", token)] if token else []
        return await self.member.call(method, request, response, metadata=metadata)

    async def outcome(self, method: str, request: Message, user: str = "", *, token: str = "") -> str:
        """ "" if it succeeds, or the error's text."""
        try:
            await self.call(method, request, user, token=token)
        except RpcError as error:
            return str(error.message)
        return ""

    async def auth(self, method: str, by: str = "root", **fields: Any) -> Any:
        name = method if method.startswith("Auth") else f"Auth{method}"
        return await self.call(f"Auth/{method}", getattr(rpc_pb2, f"{name}Request")(**fields), by)

    async def add(self, user: str, *permissions: tuple[int, bytes, bytes], password: str = "secret") -> None:
        """A user with a role of its own."""
        await self.auth("UserAdd", name=user, password=password)
        await self.auth("RoleAdd", name=user)
        await self.auth("UserGrantRole", user=user, role=user)
        for kind, key, end in permissions:
            await self.grant(user, kind, key, end)

    async def grant(self, role: str, kind: Any, key: bytes, end: bytes = b"") -> None:
        permission = auth_pb2.Permission(permType=kind, key=key, range_end=end)
        await self.auth("RoleGrantPermission", name=role, perm=permission)

    async def log_in(self, user: str, password: str = "secret") -> str:
        request = rpc_pb2.AuthenticateRequest(name=user, password=password)
        token: str = (await self.call("Auth/Authenticate", request)).token
        self.tokens[user] = token
        return token

    async def enable(self) -> None:
        await self.add("root")
        await self.auth("AuthEnable")
        await self.log_in("root")


def with_users(test: Callable[[Users], Any], *, enabled: bool = True) -> None:
    async def whole() -> None:
        async with served() as member:
            users = Users(member)
            if enabled:
                await users.enable()
            await test(users)

    run(whole())


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


# --- logins and tokens


def test_a_user_without_password_cannot_log_in() -> None:
    async def test(users: Users) -> None:
        await users.auth("UserAdd", name="cert", password="p", options=auth_pb2.UserAddOptions(no_password=True))
        for password in ("p", ""):
            login = rpc_pb2.AuthenticateRequest(name="cert", password=password)
            assert await users.outcome("Auth/Authenticate", login) == errors.NO_PASSWORD_USER.message

    with_users(test)


def test_a_token_is_refused_after_its_lifetime_a_new_password_and_the_end_of_its_user() -> None:
    async def test(users: Users) -> None:
        get = _Range(key=b"a")
        await users.add("ann", (READ, b"a", b""))
        for end in ("lifetime", "password", "user"):
            token = await users.log_in("ann")
            assert await users.outcome("KV/Range", get, "ann") == ""
            if end == "lifetime":
                users.member.now += TOKEN_SECONDS + 1
                await users.log_in("root")
            elif end == "password":
                await users.auth("UserChangePassword", name="ann", password="secret")
            else:
                await users.auth("UserDelete", name="ann")
            assert await users.outcome("KV/Range", get, token=token) == errors.INVALID_AUTH_TOKEN.message, end
            assert await users.outcome("KV/Put", _Put(key=b"a"), token=token) == errors.INVALID_AUTH_TOKEN.message, end

    with_users(test)


def test_a_signed_token_counts_at_the_auth_revision_that_it_names() -> None:
    async def test(users: Users) -> None:
        auth = users.member.replica.auth
        auth.tokens = JwtTokens(JwtKey("HS256", private=b"secret" * 8, public=b""), ttl_seconds=300, now=lambda: 1e9)
        for revision, text in (
            (0, errors.USER_EMPTY.message),
            (auth.revision - 1, errors.AUTH_OLD_REVISION.message),
            (auth.revision, ""),
        ):
            token = auth.tokens.sign("root", revision)
            assert await users.outcome("KV/Put", _Put(key=b"a"), token=token) == text
            assert await users.outcome("KV/Range", _Range(key=b"a"), token=token) == text
            assert await users.outcome("Auth/UserList", rpc_pb2.AuthUserListRequest(), token=token) == ""

    with_users(test)


def test_bearer_and_authorization_are_accepted_and_token_wins() -> None:
    async def test(users: Users) -> None:
        token = users.tokens["root"]
        for metadata in (
            [("token", token), ("authorization", "garbage")],
            [("authorization", token)],
            [("authorization", f"Bearer {token}")],
            [("token", f"Bearer {token}")],
        ):
            await users.member.call("KV/Range", _Range(key=b"a"), rpc_pb2.RangeResponse, metadata=metadata)
        wrong = [("token", "garbage"), ("authorization", token)]
        with pytest.raises(RpcError, match="invalid auth token"):
            await users.member.call("KV/Range", _Range(key=b"a"), rpc_pb2.RangeResponse, metadata=wrong)

    with_users(test)


def test_a_token_of_an_entry_that_is_not_applied_yet_waits_for_it() -> None:
    """Another member has issued it: its entry is committed, and this member is behind."""

    async def test(users: Users) -> None:
        member = users.member
        index = member.replica.applied_index + 1
        member.paused = True
        login = rpc_pb2.AuthenticateRequest(name="root", password="secret")
        answer = asyncio.ensure_future(users.call("Auth/Authenticate", login))
        early = [asyncio.ensure_future(users.outcome("KV/Put", _Put(key=b"a"), token=f"{'x' * 16}.{index + 50}"))]
        await asyncio.sleep(0)
        assert not early[0].done(), "it waits for a read"
        member.resume()
        assert await early[0] == errors.INVALID_AUTH_TOKEN.message
        await answer

    with_users(test)


def test_a_password_that_changes_during_its_comparison_is_compared_again() -> None:
    async def test(users: Users) -> None:
        member = users.member
        auth = member.replica.auth
        await users.add("ann")
        revisions = []
        original = auth.password_of

        class Racing(Passwords):
            async def matches(self, password: str, hashed: bytes) -> bool:
                revisions.append(auth.revision)
                is_equal = await super().matches(password, hashed)
                if len(revisions) == 1:
                    await users.auth("UserChangePassword", name="ann", password="other")
                return is_equal

        member.auth_service._passwords = Racing(cost=4)
        login = rpc_pb2.AuthenticateRequest(name="ann", password="secret")
        assert await users.outcome("Auth/Authenticate", login) == errors.AUTH_FAILED.message
        assert len(revisions) == 2
        assert original("ann") != b""

    with_users(test)


def test_too_many_logins_at_once_are_refused() -> None:
    async def test() -> None:
        passwords = Passwords(cost=4)
        passwords._waiting = 1000
        with pytest.raises(errors.StatusError, match="too many requests"):
            await passwords.matches("p", b"")
        passwords.close()

    run(test())


def test_few_long_passwords_wait_at_once() -> None:
    """A thousand of a megabyte each would hold gigabytes."""

    async def test() -> None:
        passwords = Passwords(cost=4)
        outcomes = await asyncio.gather(*(passwords.matches("p" * 1_000_000, b"") for _ in range(6)), return_exceptions=True)
        assert outcomes == [False] * 5 + [errors.TOO_MANY_REQUESTS]
        assert passwords._waiting == 0
        passwords.close()

    run(test())


@pytest.mark.parametrize("hashed", [b"", b"x", b"$2a$99$" + b"a" * 53])
def test_what_is_no_hash_matches_no_password(hashed: bytes) -> None:
    async def test() -> None:
        passwords = Passwords(cost=4)
        assert not await passwords.matches("", hashed)
        real = await passwords.hash("é" * 36)
        assert real.startswith(b"$2a$04$")
        assert await passwords.matches("é" * 36 + "cut", real)
        assert not await passwords.matches("é" * 35, real)
        passwords.close()

    run(test())


def test_no_password_and_no_token_is_in_the_log_or_in_an_entry(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def test(users: Users) -> None:
        passwords = {"ann": "hunter2hunter2", "bob": "correct horse"}
        for user, password in passwords.items():
            await users.add(user, password=password)
            token = await users.log_in(user, password)
            assert await users.outcome("KV/Put", _Put(key=b"k"), user) == errors.PERMISSION_DENIED.message
            wrong = rpc_pb2.AuthenticateRequest(name=user, password=password + "x")
            assert await users.outcome("Auth/Authenticate", wrong) == errors.AUTH_FAILED.message
            await users.outcome("KV/Put", _Put(key=b"k"), token=token + "0")
            await users.auth("UserChangePassword", name=user, password=password[::-1])
        no_password = auth_pb2.UserAddOptions(no_password=True)
        await users.auth("UserAdd", name="cid", password="unused password", options=no_password)
        secrets = [*passwords.values(), *(word[::-1] for word in passwords.values()), "unused password"]
        for secret in (*secrets, *users.tokens.values()):
            assert secret not in caplog.text
        log = b"".join(entry.data for entry in users.member.disk.entries)
        assert not [secret for secret in secrets if secret.encode() in log]
        lines = [f"{record.getMessage()} {getattr(record, 'fields', {})}" for record in caplog.records]
        assert not [line for line in lines for secret in (*secrets, *users.tokens.values()) if secret in line]
        assert [line for line in lines if "token-fingerprint" in line]

    with_users(test)


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


def op(request: Message) -> rpc_pb2.RequestOp:
    made = rpc_pb2.RequestOp()
    field = {_Range: "request_range", _Put: "request_put", _Delete: "request_delete_range", _Txn: "request_txn"}[type(request)]
    getattr(made, field).CopyFrom(request)
    return made


# ann may read [a, c) and write [b, d)
ALLOWED: dict[str, Message] = {
    "read": _Range(key=b"a"),
    "read, serializable": _Range(key=b"a", serializable=True),
    "read a range": _Range(key=b"a", range_end=b"c"),
    "write": _Put(key=b"c"),
    "write and read": _Put(key=b"b", prev_kv=True),
    "delete a range": _Delete(key=b"b", range_end=b"d"),
    "empty txn": _Txn(),
    "txn": _Txn(compare=[rpc_pb2.Compare(key=b"a")], success=[op(_Put(key=b"b"))], failure=[op(_Range(key=b"a"))]),
}
DENIED: dict[str, Message] = {
    "read outside": _Range(key=b"c"),
    "read outside, serializable": _Range(key=b"c", serializable=True),
    "read over the end": _Range(key=b"a", range_end=b"c\0"),
    "read to the end of the keys": _Range(key=b"a", range_end=b"\0"),
    "write outside": _Put(key=b"a"),
    "write and read": _Put(key=b"c", prev_kv=True),
    "delete over the end": _Delete(key=b"b", range_end=b"e"),
    "delete and read": _Delete(key=b"c", prev_kv=True),
    "compare": _Txn(compare=[rpc_pb2.Compare(key=b"c")]),
    "compare a range": _Txn(compare=[rpc_pb2.Compare(key=b"a", range_end=b"d")]),
    "branch not taken": _Txn(compare=[rpc_pb2.Compare(key=b"a")], failure=[op(_Put(key=b"a"))]),
    "read in a txn": _Txn(success=[op(_Range(key=b"c"))]),
    "nested": _Txn(success=[op(_Txn(failure=[op(_Txn(success=[op(_Put(key=b"a"))]))]))]),
    "nested prev_kv": _Txn(success=[op(_Txn(success=[op(_Put(key=b"c", prev_kv=True))]))]),
    "nested delete": _Txn(success=[op(_Txn(success=[op(_Delete(key=b"c", prev_kv=True))]))]),
}
METHOD_OF = {_Range: "KV/Range", _Put: "KV/Put", _Delete: "KV/DeleteRange", _Txn: "KV/Txn"}


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
            is_empty = request == _Txn()
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
            stream = await users.member.open("KV/RangeStream", _Range(key=b"a", range_end=b"d"), metadata=metadata)
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
            users.member.replica.store.put(_Put(key=b"a%d" % number, value=bytes(2000)))
        read = asyncio.ensure_future(users.outcome("KV/Range", _Range(key=b"a", range_end=b"b", serializable=True), "ann"))
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
        permitted = [op(_Range(key=b"a"))] * 1999
        slices = []
        for ranges in ([op(_Range(key=b"b")), *permitted], [*permitted, op(_Range(key=b"b"))]):
            before = member.scheduler.slices
            assert await users.outcome("KV/Txn", _Txn(success=ranges), "ann") == errors.PERMISSION_DENIED.message
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
    body = _Put(key=b"a").SerializeToString()
    member.replica.state_machine.apply(decode_request(encode_request("put", body, RequestIds(2, 2000), identity)))


# --- leases and watches


def test_a_lease_is_attached_renewed_read_and_revoked_only_by_who_may_do_that_to_all_its_keys() -> None:
    async def test(users: Users) -> None:
        await users.add("ann", (READWRITE, b"a", b""))
        await users.add("bob", (READWRITE, b"b", b""))
        for user in ("ann", "bob"):
            await users.log_in(user)
        await users.call("Lease/LeaseGrant", rpc_pb2.LeaseGrantRequest(ID=7, TTL=60), "ann")
        await users.call("KV/Put", _Put(key=b"a", lease=7), "ann")
        denied = errors.PERMISSION_DENIED.message
        requests: list[tuple[str, Message]] = [
            ("KV/Put", _Put(key=b"b", lease=7)),
            ("KV/Txn", _Txn(success=[op(_Txn(success=[op(_Put(key=b"b", lease=7))]))])),
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
            users.member.replica.store.put(_Put(key=b"a%d" % number, lease=7))
        assert await users.outcome("KV/Put", _Put(key=b"a", lease=7, prev_kv=True), "ann") == ""
        users.member.replica.store.put(_Put(key=b"b", lease=7))
        for method, request in (
            ("KV/Put", _Put(key=b"a", lease=7)),
            ("Lease/LeaseRevoke", rpc_pb2.LeaseRevokeRequest(ID=7)),
        ):
            assert await users.outcome(method, request, "ann") == errors.PERMISSION_DENIED.message
        assert await users.outcome("Lease/LeaseRevoke", rpc_pb2.LeaseRevokeRequest(ID=7), "root") == ""
        assert len(users.member.replica.lessor) == 0

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
        assert await users.outcome("KV/Put", _Put(key=b"a", lease=7), "ann") == ""
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
        get, range_response = _Range(key=b"a"), rpc_pb2.RangeResponse

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
