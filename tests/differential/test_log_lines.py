"""Log lines that operators search for: each message of etcd 3.7 about users, keys, members and maintenance is one of ours.

The same commands go to two members of each kind. Messages are compared as a set, without their fields, from info on; lines
about what only etcd has are listed below with the reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest

from tercet.proto import auth_pb2, rpc_pb2
from tests.support.newer import needs_newer_etcd, newer_etcd
from tests.support.processes import TERCET, Cluster, Member, wait_until
from tests.support.waiting import scaled

pytestmark = [pytest.mark.server_process, needs_newer_etcd]

_READWRITE: Any = auth_pb2.Permission.READWRITE
_QUOTA_BYTES = 2_000_000

# Messages that are not compared. Left out as well: debug lines, and those of the loggers "raft" (a trace of each vote; our core
# does not log, and its driver logs each change of the leader) and "bbolt" (another database).
NOT_COMPARED = {
    r"(start|stopp)(ing|ed) (remote peer|HTTP pipelining|stream reader|stream writer)|set message encoder": "the parts of one "
    "peer in etcd; in tercet a peer is one object, which logs that it is added, updated, removed",
    r"grpc service status": "etcd logs it after each defragmentation, also if StopGRPCServiceOnDefrag is off: nothing changed",
    r"storage version": "the storage version follows the cluster version, without a step of its own",
    r"TCP streaming|peer became|failed to find remote peer|prober|clock": "connections come and go on a slow machine",
    r"took too long|request stats|slow|heartbeat|overload|retry|timed out|/health": "only logged on a slow machine",
}


def _call(member: Member, path: str, message: Any, token: str = "") -> Any:
    """The response; None if it was refused."""
    name = message.DESCRIPTOR.name.removesuffix("Request")
    method = member.client.channel.unary_unary(
        f"/etcdserverpb.{path}",
        request_serializer=lambda request: request.SerializeToString(),
        response_deserializer=getattr(rpc_pb2, f"{name}Response").FromString,
    )
    try:
        return method(message, timeout=scaled(60), metadata=[("token", token)] if token else [])
    except grpc.RpcError as error:
        if error.code() in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.DEADLINE_EXCEEDED):
            raise
        return None


def _users(leader: Member) -> None:
    for name in ("root", "ann", "ann"):
        _call(leader, "Auth/UserAdd", rpc_pb2.AuthUserAddRequest(name=name, password=name))
    for name in ("root", "r"):
        _call(leader, "Auth/RoleAdd", rpc_pb2.AuthRoleAddRequest(name=name))
    for user, role in (("root", "root"), ("ann", "r"), ("ann", "r")):
        _call(leader, "Auth/UserGrantRole", rpc_pb2.AuthUserGrantRoleRequest(user=user, role=role))
    permission = auth_pb2.Permission(permType=_READWRITE, key=b"a", range_end=b"b")
    _call(leader, "Auth/RoleGrantPermission", rpc_pb2.AuthRoleGrantPermissionRequest(name="r", perm=permission))
    _call(leader, "Auth/AuthEnable", rpc_pb2.AuthEnableRequest())


def _logins(leader: Member) -> None:
    root = _call(leader, "Auth/Authenticate", rpc_pb2.AuthenticateRequest(name="root", password="root")).token
    ann = _call(leader, "Auth/Authenticate", rpc_pb2.AuthenticateRequest(name="ann", password="ann")).token
    for name in ("ann", "nobody"):
        assert _call(leader, "Auth/Authenticate", rpc_pb2.AuthenticateRequest(name=name, password="wrong")) is None
    _call(leader, "Auth/AuthEnable", rpc_pb2.AuthEnableRequest(), root)
    assert _call(leader, "KV/Put", rpc_pb2.PutRequest(key=b"z"), ann) is None
    assert _call(leader, "KV/Range", rpc_pb2.RangeRequest(key=b"a"), "garbage") is None
    refused: list[tuple[str, Any]] = [
        ("Auth/UserDelete", rpc_pb2.AuthUserDeleteRequest(name="root")),
        ("Auth/UserRevokeRole", rpc_pb2.AuthUserRevokeRoleRequest(name="root", role="root")),
        ("Auth/RoleDelete", rpc_pb2.AuthRoleDeleteRequest(role="root")),
    ]
    for path, message in refused:
        assert _call(leader, path, message, root) is None
    done: list[tuple[str, Any]] = [
        ("Auth/UserChangePassword", rpc_pb2.AuthUserChangePasswordRequest(name="ann", password="other")),
        ("Auth/RoleRevokePermission", rpc_pb2.AuthRoleRevokePermissionRequest(role="r", key=b"a", range_end=b"b")),
        ("Auth/UserRevokeRole", rpc_pb2.AuthUserRevokeRoleRequest(name="ann", role="r")),
        ("Auth/RoleDelete", rpc_pb2.AuthRoleDeleteRequest(role="r")),
        ("Auth/UserDelete", rpc_pb2.AuthUserDeleteRequest(name="ann")),
        ("Auth/AuthDisable", rpc_pb2.AuthDisableRequest()),
    ]
    for path, message in done:
        assert _call(leader, path, message, root) is not None


def _maintenance(leader: Member) -> None:
    _call(leader, "Lease/LeaseGrant", rpc_pb2.LeaseGrantRequest(ID=7, TTL=1000))
    for _ in range(2):
        _call(leader, "Lease/LeaseRevoke", rpc_pb2.LeaseRevokeRequest(ID=7))
    for number in range(10):
        leader.client.put(b"k", b"%d" % number)
    leader.client.compact(5)
    leader.wait_said("finished scheduled compaction")
    _call(leader, "Maintenance/Defragment", rpc_pb2.DefragmentRequest())
    read = leader.client.channel.unary_stream(
        "/etcdserverpb.Maintenance/Snapshot",
        request_serializer=lambda request: request.SerializeToString(),
        response_deserializer=rpc_pb2.SnapshotResponse.FromString,
    )
    assert list(read(rpc_pb2.SnapshotRequest(), timeout=scaled(60)))
    large = rpc_pb2.PutRequest(key=b"large", value=bytes(400_000))
    wait_until(lambda: _call(leader, "KV/Put", large) is None, "the quota is reached")
    alarm = rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.GET)
    wait_until(lambda: _call(leader, "Maintenance/Alarm", alarm).alarms, "the alarm is raised")
    for raised in _call(leader, "Maintenance/Alarm", alarm).alarms:
        off = rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.DEACTIVATE, alarm=raised.alarm, memberID=raised.memberID)
        _call(leader, "Maintenance/Alarm", off)


def _members(cluster: Cluster, leader: Member) -> None:
    urls = ["http://127.0.0.1:1"]
    added = _call(leader, "Cluster/MemberAdd", rpc_pb2.MemberAddRequest(peerURLs=urls, isLearner=True)).member
    for member_id in (added.ID, 1):
        assert _call(leader, "Cluster/MemberPromote", rpc_pb2.MemberPromoteRequest(ID=member_id)) is None
    _call(leader, "Cluster/MemberUpdate", rpc_pb2.MemberUpdateRequest(ID=added.ID, peerURLs=["http://127.0.0.1:2"]))
    for _ in range(2):
        _call(leader, "Cluster/MemberRemove", rpc_pb2.MemberRemoveRequest(ID=added.ID))
    (other,) = cluster.others(leader)
    other_id = other.client.status().header.member_id
    assert _call(leader, "Maintenance/MoveLeader", rpc_pb2.MoveLeaderRequest(targetID=other_id)) is not None
    wait_until(lambda: leader.client.status().leader == other_id, "the leader has changed")


def _messages(lines: Iterable[str]) -> Iterator[str]:
    for text in lines:
        line = json.loads(text) if text.startswith("{") else {}
        if line and line["level"] != "debug" and line.get("logger") not in ("raft", "bbolt"):
            yield line["msg"]


def _run(directory: Path, program: Sequence[str]) -> set[str]:
    """The messages of both members between start and stop."""
    flags = ["--bcrypt-cost=4", f"--quota-backend-bytes={_QUOTA_BYTES}", "--strict-reconfig-check=false"]
    cluster = Cluster.plan(directory, ["m", "n"], flags, programs={"m": program, "n": program})
    try:
        leader = cluster.start().leader()
        for member in cluster.members:
            wait_until(lambda member=member: '"etcdcluster":"3.7.0"' in member.http("/version")[1], "the version is known")  # type: ignore[misc]
        starts = {member.name: len(member.said().splitlines()) for member in cluster.members}
        _users(leader)
        _logins(leader)
        _maintenance(leader)
        _members(cluster, leader)
        return {each for member in cluster.members for each in _messages(member.said().splitlines()[starts[member.name] :])}
    finally:
        cluster.dispose()


def test_each_message_of_etcd_is_one_of_ours(tmp_path: Path) -> None:
    etcds = {
        message
        for message in _run(tmp_path / "etcd", newer_etcd())
        if not any(re.search(pattern, message) for pattern in NOT_COMPARED)
    }
    assert len(etcds) > 40
    assert sorted(etcds - _run(tmp_path / "tercet", TERCET)) == []
