"""A member stops at entries that this version does not support; the error says what to do."""

from __future__ import annotations

import pytest

from tercet.errors import StorageFailure
from tercet.proto import internal_pb2
from tercet.raft.codec import encode_conf_change
from tercet.raft.types import ConfChangeType, ConfChangeV2, Entry, EntryType
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


def test_every_request_is_handled_or_stops_the_member() -> None:
    handlers = StateMachine(MemoryBackend()).handlers
    assert handlers.keys() >= {field.name for field in internal_pb2.InternalRaftRequest.DESCRIPTOR.fields}
