"""A leader does not append a forwarded proposal that no member could apply: once committed, it would stop them all."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tercet.proto import internal_pb2
from tercet.raft.codec import encode_conf_change
from tercet.raft.types import ConfChange, ConfChangeType, ConfChangeV2, Entry, EntryType, Message, MessageType
from tests.replica.lone_member import SELF, LoneMember, put_entry

JOINT = encode_conf_change(ConfChangeV2(((ConfChangeType.ADD_LEARNER_NODE, 7),)))


def change(context: bytes) -> Entry:
    data = encode_conf_change(ConfChange(ConfChangeType.ADD_LEARNER_NODE, node_id=7, id=1, context=context))
    return Entry(0, 0, data, EntryType.CONF_CHANGE)


def request(**fields: Any) -> Entry:
    header = internal_pb2.RequestHeader(ID=5)
    return Entry(0, 0, internal_pb2.InternalRaftRequest(header=header, **fields).SerializeToString())


REFUSED = {
    "a PutRequest alone": Entry(0, 0, b"\x0a\x01f\x12\x01v"),
    "bytes of nothing": Entry(0, 0, b"\xff"),
    "a request of a later version": Entry(0, 0, b"\xfa\x01\x00"),
    "a change that does not parse": Entry(0, 0, b"\xff", EntryType.CONF_CHANGE),
    "a change without JSON": change(b""),
    "a change with other JSON": change(b"[1]"),
    "a member without an id": change(b"{}"),
    "a change with deep JSON": change(b"[" * 100_000),
    "a member with another id": change(b'{"id":8}'),
    "a member with a fraction as id": change(b'{"id":1e400}'),
    "a member with a number as name": change(b'{"id":7,"name":5}'),
    "a member with a URL that no client can be sent": change(rb'{"id":7,"peerURLs":["\ud800"]}'),
    "a cluster version that is none": request(cluster_version_set={"ver": "3.x.0"}),
    "a cluster version of 5,000 digits": request(cluster_version_set={"ver": "9" * 5000 + ".0.0"}),
    "the older form with other JSON": request(v2={"Method": "PUT", "Path": "/0/members/7/attributes", "Val": "[1]"}),
    "the older form without a member": request(v2={"Method": "PUT", "Path": "/0/members/x/attributes/", "Val": "{}"}),
    "the older form without JSON": request(v2={"Method": "PUT", "Path": "/0/members/7/attributes", "Val": "{"}),
    "a joint change": Entry(0, 0, JOINT, EntryType.CONF_CHANGE_V2),
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
    older = {"Method": "PUT", "Path": "/0/members/2/attributes", "Val": '{"name":"b","clientURLs":["http://b:2"]}'}
    requests = [request(v2=older), request(cluster_version_set={"ver": "3.6.0"}), Entry(0, 0, b""), learner]
    member.receive(Message(MessageType.PROP, SELF, 2, entries=[put_entry(0, 0, b"a"), *requests]))
    member.settle()
    assert member.raft.log.last_index == before + 5
