"""Majorities: all small cases against the definition."""

from __future__ import annotations

from itertools import combinations, product

import pytest

from tercet.raft.quorum import VoteResult, joint_index, joint_vote_result, majority, quorum_index, vote_result


@pytest.mark.parametrize(("count", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4), (7, 4)])
def test_a_majority_is_more_than_half(count: int, needed: int) -> None:
    assert majority(count) == needed


@pytest.mark.parametrize("count", range(1, 6))
def test_quorum_index_is_the_highest_that_a_majority_holds(count: int) -> None:
    for indexes in product(range(count + 1), repeat=count):
        by_definition = max(index for index in range(count + 1) if sum(held >= index for held in indexes) >= majority(count))
        assert quorum_index(indexes) == by_definition, indexes


def test_an_empty_group_has_reached_zero() -> None:
    assert quorum_index([]) == 0
    assert joint_index([], [3]) == 0


@pytest.mark.parametrize("count", range(6))
def test_a_vote_is_won_or_lost_by_majority(count: int) -> None:
    for answers in product((None, False, True), repeat=count):
        votes = {voter: answer for voter, answer in enumerate(answers) if answer is not None}
        granted, missing = answers.count(True), answers.count(None)
        expected = VoteResult.LOST
        if granted >= majority(count):
            expected = VoteResult.WON
        elif granted + missing >= majority(count):
            expected = VoteResult.PENDING
        assert vote_result(range(count), votes) is expected


def test_votes_of_non_members_do_not_count() -> None:
    assert vote_result((1, 2, 3), {1: True, 8: True, 9: True}) is VoteResult.PENDING
    assert vote_result((1, 2, 3), {1: True, 8: False, 9: False}) is VoteResult.PENDING


def test_joint_results_need_both_halves() -> None:
    members = range(1, 5)
    groups = [group for size in range(1, 4) for group in combinations(members, size)]
    for incoming, outgoing in product(groups, [(), *groups]):
        for answers in product((None, False, True), repeat=4):
            votes = {voter: answer for voter, answer in zip(members, answers, strict=True) if answer is not None}
            halves = {vote_result(half, votes) for half in (incoming, outgoing) if half}
            if halves == {VoteResult.WON}:
                expected = VoteResult.WON
            else:
                expected = VoteResult.LOST if VoteResult.LOST in halves else VoteResult.PENDING
            assert joint_vote_result(incoming, outgoing, votes) is expected


def test_joint_index_is_the_smaller_one() -> None:
    for held in product(range(4), repeat=4):
        incoming, outgoing = held[:3], held[1:]
        assert joint_index(incoming, outgoing) == min(quorum_index(incoming), quorum_index(outgoing))
        assert joint_index(incoming, ()) == quorum_index(incoming)
