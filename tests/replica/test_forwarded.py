"""A leader does not append a forwarded proposal that no member could apply: once committed, it would stop them all."""

from __future__ import annotations

import json

import pytest

from tercet.raft.codec import encode_conf_change
from tercet.raft.types import ConfChange, ConfChangeType, Entry, EntryType, Message, MessageType
from tests.replica.lone_member import SELF, LoneMember, put_entry


def change(context: bytes) -> Entry:
    data = encode_conf_change(ConfChange(ConfChangeType.ADD_LEARNER_NODE, node_id=7, id=1, context=context))
    return Entry(0, 0, data, EntryType.CONF_CHANGE)


REFUSED = {
    "a PutRequest alone": Entry(0, 0, b"\x0a\x01f\x12\x01v"),
    "bytes of nothing": Entry(0, 0, b"\xff"),
    "a request of a later version": Entry(0, 0, b"\xfa\x01\x00"),
    "a change that does not parse": Entry(0, 0, b"\xff", EntryType.CONF_CHANGE),
    "a change without JSON": change(b""),
    "a change with other JSON": change(b"[1]"),
    "a member without an id": change(b"{}"),
    "a member with a list as URL": change(json.dumps({"id": 7, "peerURLs": [["http://a:1"]]}).encode()),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_proposal_that_no_member_could_apply_is_not_appended(kind: str) -> None:
    member = LoneMember()
    member.lead()
    member.settle()
    before = member.raft.log.last_index
    member.receive(Message(MessageType.PROP, SELF, 2, entries=[put_entry(0, 0, b"a"), REFUSED[kind]]))
    member.settle()
    assert member.raft.log.last_index == before
    assert not member.replica.is_stopped


def test_a_proposal_of_a_member_is_appended() -> None:
    member = LoneMember()
    member.lead()
    member.settle()
    before = member.raft.log.last_index
    learner = change(json.dumps({"id": 7, "peerURLs": ["http://a:1"], "isLearner": True}).encode())
    member.receive(Message(MessageType.PROP, SELF, 2, entries=[put_entry(0, 0, b"a"), Entry(0, 0, b""), learner]))
    member.settle()
    assert member.raft.log.last_index == before + 3
