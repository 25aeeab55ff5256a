"""The rules of the Raft paper and thesis, by section."""

from __future__ import annotations

from random import Random

import pytest

from tercet.errors import InvariantViolation, StorageFailure
from tercet.raft import (
    ConfChange,
    ConfChangeRefused,
    ConfChangeType,
    ConfState,
    Entry,
    HardState,
    Message,
    MessageType,
    ProgressState,
    Raft,
    RaftConfig,
    RaftLog,
    RawNode,
    Role,
)
from tests.raft.cluster import Cluster, bootstrap_entries

THREE = ConfState(voters=(1, 2, 3))


def member(conf_state: ConfState = THREE, *terms: int, term: int = 0, vote: int = 0, **options: object) -> Raft:
    """Member 1 alone, with a log of entries of these terms."""
    config = RaftConfig(1, random=Random(1), **options)  # type: ignore[arg-type]
    log = RaftLog(0, 0, [Entry(at, index) for index, at in enumerate(terms, 1)])
    return Raft(config, log, hard_state=HardState(term or (terms[-1] if terms else 0), vote, 0), conf_state=conf_state)


def responses(node: RawNode) -> list[Message]:
    """What the member sends once its disk has written everything."""
    messages: list[Message] = []
    while node.has_ready():
        ready = node.take_ready()
        messages += ready.messages
        node.persisted(ready.number)
    return messages


# §5.1: terms


@pytest.mark.parametrize("role", [Role.FOLLOWER, Role.PRE_CANDIDATE, Role.CANDIDATE, Role.LEADER])
def test_5_1_a_later_term_makes_any_role_a_follower(role: Role) -> None:
    cluster = Cluster.of(3, pre_vote=role is Role.PRE_CANDIDATE)
    if role is Role.LEADER:
        cluster.elect(1)
    elif role is not Role.FOLLOWER:
        cluster.campaign(1)
    assert cluster[1].role is role
    cluster[1].step(Message(MessageType.APP, to=1, from_=2, term=7))
    assert (cluster[1].role, cluster[1].term, cluster[1].leader_id) == (Role.FOLLOWER, 7, 2)


@pytest.mark.parametrize("kind", [MessageType.APP_RESP, MessageType.VOTE_RESP, MessageType.HEARTBEAT_RESP, MessageType.SNAP])
def test_5_1_messages_of_an_earlier_term_are_ignored(kind: MessageType) -> None:
    raft = member(THREE, term=3)
    node = RawNode(raft)
    raft.step(Message(kind, to=1, from_=2, term=2, index=0))
    assert raft.leader_id == 0
    assert not node.has_ready()


@pytest.mark.parametrize("kind", [MessageType.APP, MessageType.HEARTBEAT])
def test_5_1_a_stale_leader_is_sent_the_current_term(kind: MessageType) -> None:
    raft = member(THREE, term=3)
    raft.step(Message(kind, to=1, from_=2, term=2))
    assert responses(RawNode(raft)) == [Message(MessageType.APP_RESP, to=2, from_=1, term=3)]


def test_5_1_a_stale_pre_candidate_is_sent_the_current_term() -> None:
    raft = member(THREE, term=3)
    raft.step(Message(MessageType.PRE_VOTE, to=1, from_=2, term=2))
    assert responses(RawNode(raft)) == [Message(MessageType.PRE_VOTE_RESP, to=2, from_=1, term=3, reject=True)]


# §5.2: elections


def test_5_2_timeouts_are_random_between_one_and_two_election_timeouts() -> None:
    raft = member(THREE)
    seen = set()
    for _ in range(300):
        raft.restart_election_timer()
        seen.add(raft.election_timeout)
    assert seen == set(range(10, 20))


def test_5_2_a_follower_campaigns_after_its_timeout() -> None:
    raft = member(THREE)
    roles = [raft.role]
    for _ in range(raft.election_timeout):
        raft.tick()
        roles.append(raft.role)
    assert roles[-2:] == [Role.FOLLOWER, Role.PRE_CANDIDATE]


def test_5_2_a_member_votes_once_per_term() -> None:
    raft = member(THREE, term=1)
    raft.step(Message(MessageType.VOTE, to=1, from_=2, term=2))
    raft.step(Message(MessageType.VOTE, to=1, from_=3, term=2))
    raft.step(Message(MessageType.VOTE, to=1, from_=2, term=2))
    assert [(m.to, m.reject) for m in responses(RawNode(raft))] == [(2, False), (3, True), (2, False)]
    assert raft.hard_state() == HardState(2, 2, 0)


def test_5_2_a_vote_survives_a_restart() -> None:
    raft = member(THREE, term=2, vote=2)
    raft.step(Message(MessageType.VOTE, to=1, from_=3, term=2))
    assert [m.reject for m in responses(RawNode(raft))] == [True]


@pytest.mark.parametrize(
    ("count", "granted", "refused", "role"),
    [
        (3, 1, 0, Role.LEADER),
        (3, 0, 1, Role.CANDIDATE),
        (3, 0, 2, Role.FOLLOWER),
        (5, 1, 0, Role.CANDIDATE),
        (5, 2, 2, Role.LEADER),
        (5, 1, 3, Role.FOLLOWER),
        (5, 1, 2, Role.CANDIDATE),
        (4, 1, 0, Role.CANDIDATE),
        (4, 2, 0, Role.LEADER),
        (4, 1, 2, Role.FOLLOWER),
    ],
)
def test_5_2_a_majority_decides(count: int, granted: int, refused: int, role: Role) -> None:
    raft = member(ConfState(voters=tuple(range(1, count + 1))), pre_vote=False)
    raft.campaign()
    responses(RawNode(raft))
    for voter in range(2, 2 + granted + refused):
        reject = voter >= 2 + granted
        raft.step(Message(MessageType.VOTE_RESP, to=1, from_=voter, term=1, reject=reject))
    assert raft.role is role


def test_5_2_responses_to_an_earlier_campaign_do_not_count() -> None:
    raft = member(THREE)
    raft.campaign()
    raft.step(Message(MessageType.PRE_VOTE_RESP, to=1, from_=2, term=5))
    assert (raft.role, raft.term) == (Role.PRE_CANDIDATE, 0)
    raft.step(Message(MessageType.PRE_VOTE_RESP, to=1, from_=2, term=1))
    assert raft.role is Role.CANDIDATE


# §5.3: replication


@pytest.mark.parametrize(
    ("index", "log_term", "answer"),
    [(0, 0, None), (2, 1, None), (3, 2, None), (3, 3, (3, 3, 2)), (4, 2, (4, 3, 2)), (9, 9, (9, 3, 2)), (3, 1, (3, 2, 1))],
)
def test_5_3_an_append_is_accepted_only_after_a_matching_entry(
    index: int, log_term: int, answer: tuple[int, int, int] | None
) -> None:
    raft = member(THREE, 1, 1, 2)
    raft.step(Message(MessageType.APP, to=1, from_=2, term=9, index=index, log_term=log_term))
    (said,) = responses(RawNode(raft))
    assert said.reject is (answer is not None)
    if answer is not None:
        assert (said.index, said.reject_hint, said.log_term) == answer
    else:
        assert said.index == index


@pytest.mark.parametrize(
    ("index", "sent", "left"),
    [
        (3, [3], [1, 1, 2, 3]),
        (1, [1], [1, 1, 2]),
        (1, [1, 2, 2], [1, 1, 2, 2]),
        (1, [2], [1, 2]),
        (0, [3, 3], [3, 3]),
        (2, [], [1, 1, 2]),
    ],
)
def test_5_3_conflicting_entries_are_replaced_by_the_leaders(index: int, sent: list[int], left: list[int]) -> None:
    raft = member(THREE, 1, 1, 2)
    before = [0, 1, 1, 2][index]
    entries = [Entry(term, at) for at, term in enumerate(sent, index + 1)]
    raft.step(Message(MessageType.APP, to=1, from_=2, term=9, index=index, log_term=before, entries=entries))
    assert [entry.term for entry in raft.log.entries(1, 99)] == left
    assert responses(RawNode(raft))[0].index == index + len(sent)


@pytest.mark.parametrize(("commit", "known"), [(1, 1), (2, 2), (3, 2), (9, 2)])
def test_5_3_a_commit_is_bounded_by_the_entries_that_the_message_matches(commit: int, known: int) -> None:
    raft = member(THREE, 1, 1, 1)
    raft.step(Message(MessageType.APP, to=1, from_=2, term=1, index=1, log_term=1, entries=[Entry(1, 2)], commit=commit))
    assert raft.commit_index == known


def test_5_3_an_append_before_the_commit_index_is_acknowledged_with_the_commit_index() -> None:
    raft = member(THREE, 1, 1, 1)
    raft.step(Message(MessageType.APP, to=1, from_=2, term=1, index=3, log_term=1, commit=3))
    responses(RawNode(raft))
    raft.step(Message(MessageType.APP, to=1, from_=2, term=1, index=1, log_term=1, entries=[Entry(1, 2)]))
    assert [(m.index, m.reject) for m in responses(RawNode(raft))] == [(3, False)]


def test_5_3_a_new_leader_probes_then_replicates() -> None:
    cluster = Cluster.of(3)
    cluster.elect(1)
    progress = cluster[1].progress(2)
    assert progress is not None
    assert (progress.state, progress.match, progress.next) == (ProgressState.REPLICATE, 1, 2)
    cluster.propose(1, b"a")
    cluster.propose(1, b"b")
    assert (progress.match, progress.next) == (1, 4)


# §5.4: safety


@pytest.mark.parametrize(
    ("index", "log_term", "granted"), [(3, 2, True), (2, 2, False), (4, 2, True), (1, 3, True), (9, 1, False)]
)
def test_5_4_1_only_an_up_to_date_candidate_gets_a_vote(index: int, log_term: int, granted: bool) -> None:
    for kind in (MessageType.VOTE, MessageType.PRE_VOTE):
        raft = member(THREE, 1, 1, 2)
        raft.step(Message(kind, to=1, from_=2, term=3, index=index, log_term=log_term))
        (said,) = responses(RawNode(raft))
        assert said.reject is not granted
        assert said.term == (2 if kind is MessageType.PRE_VOTE and not granted else 3)


def test_5_4_2_only_entries_of_the_leaders_term_commit_by_counting() -> None:
    cluster = Cluster.of(3, pre_vote=False, check_quorum=False)
    cluster.elect(1)
    cluster.cut = {3}
    cluster.propose(1, b"old")
    cluster.cut = {1, 2, 3}
    cluster.run()
    cluster.members[1].crash()
    cluster.members[1].start()
    assert cluster[1].commit_index == 1
    cluster.cut = {3}
    cluster.elect(1)
    assert cluster[1].commit_index == 3


# §5.5, and the thesis §3.8: what is acknowledged is on disk


def test_5_5_repeated_messages_have_no_effect() -> None:
    cluster = Cluster.of(3)
    cluster.elect(1)
    cluster.propose(1, b"a")
    for message in list(cluster.network):
        cluster.deliver(message)
        cluster.deliver(message)
    cluster.run()
    cluster.run()
    cluster.heartbeat()
    assert all(cluster.members[i].applied == [b"a"] for i in (1, 2, 3))


def test_3_8_votes_and_acknowledgements_wait_for_the_disk() -> None:
    raft = member(THREE, pre_vote=False)
    node = RawNode(raft)
    raft.step(Message(MessageType.VOTE, to=1, from_=2, term=1))
    ready = node.take_ready()
    assert ready.must_sync
    assert ready.messages == []
    raft.step(Message(MessageType.APP, to=1, from_=2, term=1, entries=[Entry(1, 1)]))
    second = node.take_ready()
    assert second.messages == []
    node.persisted(ready.number)
    assert [m.type for m in node.take_ready().messages] == [MessageType.VOTE_RESP]
    node.persisted(second.number)
    assert [m.type for m in node.take_ready().messages] == [MessageType.APP_RESP]


def test_3_8_a_candidate_requests_votes_once_its_term_is_durable() -> None:
    raft = member(THREE, pre_vote=False)
    node = RawNode(raft)
    raft.campaign()
    ready = node.take_ready()
    assert (ready.hard_state, ready.messages) == (HardState(1, 1, 0), [])
    assert raft.votes == {}
    node.persisted(ready.number)
    assert [m.type for m in node.take_ready().messages] == [MessageType.VOTE, MessageType.VOTE]
    assert raft.votes == {1: True}


def test_3_8_a_commit_alone_needs_no_sync() -> None:
    raft = member(THREE, 1)
    node = RawNode(raft)
    raft.step(Message(MessageType.APP, to=1, from_=2, term=1, index=1, log_term=1))
    responses(node)
    raft.step(Message(MessageType.APP, to=1, from_=2, term=1, index=1, log_term=1, commit=1))
    ready = node.take_ready()
    assert (ready.hard_state, ready.must_sync) == (HardState(1, 0, 1), False)
    assert [m.type for m in ready.messages] == [MessageType.APP_RESP]
    assert [entry.index for entry in ready.committed] == [1]


def test_10_2_1_a_leader_sends_before_its_own_disk_has_written() -> None:
    cluster = Cluster.of(3)
    cluster.elect(1)
    raft = cluster[1]
    node = cluster.members[1].node
    raft.propose([b"a"])
    raft.propose([b"b"])
    ready = node.take_ready()
    assert [(m.to, [e.data for e in m.entries]) for m in ready.messages] == [(2, [b"a", b"b"]), (3, [b"a", b"b"])]
    for follower in (2, 3):
        raft.step(Message(MessageType.APP_RESP, to=1, from_=follower, term=1, index=3))
    assert raft.commit_index == 3
    assert node.take_ready().committed == []
    node.persisted(ready.number)
    assert [entry.data for entry in node.take_ready().committed] == [b"a", b"b"]


# §6 and the thesis §4: membership


def test_6_a_new_cluster_takes_its_configuration_from_its_log() -> None:
    raft = Raft(RaftConfig(1, random=Random(1)), RaftLog(0, 0, bootstrap_entries(3)), hard_state=HardState(1, 0, 3))
    node = RawNode(raft)
    roles = [raft.role]
    raft.campaign()
    ready = node.take_ready()
    assert (ready.hard_state, ready.entries, len(ready.committed)) == (None, [], 3)
    for number in (1, 2, 3):
        raft.apply_conf_change(ConfChange(ConfChangeType.ADD_NODE, number))
        raft.campaign()
        roles.append(raft.role)
        raft.applied_to(number)
    assert raft.conf_state == THREE
    raft.campaign()
    assert [*roles, raft.role] == [Role.FOLLOWER] * 4 + [Role.PRE_CANDIDATE]


def test_6_a_refused_change_changes_nothing() -> None:
    raft = member(ConfState(voters=(1,)))
    with pytest.raises(ConfChangeRefused):
        raft.apply_conf_change(ConfChange(ConfChangeType.REMOVE_NODE, 1))
    assert raft.conf_state == ConfState(voters=(1,))


def test_6_a_change_of_member_zero_has_no_effect() -> None:
    raft = member(THREE)
    assert raft.apply_conf_change(ConfChange(ConfChangeType.ADD_NODE, 0)) == THREE


# §7: snapshots and restarts


def test_7_a_restarted_member_resumes_after_its_applied_index() -> None:
    log = RaftLog(5, 2, [Entry(2, 6, b"a"), Entry(3, 7, b"b"), Entry(3, 8, b"c")])
    raft = Raft(RaftConfig(1, random=Random(1)), log, hard_state=HardState(3, 2, 6), conf_state=THREE, applied=7)
    node = RawNode(raft)
    assert (raft.commit_index, raft.applied_index) == (7, 7)  # applied entries were committed, whatever the hard state says
    assert node.take_ready().committed == []
    raft.step(Message(MessageType.HEARTBEAT, to=1, from_=2, term=3, commit=8))
    assert [entry.data for entry in node.take_ready().committed] == [b"c"]


def test_7_a_log_that_ends_before_its_commit_is_refused() -> None:
    with pytest.raises(StorageFailure, match="entries are missing"):
        Raft(RaftConfig(1, random=Random(1)), RaftLog(0, 0, [Entry(1, 1)]), hard_state=HardState(1, 0, 2))


def test_7_an_unapplied_entry_cannot_be_compacted() -> None:
    raft = member(THREE, 1, 1)
    with pytest.raises(InvariantViolation):
        raft.compact(1)


def test_committed_entries_are_handed_out_in_bounded_batches() -> None:
    cluster = Cluster.of(1, max_committed_bytes=30)
    cluster.elect(1)
    raft = cluster[1]
    node = cluster.members[1].node
    raft.propose([b"x" * 20] * 3)
    ready = node.take_ready()
    node.persisted(ready.number)
    batches = []
    while node.has_ready():
        batches.append(len(node.take_ready().committed))
    assert batches == [1, 1, 1]


# §8 and the thesis §6.4: reads


def test_8_a_read_needs_the_echoes_of_a_quorum_of_voters() -> None:
    cluster = Cluster.of(4, learners=(4,))
    cluster.elect(1)
    raft = cluster[1]
    node = cluster.members[1].node
    raft.read_index(b"r")
    context = node.take_ready().messages[0].context
    raft.step(Message(MessageType.HEARTBEAT_RESP, to=1, from_=4, term=1, context=context))
    assert raft.read_states == []
    raft.step(Message(MessageType.HEARTBEAT_RESP, to=1, from_=3, term=1, context=context))
    assert raft.read_states == [(b"r", 1)]


def test_8_all_reads_of_a_turn_share_one_round() -> None:
    cluster = Cluster.of(3)
    cluster.elect(1)
    raft = cluster[1]
    node = cluster.members[1].node
    for number in range(5):
        raft.read_index(b"%d" % number)
    messages = node.take_ready().messages
    assert [m.type for m in messages] == [MessageType.HEARTBEAT] * 2
    raft.step(Message(MessageType.HEARTBEAT_RESP, to=1, from_=2, term=1, context=messages[0].context))
    assert [context for context, _ in node.take_ready().read_states] == [b"0", b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize("context", [b"", b"x", bytes(8), b"request-id-of-another-version"])
def test_8_followers_echo_any_context_unchanged(context: bytes) -> None:
    raft = member(THREE, term=1)
    raft.step(Message(MessageType.HEARTBEAT, to=1, from_=2, term=1, context=context))
    assert responses(RawNode(raft)) == [Message(MessageType.HEARTBEAT_RESP, to=2, from_=1, term=1, context=context)]


def test_a_heartbeats_commit_is_bounded_by_the_followers_match_index() -> None:
    cluster = Cluster.of(3)
    cluster.elect(1)
    cluster.cut = {3}
    cluster.propose(1, b"a", b"b")
    cluster.run()
    assert cluster[1].commit_index == 3
    cluster[1].tick()
    beats = {m.to: m.commit for m in cluster.members[1].node.take_ready().messages if m.type is MessageType.HEARTBEAT}
    assert beats == {2: 3, 3: 1}


def test_the_later_acknowledgements_of_a_lone_entry_need_no_ready() -> None:
    cluster = Cluster.of(3, defer_commit_broadcast=True)
    cluster.elect(1)
    cluster.run()
    leader, node = cluster[1], cluster.members[1].node
    leader.propose([b"a"])
    ready = node.take_ready()
    node.persisted(ready.number)
    index = leader.log.last_index
    for follower, is_news in ((2, True), (3, False)):
        leader.step(Message(MessageType.APP_RESP, to=1, from_=follower, term=leader.term, index=index))
        assert leader.commit_index == index
        assert node.has_ready() is is_news
        while node.has_ready():
            node.take_ready()
