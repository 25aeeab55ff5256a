"""Who waits for what, and for how long: proposals and linearizable reads against a raft that only takes notes."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tercet import errors
from tercet.errors import Code, StatusError
from tercet.raft import Raft
from tercet.replica.proposals import NEVER_PROPOSED, Outcome, Proposals
from tercet.replica.reads import RETRY_SECONDS, Reads
from tercet.replica.requests import RequestIds
from tests.support.fakes import uses_fakes


class Notes:
    """Raft, as far as proposals and reads look at it."""

    def __init__(self, leader_id: int = 1) -> None:
        self.leader_id = leader_id
        self.proposed: list[list[bytes]] = []
        self.contexts: list[bytes] = []
        self.accepts = True

    def propose(self, batch: list[bytes]) -> bool:
        self.proposed.append(batch)
        return self.accepts

    def read_index(self, context: bytes) -> bool:
        self.contexts.append(context)
        return True

    @property
    def raft(self) -> Raft:
        return cast(Raft, self)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make_proposals(clock: Clock) -> Proposals:
    return Proposals(RequestIds(1, 1), clock=clock, timeout_seconds=7.0, request_bytes_max=1000)


def make_reads(clock: Clock) -> Reads:
    return Reads(RequestIds(1, 1), clock=clock, timeout_seconds=7.0)


def expire(proposals: Proposals, *, elected: float = 0.0, lost: float = 0.0, reachable: bool = True) -> None:
    proposals.expire(leader_elected_at=elected, leader_lost_at=lost, leader_is_reachable=reachable)


@uses_fakes
class TestProposals:
    def test_all_of_a_turn_become_one_batch(self, clock: Clock) -> None:
        proposals, notes = make_proposals(clock), Notes()
        for _ in range(3):
            proposals.add("put", b"", None, lambda outcome: None)
        proposals.submit(notes.raft)
        proposals.submit(notes.raft)
        assert [len(batch) for batch in notes.proposed] == [3]

    def test_without_a_leader_they_wait_for_one(self, clock: Clock) -> None:
        proposals, notes = make_proposals(clock), Notes(leader_id=0)
        proposals.add("put", b"", None, lambda outcome: None)
        proposals.submit(notes.raft)
        assert not notes.proposed
        notes.leader_id = 2
        proposals.submit(notes.raft)
        assert len(notes.proposed) == 1

    def test_one_that_no_leader_took_is_late_as_etcd_says_it(self, clock: Clock) -> None:
        proposals, outcomes = make_proposals(clock), list[Outcome]()
        proposals.add("put", b"", None, outcomes.append)
        clock.now += 7.1
        expire(proposals)
        assert outcomes == [NEVER_PROPOSED]
        notes = Notes()
        proposals.submit(notes.raft)
        assert not notes.proposed  # it was answered: proposing it now could only surprise

    @pytest.mark.parametrize(
        ("elected", "lost", "reachable", "error"),
        [
            (0.0, 0.0, True, errors.TIMEOUT),
            (103.0, 99.0, True, errors.TIMEOUT_LEADER_FAILURE),
            (0.0, 0.0, False, errors.TIMEOUT_CONNECTION_LOST),
        ],
    )
    def test_a_lost_one_is_late_with_a_reason(
        self, clock: Clock, elected: float, lost: float, reachable: bool, error: StatusError
    ) -> None:
        proposals, outcomes = make_proposals(clock), list[Outcome]()
        proposals.add("put", b"", None, outcomes.append)
        proposals.submit(Notes().raft)
        clock.now += 6.9
        expire(proposals, elected=elected, lost=lost, reachable=reachable)
        assert not outcomes
        clock.now += 0.2
        expire(proposals, elected=elected, lost=lost, reachable=reachable)
        assert outcomes == [error]

    def test_refused_by_raft_is_refused_at_once(self, clock: Clock) -> None:
        proposals, notes, outcomes = make_proposals(clock), Notes(), list[Outcome]()
        notes.accepts = False
        proposals.add("put", b"", None, outcomes.append)
        proposals.submit(notes.raft)
        assert outcomes == [errors.PROPOSAL_DROPPED]

    def test_too_large_is_refused_before_it_waits(self, clock: Clock) -> None:
        proposals = make_proposals(clock)
        with pytest.raises(errors.RequestError) as refused:
            proposals.add("put", b"x" * 1000, None, lambda outcome: None)
        assert refused.value.code == Code.INVALID_ARGUMENT
        assert not proposals.waiting

    def test_stopping_answers_everybody_once(self, clock: Clock) -> None:
        proposals, outcomes = make_proposals(clock), list[Outcome]()
        proposals.add("put", b"", None, outcomes.append)
        proposals.fail_all(errors.STOPPED)
        proposals.fail_all(errors.STOPPED)
        assert outcomes == [errors.STOPPED]


@uses_fakes
class TestReads:
    def test_one_round_serves_all_that_waited_and_none_that_came_later(self, clock: Clock) -> None:
        reads, notes, done = make_reads(clock), Notes(), list[Any]()
        for name in "ab":
            reads.add(lambda error, name=name: done.append((name, error)))  # type: ignore[misc]
        reads.submit(notes.raft)
        reads.add(lambda error: done.append(("late", error)))
        reads.submit(notes.raft)
        assert len(notes.contexts) == 1
        reads.confirmed([(notes.contexts[0], 5)], applied_index=5)
        assert done == [("a", None), ("b", None)]
        reads.submit(notes.raft)
        reads.confirmed([(notes.contexts[1], 5)], applied_index=5)
        assert done[2:] == [("late", None)]

    def test_a_confirmed_read_waits_until_that_much_is_applied(self, clock: Clock) -> None:
        reads, notes, done = make_reads(clock), Notes(), list[Any]()
        reads.add(done.append)
        reads.submit(notes.raft)
        reads.confirmed([(notes.contexts[0], 9)], applied_index=7)
        reads.applied(8)
        assert not done
        reads.applied(9)
        assert done == [None]

    def test_a_repeated_try_has_a_new_context_and_the_old_answer_counts_for_nothing(self, clock: Clock) -> None:
        reads, notes, done = make_reads(clock), Notes(), list[Any]()
        reads.add(done.append)
        reads.submit(notes.raft)
        clock.now += RETRY_SECONDS
        reads.tick(notes.raft)
        first, second = notes.contexts
        assert first != second
        reads.confirmed([(first, 1)], applied_index=1)
        assert not done
        reads.confirmed([(second, 1)], applied_index=1)
        assert done == [None]

    def test_a_new_leader_is_asked_anew(self, clock: Clock) -> None:
        reads, notes = make_reads(clock), Notes()
        reads.add(lambda error: None)
        reads.submit(notes.raft)
        reads.leader_changed(notes.raft)
        assert len(set(notes.contexts)) == 2

    def test_without_a_quorum_they_time_out(self, clock: Clock) -> None:
        reads, notes, done = make_reads(clock), Notes(), list[Any]()
        reads.add(done.append)
        reads.submit(notes.raft)
        reads.add(done.append)
        clock.now += 7.5
        reads.tick(notes.raft)
        assert done == [errors.TIMEOUT, errors.TIMEOUT]
