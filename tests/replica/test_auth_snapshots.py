"""Users, roles, permissions and the auth revision survive restarts and installed snapshots, in etcd's records."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from google.protobuf.message import Message

from tercet import errors
from tercet.auth import Identity, SimpleTokens
from tercet.errors import StorageFailure
from tercet.proto import auth_pb2, internal_pb2, rpc_pb2
from tercet.raft.types import Entry, MessageType
from tercet.replica.replica import Options
from tercet.replica.requests import AppliedRequest, RequestIds, encode_request
from tercet.replica.state_machine import StateMachine
from tercet.storage.interfaces import Bucket
from tercet.storage.memory_backend import MemoryBackend
from tests.replica.lone_member import LEADER, LoneMember, put_entry, snapshot_of

HASH = base64.b64encode(b"$2a$04$hash").decode()
ROOT = Identity("root", 1 << 40)

READ_A = auth_pb2.Permission(permType=auth_pb2.Permission.READ, key=b"a", range_end=b"b")
SETUP: list[tuple[str, Message]] = [
    ("auth_user_add", rpc_pb2.AuthUserAddRequest(name="root", hashedPassword=HASH)),
    ("auth_user_grant_role", rpc_pb2.AuthUserGrantRoleRequest(user="root", role="root")),
    ("auth_role_add", rpc_pb2.AuthRoleAddRequest(name="reader")),
    ("auth_role_grant_permission", rpc_pb2.AuthRoleGrantPermissionRequest(name="reader", perm=READ_A)),
    ("auth_user_add", rpc_pb2.AuthUserAddRequest(name="ann", options=auth_pb2.UserAddOptions(no_password=True))),
    ("auth_user_grant_role", rpc_pb2.AuthUserGrantRoleRequest(user="ann", role="reader")),
    ("auth_enable", rpc_pb2.AuthEnableRequest()),
]


def entries(requests: list[tuple[str, Message]], first: int) -> list[Entry]:
    return [
        Entry(2, index, encode_request(field, message.SerializeToString(), RequestIds(LEADER, 1000 + index), ROOT))
        for index, (field, message) in enumerate(requests, start=first)
    ]


def member_with_auth() -> LoneMember:
    member = LoneMember()
    member.settle()
    made = entries(SETUP, 4)
    member.follow(made, commit=made[-1].index)
    return member


def state(member: LoneMember) -> dict[str, Any]:
    auth = member.replica.auth
    return {
        "enabled": auth.is_enabled,
        "revision": auth.revision,
        "users": {name: list(user.roles) for name, user in auth.users.items()},
        "roles": {
            name: [(one.permType, one.key, one.range_end) for one in role.keyPermission] for name, role in auth.roles.items()
        },
    }


EXPECTED = {
    "enabled": True,
    "revision": 7,
    "users": {"root": ["root"], "ann": ["reader"]},
    "roles": {"reader": [(auth_pb2.Permission.READ, b"a", b"b")]},
}


def check_permissions(member: LoneMember) -> None:
    auth = member.replica.auth
    ann = auth.identity_of("ann")
    auth.check_read(ann, b"a1", b"")
    with pytest.raises(errors.RequestError, match="permission denied"):
        auth.check_write(ann, b"a1", b"")
    with pytest.raises(errors.RequestError, match="permission denied"):
        auth.check_read(ann, b"c", b"")


def test_d22_a_follower_restored_by_a_snapshot_has_the_users_permissions_and_revision() -> None:
    """It had other users in memory before, with permissions that were computed already."""
    leader = member_with_auth()
    assert state(leader) == EXPECTED
    follower = LoneMember()
    follower.settle()
    made = entries([("auth_user_add", rpc_pb2.AuthUserAddRequest(name="old", hashedPassword=HASH)), *SETUP[:2]], 4)
    follower.follow([*made, *entries([SETUP[-1]], 7)], commit=7)
    follower.replica.auth.check_read(follower.replica.auth.identity_of("root"), b"c", b"")
    leader.follow([put_entry(2, at, b"k") for at in range(11, 15)], commit=14)
    message, content = snapshot_of(leader, term=2)
    follower.receive_database(message, content)
    follower.settle()
    assert follower.replica.applied_index == 14
    for one in (follower, follower.after_power_cut()):
        assert state(one) == EXPECTED
        check_permissions(one)


def test_an_installed_snapshot_revokes_the_tokens_of_changed_users() -> None:
    """The follower has not applied the entries by which the others have revoked them."""
    users = ("same", "changed", "deleted", "again")
    added = [("auth_user_add", rpc_pb2.AuthUserAddRequest(name=name, hashedPassword=HASH)) for name in users]
    logins = [("authenticate", internal_pb2.InternalAuthenticateRequest(name=name, simple_token=name)) for name in users]
    common: list[tuple[str, Message]] = [*SETUP, *added, *logins]
    other = base64.b64encode(b"$2a$04$other").decode()
    changes: list[tuple[str, Message]] = [
        ("auth_user_change_password", rpc_pb2.AuthUserChangePasswordRequest(name="changed", hashedPassword=other)),
        ("auth_user_delete", rpc_pb2.AuthUserDeleteRequest(name="deleted")),
        ("auth_user_delete", rpc_pb2.AuthUserDeleteRequest(name="again")),
        ("auth_user_add", rpc_pb2.AuthUserAddRequest(name="again", hashedPassword=other)),
    ]
    disable: list[tuple[str, Message]] = [("auth_disable", rpc_pb2.AuthDisableRequest())]
    for ends, valid in ((changes, {"same"}), (disable, set())):
        leader, follower = LoneMember(), LoneMember()
        tokens = SimpleTokens(clock=lambda: 0.0, ttl_seconds=300)
        for member, requests in ((leader, [*common, *ends]), (follower, common)):
            member.settle()
            member.replica.auth.tokens = tokens if member is follower else SimpleTokens(clock=lambda: 0.0, ttl_seconds=300)
            made = entries(requests, 4)
            member.follow(made, commit=made[-1].index)
        names = {name: f"{name}.{4 + len(common) - len(users) + at}".encode() for at, name in enumerate(users)}
        assert all(tokens.find(token) for token in names.values())
        message, content = snapshot_of(leader, term=2)
        follower.receive_database(message, content)
        follower.settle()
        assert follower.replica.applied_index == leader.replica.applied_index
        assert {name for name, token in names.items() if tokens.find(token)} == valid


def test_a_restart_keeps_everything_and_goes_on_checking() -> None:
    member = member_with_auth()
    member.backend.commit_now()
    restarted = member.after_power_cut()
    assert state(restarted) == EXPECTED
    check_permissions(restarted)
    index = restarted.replica.applied_index + 1
    restarted.follow([put_entry(2, index, b"k")], commit=index)
    assert restarted.replica.revision == 1, "a put of nobody is refused at its apply"


def test_a_power_cut_before_the_commit_applies_the_entries_again() -> None:
    member = member_with_auth()
    restarted = member.after_power_cut()
    index = len(SETUP) + 4
    restarted.follow(entries([("auth_user_list", rpc_pb2.AuthUserListRequest())], index), commit=index)
    assert state(restarted) == EXPECTED


def test_a_refused_put_of_another_member_raises_no_alarm() -> None:
    """The quota is reached here; whoever may not write may not stop the writes of others."""
    member = LoneMember(options=Options(quota_bytes=1))
    member.settle()
    member.follow(entries([*SETUP, ("put", rpc_pb2.PutRequest(key=b"k", value=bytes(64 << 10)))], 4), commit=11)
    assert len(member.take_sent(MessageType.PROP)) == 1
    member.now += 10  # the alarm may be proposed again
    member.follow([put_entry(2, 12, b"k")], commit=12)
    assert member.take_sent(MessageType.PROP) == []
    member.follow(entries([("put", rpc_pb2.PutRequest(key=b"k"))], 13), commit=13)
    assert len(member.take_sent(MessageType.PROP)) == 1


def test_the_records_are_etcds() -> None:
    backend = member_with_auth().backend
    assert backend.get(Bucket.AUTH, b"authEnabled") == b"\x01"
    assert backend.get(Bucket.AUTH, b"authRevision") == bytes(7) + b"\x07"
    # As etcd 3.7 writes them: a user always has its options, here without a field.
    assert backend.get(Bucket.AUTH_USERS, b"root") == b"\n\x04root\x12\x0b$2a$04$hash\x1a\x04root\x22\x00"
    assert backend.get(Bucket.AUTH_USERS, b"ann") == b"\n\x03ann\x1a\x06reader\x22\x02\x08\x01"
    assert backend.get(Bucket.AUTH_ROLES, b"reader") == b"\n\x06reader\x12\x06\x12\x01a\x1a\x01b"


def test_a_new_store_is_at_auth_revision_1() -> None:
    backend = MemoryBackend()
    StateMachine(backend)
    assert backend.get(Bucket.AUTH, b"authRevision") == bytes(7) + b"\x01"


@pytest.mark.parametrize("bucket", [Bucket.AUTH_USERS, Bucket.AUTH_ROLES])
def test_a_damaged_record_is_named(bucket: Bucket) -> None:
    backend = MemoryBackend()
    backend.put(bucket, b"ann", b"\xff")
    with pytest.raises(StorageFailure, match=f"bucket {bucket.value.decode()}, b'ann'"):
        StateMachine(backend)


def test_a_second_permission_of_a_key_is_added_again_as_in_etcd() -> None:
    machine = StateMachine(MemoryBackend())
    auth = machine.auth
    auth.add_role("r")
    for end in (b"b", b"c", b"c"):
        permission = auth_pb2.Permission(key=b"a", range_end=end)
        auth.grant_permission(rpc_pb2.AuthRoleGrantPermissionRequest(name="r", perm=permission))
    assert [one.range_end for one in auth.role("r").keyPermission] == [b"b", b"c", b"c"]
    auth.revoke_permission(rpc_pb2.AuthRoleRevokePermissionRequest(role="r", key=b"a", range_end=b"c"))
    assert [one.range_end for one in auth.role("r").keyPermission] == [b"b"]


def test_a_deleted_role_is_revoked_from_all_users() -> None:
    member = member_with_auth()
    delete = rpc_pb2.AuthRoleDeleteRequest(role="reader")
    root = member.replica.auth.identity_of("root")
    member.replica.state_machine.apply(AppliedRequest("auth_role_delete", delete, root))
    assert state(member)["users"] == {"root": ["root"], "ann": []}
    with pytest.raises(errors.RequestError, match="permission denied"):
        member.replica.auth.check_read(member.replica.auth.identity_of("ann"), b"a", b"")


def test_many_grants_of_one_role_take_several_turns() -> None:
    """Each writes the whole role: the sum grows with the square of their number."""
    member = LoneMember()
    member.settle()
    grants: list[tuple[str, Message]] = [("auth_role_add", rpc_pb2.AuthRoleAddRequest(name="reader"))]
    for number in range(400):
        permission = auth_pb2.Permission(permType=auth_pb2.Permission.READ, key=b"%05d" % number)
        grants.append(("auth_role_grant_permission", rpc_pb2.AuthRoleGrantPermissionRequest(name="reader", perm=permission)))
    made = entries(grants, 4)
    before = member.replica._applier.steps
    member.follow(made, commit=made[-1].index)
    assert len(member.replica.auth.role("reader").keyPermission) == 400
    assert member.replica._applier.steps - before > 5
