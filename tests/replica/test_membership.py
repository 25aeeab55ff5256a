"""Membership: etcd's JSON, etcd's rules for changes, and the v2 store that members of 3.5 expect in a snapshot."""

from __future__ import annotations

import json

from tercet import errors
from tercet.raft.types import ConfChange, ConfChangeType
from tercet.replica.membership import Member, Membership, change_context
from tercet.storage.memory_backend import MemoryBackend

ADD, REMOVE, UPDATE, LEARNER = (
    ConfChangeType.ADD_NODE,
    ConfChangeType.REMOVE_NODE,
    ConfChangeType.UPDATE_NODE,
    ConfChangeType.ADD_LEARNER_NODE,
)


def change(kind: ConfChangeType, member: Member, *, is_promote: bool = False) -> ConfChange:
    return ConfChange(kind, node_id=member.id, context=change_context(member, is_promote=is_promote))


def apply(membership: Membership, one: ConfChange) -> None:
    assert membership.validate(one) is None
    membership.apply(one)


A = Member(10, ("http://127.0.0.1:1",))
B = Member(11, ("http://127.0.0.1:2",))
C = Member(12, ("http://127.0.0.1:3",), is_learner=True)


def cluster() -> Membership:
    membership = Membership(MemoryBackend())
    apply(membership, change(ADD, A))
    apply(membership, change(ADD, B))
    return membership


def test_conf_change_contexts_are_etcds_json() -> None:
    assert change_context(A) == b'{"id":10,"peerURLs":["http://127.0.0.1:1"]}'
    assert change_context(C) == b'{"id":12,"peerURLs":["http://127.0.0.1:3"],"isLearner":true}'
    assert change_context(C, is_promote=True) == b'{"id":12,"peerURLs":null,"isPromote":true}'


def test_an_added_member_needs_a_new_id_and_new_urls() -> None:
    membership = cluster()
    assert membership.validate(change(ADD, A)) is errors.MEMBER_EXISTS
    assert membership.validate(change(ADD, Member(99, A.peer_urls))) is errors.PEER_URL_EXISTS


def test_a_removed_id_cannot_be_used_again() -> None:
    membership = cluster()
    apply(membership, ConfChange(REMOVE, node_id=11))
    for kind in (ADD, REMOVE, UPDATE):
        assert membership.validate(change(kind, B)) is errors.MEMBER_NOT_FOUND


def test_learners_are_limited_and_can_be_promoted() -> None:
    membership = cluster()
    apply(membership, change(LEARNER, C))
    second = Member(13, ("http://127.0.0.1:4",), is_learner=True)
    assert membership.validate(change(LEARNER, second)) is errors.TOO_MANY_LEARNERS
    assert membership.validate(change(ADD, A, is_promote=True)) is errors.LEARNER_ONLY
    membership.set_attributes(12, "c", ["http://127.0.0.1:9"])
    apply(membership, change(ADD, C, is_promote=True))
    assert membership.members[12] == Member(12, C.peer_urls, "c", ("http://127.0.0.1:9",), is_learner=False)


def test_an_update_keeps_name_and_learner_flag() -> None:
    membership = cluster()
    apply(membership, change(LEARNER, C))
    membership.set_attributes(12, "c", ["http://x:1"])
    apply(membership, change(UPDATE, Member(12, ("http://127.0.0.1:33",))))
    assert membership.members[12] == Member(12, ("http://127.0.0.1:33",), "c", ("http://x:1",), is_learner=True)


def test_the_membership_is_reloaded_from_the_backend() -> None:
    backend = MemoryBackend()
    membership = Membership(backend)
    apply(membership, change(ADD, A))
    apply(membership, change(ADD, B))
    apply(membership, ConfChange(REMOVE, node_id=11))
    membership.set_attributes(10, "a", ["http://x:1"])
    membership.set_cluster_version("3.5.0")
    again = Membership(backend)
    assert (again.members, again.removed, again.cluster_version) == (membership.members, {11}, "3.5.0")


def test_the_v2_tree_adds_what_the_database_lacks() -> None:
    sender = cluster()
    sender.set_attributes(10, "a", ["http://x:1"])
    sender.set_cluster_version("3.5.0")
    tree = sender.to_v2_json()
    assert json.loads(tree)["CurrentVersion"] == 2

    receiver = cluster()
    receiver.merge_v2_json(tree, learners=(), is_ahead=False)
    assert receiver.members == sender.members
    assert receiver.cluster_version == "3.5.0"


def test_a_v2_tree_older_than_its_database_changes_nothing() -> None:
    """After the tree was made, the sender promoted a learner, moved a member and removed another."""
    sender = cluster()
    apply(sender, change(LEARNER, C))
    tree = sender.to_v2_json()
    sender.set_attributes(10, "new", ["http://new:1"])
    apply(sender, change(UPDATE, Member(10, ("http://moved:1",))))
    apply(sender, change(ADD, C, is_promote=True))
    apply(sender, ConfChange(REMOVE, node_id=11))
    before = dict(sender.members)
    sender.merge_v2_json(tree, learners=(), is_ahead=True)
    assert sender.members == before


def test_d29_a_member_removed_long_ago_does_not_return_with_an_older_v2_tree() -> None:
    """Not even where the tree counts as newer: an id is never used again."""
    sender = cluster()
    tree = sender.to_v2_json()
    backend = MemoryBackend()
    receiver = Membership(backend)
    for member in (A, B):
        apply(receiver, change(ADD, member))
    apply(receiver, ConfChange(REMOVE, node_id=11))
    for is_ahead in (True, False):
        receiver.merge_v2_json(tree, learners=(), is_ahead=is_ahead)
        assert list(receiver.members) == [10]
    again = Membership(backend)
    assert (list(again.members), again.removed) == ([10], {11})


def test_requests_of_the_older_form_are_applied_by_path() -> None:
    membership = cluster()
    membership.apply_v2("/0/members/a/attributes", '{"name":"n1","clientURLs":["http://127.0.0.1:5"]}')
    membership.apply_v2("/0/version", "3.5.0")
    membership.apply_v2("/1/anything", "else")
    assert membership.members[10].name == "n1"
    assert membership.cluster_version == "3.5.0"


def test_a_downgrade_is_known_until_it_is_cancelled() -> None:
    backend = MemoryBackend()
    membership = Membership(backend)
    membership.set_downgrade(True, "3.6.0")
    assert (membership.downgrade_target, Membership(backend).downgrade_target) == ("3.6.0", "3.6.0")
    membership.set_downgrade(False, "")
    assert (membership.downgrade_target, Membership(backend).downgrade_target) == (None, None)
