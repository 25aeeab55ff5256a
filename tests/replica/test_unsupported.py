"""A member stops at entries that this version does not support; the error says what to do."""

from __future__ import annotations

import pytest

from tercet.errors import RequestError, StorageFailure
from tercet.proto import internal_pb2, rpc_pb2
from tercet.raft.codec import encode_conf_change
from tercet.raft.types import ConfChangeType, ConfChangeV2, Entry, EntryType
from tercet.replica.requests import decode_request
from tercet.replica.state_machine import StateMachine
from tercet.storage.memory_backend import MemoryBackend
from tests.replica.lone_member import LoneMember, put_entry

_JOINT = encode_conf_change(ConfChangeV2(((ConfChangeType.ADD_NODE, 7), (ConfChangeType.ADD_NODE, 8))))
UNSUPPORTED = {
    "neither form of request": Entry(2, 5, b"\xff"),
    "does not know": Entry(2, 5, b"\xfa\x01\x00"),
    "joint configuration change": Entry(2, 5, _JOINT, EntryType.CONF_CHANGE_V2),
}


@pytest.mark.parametrize("reason", UNSUPPORTED)
def test_an_unsupported_entry_stops_the_member_and_says_what_to_do(reason: str) -> None:
    member = LoneMember()
    member.settle()
    with pytest.raises(StorageFailure) as stopped:
        member.follow([put_entry(2, 4, b"k"), UNSUPPORTED[reason]], commit=5)
    text = str(stopped.value)
    assert text.startswith("cannot apply log entry 5: ")
    assert reason in text
    assert "etcdctl member remove 1)" in text
    assert "\n" not in text


def test_a_restarted_member_stops_at_the_same_entry() -> None:
    member = LoneMember()
    member.settle()
    with pytest.raises(StorageFailure):
        member.follow([put_entry(2, 4, b"k"), UNSUPPORTED["does not know"]], commit=5)

    def restart() -> None:
        restarted = member.after_power_cut()
        restarted.follow([put_entry(2, 6, b"k")], commit=6)

    with pytest.raises(StorageFailure, match="cannot apply log entry 5"):
        restart()


FIELDS = [
    field for field in internal_pb2.InternalRaftRequest.DESCRIPTOR.fields if field.message_type and field.name != "header"
]


@pytest.mark.parametrize("has_auth", [False, True])
@pytest.mark.parametrize("alarm", [0, rpc_pb2.NOSPACE, rpc_pb2.CORRUPT])
def test_every_request_that_a_member_may_propose_is_applied(has_auth: bool, alarm: int) -> None:
    """Every request of etcd 3.7 is answered or refused, whatever the state; 3.8.0-alpha has no other."""
    machine = StateMachine(MemoryBackend())
    if has_auth:
        for body in (
            internal_pb2.InternalRaftRequest(auth_user_add=rpc_pb2.AuthUserAddRequest(name="root", hashedPassword="eA==")),
            internal_pb2.InternalRaftRequest(auth_role_add=rpc_pb2.AuthRoleAddRequest(name="root")),
            internal_pb2.InternalRaftRequest(auth_user_grant_role=rpc_pb2.AuthUserGrantRoleRequest(user="root", role="root")),
            internal_pb2.InternalRaftRequest(auth_enable=rpc_pb2.AuthEnableRequest()),
        ):
            machine.apply(decode_request(body.SerializeToString()))
        assert machine.auth.is_enabled
    if alarm:
        request = rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.ACTIVATE, memberID=1, alarm=alarm)
        machine.apply(decode_request(internal_pb2.InternalRaftRequest(alarm=request).SerializeToString()))
    assert len(FIELDS) == 31
    for field in FIELDS:
        request = internal_pb2.InternalRaftRequest()
        getattr(request, field.name).SetInParent()
        try:
            answer = machine.apply(decode_request(request.SerializeToString()))
        except RequestError:
            continue
        assert isinstance(answer, bytes), field.name
