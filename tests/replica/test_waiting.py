"""Proposals and linearizable reads: batching, timeouts and retries, against a fake raft."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from tercet import errors
from tercet.errors import Code, StatusError
from tercet.raft import Raft
from tercet.replica.applied_waits import CALLED_PER_TURN, TIMEOUT_SECONDS, AppliedWaits
from tercet.replica.proposals import EXPIRED_PER_TURN, NEVER_PROPOSED, PROPOSED_PER_TURN, Outcome, Proposals
from tercet.replica.reads import ANSWERED_PER_TURN, RETRY_SECONDS, Reads
from tercet.replica.requests import RequestIds
from tests.support.fakes import uses_fakes


class FakeRaft:
    """Records proposals and reads."""

    def __init__(self, leader_id: int = 1) -> None:
        self.leader_id = leader_id
        self.leader_transferee = 0
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
    def as_raft(self) -> Raft:
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


def make_reads(clock: Clock, search_work: Callable[[], int] = lambda: 0) -> Reads:
    return Reads(RequestIds(1, 1), clock=clock, timeout_seconds=7.0, search_work=search_work)


def expire(proposals: Proposals, *, elected: float = 0.0, lost: float = 0.0, unreachable: float = 0.0) -> None:
    proposals.expire(leader_elected_at=elected, leader_lost_at=lost, leader_unreachable_at=unreachable)


@uses_fakes
class TestProposals:
    def test_proposals_of_one_turn_become_one_batch(self, clock: Clock) -> None:
        proposals, raft = make_proposals(clock), FakeRaft()
        for _ in range(3):
            proposals.add("put", b"", None, lambda outcome: None)
        proposals.submit(raft.as_raft)
        proposals.submit(raft.as_raft)
        assert [len(batch) for batch in raft.proposed] == [3]

    def test_what_has_come_without_a_leader_is_proposed_in_several_turns(self, clock: Clock) -> None:
        proposals, raft = make_proposals(clock), FakeRaft()
        for _ in range(2 * PROPOSED_PER_TURN + 1):
            proposals.add("put", b"", None, lambda outcome: None)
        queued = list(proposals.waiting)
        assert [proposals.submit(raft.as_raft) for _ in range(3)] == [True, True, False]
        assert [len(batch) for batch in raft.proposed] == [PROPOSED_PER_TURN, PROPOSED_PER_TURN, 1]
        assert [data for batch in raft.proposed for data in batch] == queued

    def test_large_requests_are_proposed_in_several_turns(self, clock: Clock) -> None:
        proposals = Proposals(RequestIds(1, 1), clock=clock, timeout_seconds=7.0, request_bytes_max=2 << 20)
        raft = FakeRaft()
        body = bytes(1 << 20)
        for _ in range(6):
            proposals.add("put", body, None, lambda outcome: None)
        assert proposals.submit(raft.as_raft)
        assert not proposals.submit(raft.as_raft)
        assert [len(batch) for batch in raft.proposed] == [4, 2]

    def test_without_a_leader_proposals_stay_queued(self, clock: Clock) -> None:
        proposals, raft = make_proposals(clock), FakeRaft(leader_id=0)
        proposals.add("put", b"", None, lambda outcome: None)
        proposals.submit(raft.as_raft)
        assert not raft.proposed
        raft.leader_id = 2
        proposals.submit(raft.as_raft)
        assert len(raft.proposed) == 1

    def test_during_a_leadership_transfer_proposals_stay_queued(self, clock: Clock) -> None:
        proposals, raft, outcomes = make_proposals(clock), FakeRaft(), list[Outcome]()
        raft.leader_transferee = 2
        proposals.add("put", b"", None, outcomes.append)
        proposals.submit(raft.as_raft)
        assert not raft.proposed
        assert not outcomes
        raft.leader_transferee = 0
        proposals.submit(raft.as_raft)
        assert len(raft.proposed) == 1

    def test_an_unproposed_request_times_out_with_etcds_error(self, clock: Clock) -> None:
        proposals, outcomes = make_proposals(clock), list[Outcome]()
        proposals.add("put", b"", None, outcomes.append)
        clock.now += 7.1
        expire(proposals)
        assert outcomes == [NEVER_PROPOSED]
        raft = FakeRaft()
        proposals.submit(raft.as_raft)
        assert not raft.proposed  # its client already has an error

    def test_proposals_that_are_due_together_fail_in_several_turns(self, clock: Clock) -> None:
        proposals, outcomes = make_proposals(clock), list[Outcome]()
        for _ in range(2 * EXPIRED_PER_TURN + 1):
            proposals.add("put", b"", None, outcomes.append)
        clock.now += 7.1
        proposals.add("put", b"", None, outcomes.append)
        expire(proposals)
        assert len(outcomes) == EXPIRED_PER_TURN
        assert [proposals.expire_some() for _ in range(3)] == [True, False, False]
        assert outcomes == [NEVER_PROPOSED] * (2 * EXPIRED_PER_TURN + 1)
        raft = FakeRaft()
        proposals.submit(raft.as_raft)
        assert [len(batch) for batch in raft.proposed] == [1]

    @pytest.mark.parametrize(
        ("elected", "lost", "unreachable", "error"),
        [
            (0.0, 0.0, 0.0, errors.TIMEOUT),
            (0.0, 0.0, 99.0, errors.TIMEOUT),
            (103.0, 99.0, 0.0, errors.TIMEOUT_LEADER_FAILURE),
            (0.0, 0.0, 101.0, errors.TIMEOUT_CONNECTION_LOST),
        ],
    )
    def test_a_lost_proposal_times_out_with_its_cause(
        self, clock: Clock, elected: float, lost: float, unreachable: float, error: StatusError
    ) -> None:
        proposals, outcomes = make_proposals(clock), list[Outcome]()
        proposals.add("put", b"", None, outcomes.append)
        proposals.submit(FakeRaft().as_raft)
        clock.now += 6.9
        expire(proposals, elected=elected, lost=lost, unreachable=unreachable)
        assert not outcomes
        clock.now += 0.2
        expire(proposals, elected=elected, lost=lost, unreachable=unreachable)
        assert outcomes == [error]

    def test_a_proposal_that_raft_drops_fails_at_once(self, clock: Clock) -> None:
        proposals, raft, outcomes = make_proposals(clock), FakeRaft(), list[Outcome]()
        raft.accepts = False
        proposals.add("put", b"", None, outcomes.append)
        proposals.submit(raft.as_raft)
        assert outcomes == [errors.PROPOSAL_DROPPED]

    def test_an_oversized_request_is_refused_at_once(self, clock: Clock) -> None:
        proposals = make_proposals(clock)
        with pytest.raises(errors.RequestError) as refused:
            proposals.add("put", b"x" * 1000, None, lambda outcome: None)
        assert refused.value.code == Code.INVALID_ARGUMENT
        assert not proposals.waiting

    def test_stopping_fails_each_proposal_once(self, clock: Clock) -> None:
        proposals, outcomes = make_proposals(clock), list[Outcome]()
        proposals.add("put", b"", None, outcomes.append)
        proposals.fail_all(errors.STOPPED)
        proposals.fail_all(errors.STOPPED)
        assert outcomes == [errors.STOPPED]


@uses_fakes
class TestReads:
    def test_one_round_serves_the_waiting_reads_and_no_later_one(self, clock: Clock) -> None:
        reads, raft, done = make_reads(clock), FakeRaft(), list[Any]()
        for name in "ab":
            reads.add(lambda error, name=name: done.append((name, error)))  # type: ignore[misc]
        reads.submit(raft.as_raft)
        reads.add(lambda error: done.append(("late", error)))
        reads.submit(raft.as_raft)
        assert len(raft.contexts) == 1
        reads.confirmed([(raft.contexts[0], 5)], applied_index=5)
        assert not reads.answer()
        assert done == [("a", None), ("b", None)]
        reads.submit(raft.as_raft)
        reads.confirmed([(raft.contexts[1], 5)], applied_index=5)
        assert not reads.answer()
        assert done[2:] == [("late", None)]

    def test_a_confirmed_read_waits_for_its_index_to_be_applied(self, clock: Clock) -> None:
        reads, raft, done = make_reads(clock), FakeRaft(), list[Any]()
        reads.add(done.append)
        reads.submit(raft.as_raft)
        reads.confirmed([(raft.contexts[0], 9)], applied_index=7)
        reads.applied(8)
        assert not reads.answer()
        assert not done
        reads.applied(9)
        assert not reads.answer()
        assert done == [None]

    def test_a_retry_has_a_new_context_and_ignores_the_old_answer(self, clock: Clock) -> None:
        reads, raft, done = make_reads(clock), FakeRaft(), list[Any]()
        reads.add(done.append)
        reads.submit(raft.as_raft)
        clock.now += RETRY_SECONDS
        reads.tick(raft.as_raft)
        first, second = raft.contexts
        assert first != second
        reads.confirmed([(first, 1)], applied_index=1)
        assert not reads.answer()
        assert not done
        reads.confirmed([(second, 1)], applied_index=1)
        assert not reads.answer()
        assert done == [None]

    def test_a_round_is_repeated_with_a_new_leader(self, clock: Clock) -> None:
        reads, raft = make_reads(clock), FakeRaft()
        reads.add(lambda error: None)
        reads.submit(raft.as_raft)
        reads.leader_changed(raft.as_raft)
        assert len(set(raft.contexts)) == 2

    def test_reads_time_out_without_a_quorum(self, clock: Clock) -> None:
        reads, raft, done = make_reads(clock), FakeRaft(), list[Any]()
        reads.add(done.append)
        reads.submit(raft.as_raft)
        reads.add(done.append)
        reads.tick(raft.as_raft)
        clock.now += 7.5
        reads.tick(raft.as_raft)
        assert not reads.answer()
        assert done == [errors.TIMEOUT, errors.TIMEOUT]

    def test_a_queued_read_has_its_own_timeout(self, clock: Clock) -> None:
        """Without a leader, a read that joins a queue of older reads must not time out with them."""
        reads, raft = make_reads(clock), FakeRaft()
        raft.leader_id = 0
        early, late = list[Any](), list[Any]()
        reads.add(early.append)
        reads.tick(raft.as_raft)
        clock.now += 6.9
        reads.add(late.append)
        reads.tick(raft.as_raft)
        clock.now += 0.2
        reads.tick(raft.as_raft)
        assert not reads.answer()
        assert (early, late) == ([errors.TIMEOUT], [])
        clock.now += 7.0
        reads.tick(raft.as_raft)
        assert not reads.answer()
        assert late == [errors.TIMEOUT]

    def test_reads_that_one_round_confirms_are_answered_in_several_turns(self, clock: Clock) -> None:
        reads, raft, done = make_reads(clock), FakeRaft(), list[Any]()
        count = 2 * ANSWERED_PER_TURN + 100
        for number in range(count):
            reads.add(lambda error, number=number: done.append(number))  # type: ignore[misc]
        reads.submit(raft.as_raft)
        reads.confirmed([(raft.contexts[0], 9)], applied_index=7)
        reads.applied(9)
        for turn in range(1, 4):
            assert reads.answer() == (turn < 3)
            assert done == list(range(min(count, turn * ANSWERED_PER_TURN)))

    def test_fewer_reads_are_answered_in_a_turn_if_their_checks_search_many_roles(self, clock: Clock) -> None:
        raft, done, work = FakeRaft(), list[None](), [10_000]

        def search_work() -> int:
            taken, work[0] = work[0], 0
            return taken

        def answer(error: Exception | None) -> None:
            done.append(None)
            work[0] += 60

        reads = make_reads(clock, search_work)
        for _ in range(ANSWERED_PER_TURN):
            reads.add(answer)
        reads.submit(raft.as_raft)
        reads.confirmed([(raft.contexts[0], 9)], applied_index=9)
        assert reads.answer()
        assert len(done) == 100  # each costs as much as six
        while reads.answer():
            pass
        assert len(done) == ANSWERED_PER_TURN

    def test_reads_that_time_out_together_are_answered_in_several_turns(self, clock: Clock) -> None:
        reads, raft, done = make_reads(clock), FakeRaft(), list[Any]()
        for _ in range(ANSWERED_PER_TURN + 1):
            reads.add(done.append)
        reads.submit(raft.as_raft)
        clock.now += 7.5
        reads.tick(raft.as_raft)
        assert reads.answer()
        assert done == [errors.TIMEOUT] * ANSWERED_PER_TURN
        assert not reads.answer()
        assert done == [errors.TIMEOUT] * (ANSWERED_PER_TURN + 1)
        assert reads.failed == len(done)

    def test_a_member_that_stops_fails_each_read_once(self, clock: Clock) -> None:
        reads, raft, done = make_reads(clock), FakeRaft(), list[Any]()
        for number in range(ANSWERED_PER_TURN + 10):
            reads.add(lambda error, number=number: done.append((number, error)))  # type: ignore[misc]
        reads.submit(raft.as_raft)
        reads.confirmed([(raft.contexts[0], 1)], applied_index=1)
        assert reads.answer()
        reads.add(lambda error: done.append((-1, error)))
        reads.fail_all(errors.STOPPED)
        due = [(ANSWERED_PER_TURN + number, errors.STOPPED) for number in range(10)]
        assert done[ANSWERED_PER_TURN:] == [*due, (-1, errors.STOPPED)]
        assert not reads.answer()


@uses_fakes
def test_slow_rounds_are_logged_as_by_etcd(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    reads, raft = make_reads(clock), FakeRaft()
    reads.add(lambda error: None)
    reads.submit(raft.as_raft)
    clock.now += RETRY_SECONDS
    reads.tick(raft.as_raft)
    clock.now += 7
    reads.tick(raft.as_raft)
    first, second = caplog.records
    sent = int.from_bytes(raft.contexts[0], "big")
    assert first.message == "waiting for ReadIndex response took too long, retrying"
    assert first.__dict__["fields"] == {"sent-request-id": sent, "retry-timeout": "500ms"}
    assert second.message == "timed out waiting for read index response (local node might have slow network)"
    assert second.__dict__["fields"] == {"timeout": "7s"}


def test_a_change_that_is_awaited_outlives_the_timeout_and_delays_no_other(clock: Clock) -> None:
    proposals = make_proposals(clock)
    changed: list[Outcome] = []
    put: list[Outcome] = []
    is_awaited = True
    proposals.wait_for(b"change", changed.append, lambda: is_awaited)
    clock.now += 1
    proposals.add("put", b"", None, put.append)
    for _ in range(3):
        clock.now += 7
        expire(proposals)
    assert (changed, put) == ([], [NEVER_PROPOSED])
    is_awaited = False
    clock.now += 6
    expire(proposals)
    assert changed == []
    clock.now += 1
    expire(proposals)
    assert changed == [errors.TIMEOUT]


class TestAppliedWaits:
    def test_waits_that_are_over_together_end_in_several_turns(self, clock: Clock) -> None:
        waits, ended = AppliedWaits(clock), list[StatusError | None]()
        for _ in range(2 * CALLED_PER_TURN):
            waits.add(5, 4, ended.append)
        waits.add(6, 4, ended.append)
        waits.applied(5)
        assert ended == [None] * CALLED_PER_TURN
        clock.now += TIMEOUT_SECONDS
        waits.expire()
        assert [waits.call_back() for _ in range(2)] == [False, False]
        assert ended == [None] * 2 * CALLED_PER_TURN + [errors.TIMEOUT_WAIT_APPLIED]
