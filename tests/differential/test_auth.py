"""Random histories of users, roles, permissions, logins and requests with tokens: tercet and a real etcd answer the same."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from tercet.proto import auth_pb2, rpc_pb2
from tests.differential.twins import refusal
from tests.support.client import Client
from tests.support.newer import needs_newer_etcd, newer_etcd
from tests.support.processes import TERCET, Cluster
from tests.support.waiting import scaled

pytestmark = needs_newer_etcd

USERS = ("root", "ann", "bob", "cid", "")
ROLES = ("root", "reader", "writer", "")
PASSWORDS = ("p", "p", "p", "q", "")
KEYS = (b"a", b"b", b"ba", b"c", b"d")
ENDS = (b"", b"", b"c", b"d", b"\0", b"a", b"ba\0")
ROOT = "root"
STEPS = 220
SEEDS = 6
SECONDS = scaled(20)

Token = tuple[str, str] | None
"""What etcd gave and what tercet gave."""


class Pair:
    """Both members, and the tokens that they have given."""

    def __init__(self, etcd: Client, tercet: Client) -> None:
        self.members = (etcd, tercet)
        self.tokens: list[Token] = [None, ("garbage", "garbage"), ("abcdefghijklmnop.1", "abcdefghijklmnop.1")]
        self.codes: set[str] = set()

    def call(self, path: str, request: Message, token: Token = None) -> Any:
        """The response of both, or (code, text) of the error. Fails if they differ."""
        theirs, ours = (ask(member, path, request, token and token[number]) for number, member in enumerate(self.members))
        if path == "Auth/Authenticate" and not isinstance(theirs, tuple) and not isinstance(ours, tuple):
            self.tokens.append((theirs.token, ours.token))
            assert len(theirs.token.split(".")[0]) == len(ours.token.split(".")[0])
            theirs.ClearField("token")
            ours.ClearField("token")
        assert ours == theirs, f"\n{path} {request} as {token}\n--- etcd ---\n{theirs}\n--- tercet ---\n{ours}"
        self.codes.add(ours[1] if isinstance(ours, tuple) else "OK")
        return ours

    def reset(self) -> None:
        """No users, no roles, no keys, authentication off; both at the same auth revision."""
        assert not self.call("Auth/AuthStatus", rpc_pb2.AuthStatusRequest()).enabled
        for user in USERS:
            self.call("Auth/UserDelete", rpc_pb2.AuthUserDeleteRequest(name=user))
        for role in ROLES:
            self.call("Auth/RoleDelete", rpc_pb2.AuthRoleDeleteRequest(role=role))
        self.call("KV/DeleteRange", rpc_pb2.DeleteRangeRequest(key=b"\0", range_end=b"\0"))
        del self.tokens[3:]

    def enable(self) -> Token:
        """Make a root that can log in, and enable authentication. Returns root's token."""
        self.call("Auth/UserDelete", rpc_pb2.AuthUserDeleteRequest(name=ROOT))
        self.call("Auth/UserAdd", rpc_pb2.AuthUserAddRequest(name=ROOT, password=ROOT))
        self.call("Auth/UserGrantRole", rpc_pb2.AuthUserGrantRoleRequest(user=ROOT, role=ROOT))
        self.call("Auth/AuthEnable", rpc_pb2.AuthEnableRequest())
        self.call("Auth/Authenticate", rpc_pb2.AuthenticateRequest(name=ROOT, password=ROOT))
        return self.tokens[-1]


def ask(member: Client, path: str, request: Message, token: str | None) -> Any:
    """The response with its header reduced to the revision, or (code, text) of the error."""
    method = member.channel.unary_unary(
        f"/etcdserverpb.{path}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=ANSWERS[type(request)].FromString,
    )
    try:
        answer = method(request, timeout=SECONDS, metadata=[("token", token)] if token is not None else [])
    except grpc.RpcError as error:
        return refusal(error)
    answer.header.CopyFrom(rpc_pb2.ResponseHeader(revision=answer.header.revision))
    if isinstance(answer, rpc_pb2.StatusResponse | rpc_pb2.MemberListResponse | rpc_pb2.HashKVResponse):
        answer.Clear()  # whether it is answered is compared here
    return answer


REQUESTS: dict[str, type[Message]] = {
    "Auth/AuthEnable": rpc_pb2.AuthEnableRequest,
    "Auth/AuthDisable": rpc_pb2.AuthDisableRequest,
    "Auth/AuthStatus": rpc_pb2.AuthStatusRequest,
    "Auth/Authenticate": rpc_pb2.AuthenticateRequest,
    "Auth/UserAdd": rpc_pb2.AuthUserAddRequest,
    "Auth/UserDelete": rpc_pb2.AuthUserDeleteRequest,
    "Auth/UserGet": rpc_pb2.AuthUserGetRequest,
    "Auth/UserList": rpc_pb2.AuthUserListRequest,
    "Auth/UserChangePassword": rpc_pb2.AuthUserChangePasswordRequest,
    "Auth/UserGrantRole": rpc_pb2.AuthUserGrantRoleRequest,
    "Auth/UserRevokeRole": rpc_pb2.AuthUserRevokeRoleRequest,
    "Auth/RoleAdd": rpc_pb2.AuthRoleAddRequest,
    "Auth/RoleDelete": rpc_pb2.AuthRoleDeleteRequest,
    "Auth/RoleGet": rpc_pb2.AuthRoleGetRequest,
    "Auth/RoleList": rpc_pb2.AuthRoleListRequest,
    "Auth/RoleGrantPermission": rpc_pb2.AuthRoleGrantPermissionRequest,
    "Auth/RoleRevokePermission": rpc_pb2.AuthRoleRevokePermissionRequest,
    "KV/Put": rpc_pb2.PutRequest,
    "KV/Range": rpc_pb2.RangeRequest,
    "KV/DeleteRange": rpc_pb2.DeleteRangeRequest,
    "KV/Txn": rpc_pb2.TxnRequest,
    "KV/Compact": rpc_pb2.CompactionRequest,
    "Lease/LeaseGrant": rpc_pb2.LeaseGrantRequest,
    "Lease/LeaseRevoke": rpc_pb2.LeaseRevokeRequest,
    "Lease/LeaseTimeToLive": rpc_pb2.LeaseTimeToLiveRequest,
    "Lease/LeaseLeases": rpc_pb2.LeaseLeasesRequest,
    "Maintenance/Status": rpc_pb2.StatusRequest,
    "Maintenance/HashKV": rpc_pb2.HashKVRequest,
    "Maintenance/Alarm": rpc_pb2.AlarmRequest,
    "Maintenance/Downgrade": rpc_pb2.DowngradeRequest,
    "Cluster/MemberList": rpc_pb2.MemberListRequest,
    "Cluster/MemberRemove": rpc_pb2.MemberRemoveRequest,
}
ANSWERS: dict[type[Message], type[Any]] = {
    request: getattr(rpc_pb2, request.DESCRIPTOR.name.removesuffix("Request") + "Response") for request in REQUESTS.values()
}


def administration(chance: random.Random) -> tuple[str, Message]:
    user, role, password = chance.choice(USERS[:4]), chance.choice(ROLES[:3]), chance.choice(PASSWORDS)
    if chance.random() < 0.05:
        user, role = chance.choice(USERS), chance.choice(ROLES)
    key, end = chance.choice((*KEYS, b"")), chance.choice(ENDS)
    kind: Any = chance.randint(0, 2)
    permission = auth_pb2.Permission(permType=kind, key=key, range_end=end)
    options = auth_pb2.UserAddOptions(no_password=chance.random() < 0.3)
    requests: dict[str, Message] = {
        "Auth/UserAdd": rpc_pb2.AuthUserAddRequest(name=user, password=password, options=options),
        "Auth/UserDelete": rpc_pb2.AuthUserDeleteRequest(name=user),
        "Auth/UserGet": rpc_pb2.AuthUserGetRequest(name=user),
        "Auth/UserList": rpc_pb2.AuthUserListRequest(),
        "Auth/UserChangePassword": rpc_pb2.AuthUserChangePasswordRequest(name=user, password=password),
        "Auth/UserGrantRole": rpc_pb2.AuthUserGrantRoleRequest(user=user, role=role),
        "Auth/UserRevokeRole": rpc_pb2.AuthUserRevokeRoleRequest(name=user, role=role),
        "Auth/RoleAdd": rpc_pb2.AuthRoleAddRequest(name=role),
        "Auth/RoleDelete": rpc_pb2.AuthRoleDeleteRequest(role=role),
        "Auth/RoleGet": rpc_pb2.AuthRoleGetRequest(role=role),
        "Auth/RoleList": rpc_pb2.AuthRoleListRequest(),
        "Auth/RoleGrantPermission": rpc_pb2.AuthRoleGrantPermissionRequest(name=role, perm=permission),
        "Auth/RoleRevokePermission": rpc_pb2.AuthRoleRevokePermissionRequest(role=role, key=key, range_end=end),
        "Auth/AuthStatus": rpc_pb2.AuthStatusRequest(),
        "Auth/AuthEnable": rpc_pb2.AuthEnableRequest(),
        "Auth/Authenticate": rpc_pb2.AuthenticateRequest(name=user, password=password),
    }
    weights = {"RoleGrantPermission": 6, "UserGrantRole": 4, "UserAdd": 6, "RoleAdd": 3, "Authenticate": 12}
    path = chance.choices(list(requests), [weights.get(path.removeprefix("Auth/"), 1) for path in requests])[0]
    return path, requests[path]


def put(chance: random.Random) -> rpc_pb2.PutRequest:
    lease = chance.choice((0, 0, 0, 7, 8))
    return rpc_pb2.PutRequest(key=chance.choice(KEYS), value=b"v", prev_kv=chance.random() < 0.3, lease=lease)


def key_range(chance: random.Random) -> rpc_pb2.RangeRequest:
    key, end = chance.choice(KEYS), chance.choice(ENDS)
    return rpc_pb2.RangeRequest(key=key, range_end=end, serializable=chance.random() < 0.5)


def deletion(chance: random.Random) -> rpc_pb2.DeleteRangeRequest:
    key, end = chance.choice(KEYS), chance.choice(ENDS)
    return rpc_pb2.DeleteRangeRequest(key=key, range_end=end, prev_kv=chance.random() < 0.5)


def txn(chance: random.Random, depth: int = 0) -> rpc_pb2.TxnRequest:
    made = rpc_pb2.TxnRequest()
    for _ in range(chance.randint(0, 1)):
        key, end = chance.choice(KEYS), chance.choice(ENDS)
        made.compare.add(key=key, range_end=end, target=rpc_pb2.Compare.VERSION)
    for branch in (made.success, made.failure):
        for _ in range(chance.randint(0, 2)):
            op = branch.add()
            kind = chance.randint(0, 2 + (depth < 2))
            if kind == 0:
                op.request_range.CopyFrom(key_range(chance))
            elif kind == 1:
                op.request_put.CopyFrom(put(chance))
            elif kind == 2:
                op.request_delete_range.CopyFrom(deletion(chance))
            else:
                op.request_txn.CopyFrom(txn(chance, depth + 1))
    return made


def use(chance: random.Random) -> tuple[str, Message]:
    """A request of a user."""
    lease = chance.choice((7, 8, 9))
    action: Any = chance.randint(0, 1)
    requests: dict[str, Message] = {
        "KV/Put": put(chance),
        "KV/Range": key_range(chance),
        "KV/DeleteRange": deletion(chance),
        "KV/Txn": txn(chance),
        "KV/Compact": rpc_pb2.CompactionRequest(revision=1 << 40),
        "Lease/LeaseGrant": rpc_pb2.LeaseGrantRequest(ID=lease, TTL=3600),
        "Lease/LeaseRevoke": rpc_pb2.LeaseRevokeRequest(ID=lease),
        "Lease/LeaseLeases": rpc_pb2.LeaseLeasesRequest(),
        "Maintenance/Status": rpc_pb2.StatusRequest(),
        "Maintenance/HashKV": rpc_pb2.HashKVRequest(),
        "Maintenance/Alarm": rpc_pb2.AlarmRequest(action=action),
        "Maintenance/Downgrade": rpc_pb2.DowngradeRequest(action=0, version="1"),
        "Cluster/MemberList": rpc_pb2.MemberListRequest(),
        "Cluster/MemberRemove": rpc_pb2.MemberRemoveRequest(ID=1),
    }
    path = chance.choices(list(requests), [5, 5, 4, 8, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1])[0]
    return path, requests[path]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    programs = {"etcd": newer_etcd(), "tercet": TERCET}
    clusters = [
        Cluster.plan(tmp_path_factory.mktemp(name), [name], ["--bcrypt-cost=4"], programs={name: program})
        for name, program in programs.items()
    ]
    try:
        etcd, tercet = (cluster.members[0].start() for cluster in clusters)
        yield Pair(etcd.wait_ready().client, tercet.wait_ready().client)
    finally:
        for cluster in clusters:
            cluster.dispose()


def test_random_auth_histories_get_the_same_responses(pair: Pair) -> None:
    for seed in range(SEEDS):
        play(pair, random.Random(seed))
    assert {"OK", "etcdserver: permission denied", "etcdserver: user name is empty"} <= pair.codes


def play(pair: Pair, chance: random.Random) -> None:
    pair.reset()
    for _ in range(STEPS // 4):
        path, request = administration(chance)
        if path != "Auth/AuthEnable":
            pair.call(path, request)
    root = pair.enable()
    for _ in range(STEPS):
        if chance.random() < 0.4:
            path, request = administration(chance)
            if path == "Auth/UserChangePassword" and getattr(request, "name", "") == ROOT:
                continue
            pair.call(path, request, root if chance.random() < 0.8 else chance.choice(pair.tokens))
        else:
            pair.call(*use(chance), chance.choice(pair.tokens[-6:] if chance.random() < 0.8 else pair.tokens))
    for lease in (7, 8, 9):
        pair.call("Lease/LeaseRevoke", rpc_pb2.LeaseRevokeRequest(ID=lease), root)
    pair.call("Auth/AuthDisable", rpc_pb2.AuthDisableRequest(), root)
