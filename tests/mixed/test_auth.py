"""Authentication in clusters of etcd and tercet: enabled before and after a tercet joins, with tokens of either kind."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf.message import Message

from tercet import errors
from tercet.proto import auth_pb2, rpc_pb2
from tests.mixed.conftest import Mix
from tests.mixed.mixture import CATCH_UP_ENTRIES, SNAPSHOT_ENTRIES, check_same, make_leader
from tests.support.processes import ETCD, TERCET, Member, etcdctl, wait_until
from tests.support.waiting import scaled

SECONDS = scaled(10)
READWRITE: Any = auth_pb2.Permission.READWRITE


def call(member: Member, path: str, request: Message, token: str = "") -> Any:
    response = getattr(rpc_pb2, request.DESCRIPTOR.name.removesuffix("Request") + "Response")
    method = member.client.channel.unary_unary(
        f"/etcdserverpb.{path}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=response.FromString,
    )
    return method(request, timeout=SECONDS, metadata=[("token", token)] if token else [])


def log_in(member: Member, user: str) -> str:
    token: str = call(member, "Auth/Authenticate", rpc_pb2.AuthenticateRequest(name=user, password=user)).token
    return token


def add_user(member: Member, user: str, token: str = "", *, role: str) -> None:
    call(member, "Auth/UserAdd", rpc_pb2.AuthUserAddRequest(name=user, password=user), token)
    call(member, "Auth/RoleAdd", rpc_pb2.AuthRoleAddRequest(name=role), token)
    call(member, "Auth/UserGrantRole", rpc_pb2.AuthUserGrantRoleRequest(user=user, role=role), token)


def refusal(member: Member, path: str, request: Message, token: str = "") -> str:
    with pytest.raises(grpc.RpcError) as refused:
        call(member, path, request, token)
    text: str = refused.value.details()
    return text


def test_a_tercet_joins_a_cluster_with_authentication_enabled_by_a_snapshot(mix: Mix) -> None:
    cluster = mix({"e1": ETCD, "t1": TERCET}, initial_members=["e1"])
    etcd, tercet = cluster.members
    etcd.start().wait_ready()
    add_user(etcd, "root", role="root")
    add_user(etcd, "ann", role="writer")
    permission = auth_pb2.Permission(permType=READWRITE, key=b"a", range_end=b"b")
    call(etcd, "Auth/RoleGrantPermission", rpc_pb2.AuthRoleGrantPermissionRequest(name="writer", perm=permission))
    call(etcd, "Auth/AuthEnable", rpc_pb2.AuthEnableRequest())
    root = log_in(etcd, "root")
    for number in range(2 * SNAPSHOT_ENTRIES + CATCH_UP_ENTRIES):
        call(etcd, "KV/Put", rpc_pb2.PutRequest(key=b"many", value=b"%d" % number), root)
    peer_url = f"--peer-urls=http://127.0.0.1:{tercet.peer_port}"
    added = etcdctl([etcd], "member", "add", tercet.name, peer_url, "--user", "root:root")
    assert added.returncode == 0, added.stderr
    tercet.start().wait_ready()
    tercet.wait_said("applied snapshot")

    put, elsewhere = rpc_pb2.PutRequest(key=b"a1"), rpc_pb2.PutRequest(key=b"c")
    for asked, other in ((etcd, tercet), (tercet, etcd)):
        ann = log_in(asked, "ann")
        for member in (asked, other):
            call(member, "KV/Put", put, ann)
            assert call(member, "KV/Range", rpc_pb2.RangeRequest(key=b"a", range_end=b"b"), ann).count == 1
            assert refusal(member, "KV/Put", elsewhere, ann) == errors.PERMISSION_DENIED.message
            assert refusal(member, "KV/Put", put) == errors.USER_EMPTY.message
            assert refusal(member, "KV/Put", put, "garbage") == errors.INVALID_AUTH_TOKEN.message

    root = log_in(tercet, "root")
    add_user(tercet, "bob", root, role="reader")
    call(etcd, "Auth/UserChangePassword", rpc_pb2.AuthUserChangePasswordRequest(name="bob", password="bob"), root)
    log_in(tercet, "bob")
    users = [list(call(member, "Auth/UserList", rpc_pb2.AuthUserListRequest(), root).users) for member in (etcd, tercet)]
    assert users == [["ann", "bob", "root"]] * 2
    call(etcd, "Auth/AuthDisable", rpc_pb2.AuthDisableRequest(), root)
    check_same(cluster.members)


def test_authentication_is_enabled_when_both_kinds_are_members_and_under_either_leader(mix: Mix) -> None:
    cluster = mix({"e1": ETCD, "t1": TERCET, "t2": TERCET})
    for member in cluster.members:
        member.start()
    for member in cluster.members:
        member.wait_ready()
    etcd, tercet, _ = cluster.members
    make_leader(cluster, tercet)
    add_user(tercet, "root", role="root")
    call(tercet, "Auth/AuthEnable", rpc_pb2.AuthEnableRequest())
    wait_until(lambda: refusal(etcd, "KV/Put", rpc_pb2.PutRequest(key=b"a")), "etcd asks for a user")
    root = log_in(etcd, "root")
    lease = rpc_pb2.LeaseGrantRequest(ID=7, TTL=4)
    call(etcd, "Lease/LeaseGrant", lease, root)
    call(etcd, "KV/Put", rpc_pb2.PutRequest(key=b"leased", lease=7), root)

    def is_gone() -> bool:
        return not call(etcd, "KV/Range", rpc_pb2.RangeRequest(key=b"leased"), root).count

    wait_until(is_gone, "the leader revokes the lease, as root")
    ids = {call(one, "Maintenance/Status", rpc_pb2.StatusRequest(), root).header.member_id: one for one in cluster.members}
    etcd_id = next(number for number, member in ids.items() if member is etcd)

    def etcd_leads() -> bool:
        leader: int = call(etcd, "Maintenance/Status", rpc_pb2.StatusRequest(), root).leader
        if leader not in (0, etcd_id):
            call(ids[leader], "Maintenance/MoveLeader", rpc_pb2.MoveLeaderRequest(targetID=etcd_id), root)
        return leader == etcd_id

    wait_until(etcd_leads, "etcd leads")
    add_user(tercet, "ann", root, role="writer")
    for member in cluster.members:
        ann = log_in(member, "ann")
        assert refusal(member, "KV/Range", rpc_pb2.RangeRequest(key=b"a"), ann) == errors.PERMISSION_DENIED.message
    call(tercet, "Auth/AuthDisable", rpc_pb2.AuthDisableRequest(), root)
    check_same(cluster.members)
