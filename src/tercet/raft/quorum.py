"""Majorities: the index that a quorum has reached, and the result of a vote.

Of three voters that have stored up to 7, 5 and 9, a majority has stored 7:
    quorum_index([7, 5, 9]) == 7
A joint configuration has two groups and needs a majority of both (paper §6): the smaller of two indices, the worse of two
results. An empty second group requires nothing; an empty first group has reached 0 and elects no leader.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum


class VoteResult(Enum):
    PENDING = "pending"
    WON = "won"
    LOST = "lost"


def majority(count: int) -> int:
    """The smallest number of voters that is more than half of `count`."""
    return count // 2 + 1


def quorum_index(indexes: Sequence[int]) -> int:
    """The highest index that a majority of voters has reached; `indexes` has one number per voter."""
    if not indexes:
        return 0
    return sorted(indexes)[(len(indexes) - 1) // 2]  # this voter and all after it in the list are a majority


def joint_index(incoming: Sequence[int], outgoing: Sequence[int]) -> int:
    """The highest index that a majority of each group has reached."""
    index = quorum_index(incoming)
    return min(index, quorum_index(outgoing)) if outgoing else index


def vote_result(voters: Iterable[int], votes: Mapping[int, bool]) -> VoteResult:
    """The result of one group's vote; `votes` may lack voters, and votes of non-members do not count."""
    granted = missing = total = 0
    for voter in voters:
        total += 1
        vote = votes.get(voter)
        if vote is None:
            missing += 1
        elif vote:
            granted += 1
    needed = majority(total)
    if granted >= needed:
        return VoteResult.WON
    return VoteResult.PENDING if granted + missing >= needed else VoteResult.LOST


def joint_vote_result(incoming: Sequence[int], outgoing: Sequence[int], votes: Mapping[int, bool]) -> VoteResult:
    """The result when both groups must agree: lost as soon as one is lost."""
    first = vote_result(incoming, votes)
    if not outgoing:
        return first
    second = vote_result(outgoing, votes)
    if first is second:
        return first
    if VoteResult.LOST in (first, second):
        return VoteResult.LOST
    return VoteResult.PENDING
