"""Configuration changes: pure functions from configuration to configuration.

A `ConfState` has voters and learners, and in a joint configuration the previous voters (`voters_outgoing`) and those of them
that become learners when it is left (`learners_next`). Majorities before and after a change of one voter overlap; a change of
more voters goes through a joint configuration, in which both majorities must agree (paper §6, thesis §4.3):
    (1 2 3)  -- remove 3, add 4 -->  (1 2 4)&&(1 2 3)  -- leave -->  (1 2 4)

Every result has passed `check`.
Source: etcd raft confchange/confchange.go. Departs in: progress is not changed here (tracker.py follows the result).
"""

from __future__ import annotations

from tercet.errors import Code, InvariantViolation, RequestError, require
from tercet.raft.types import NO_MEMBER, ConfChange, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState

Change = tuple[ConfChangeType, int]


class ConfChangeRefused(RequestError):
    """The change does not fit the configuration. Every member refuses the same entry, and changes nothing."""

    def __init__(self, text: str) -> None:
        super().__init__(Code.FAILED_PRECONDITION, f"raft: {text}")


def changed(conf: ConfState, change: ConfChange | ConfChangeV2) -> ConfState:
    """The configuration after `change`. Raises ConfChangeRefused."""
    if isinstance(change, ConfChange):
        return simple(conf, [(change.type, change.node_id)])
    if leaves_joint(change):
        return leave_joint(conf)
    if change.transition is not ConfChangeTransition.AUTO or len(change.changes) > 1:
        return enter_joint(conf, change.changes, auto_leave=change.transition is not ConfChangeTransition.JOINT_EXPLICIT)
    return simple(conf, change.changes)


def leaves_joint(change: ConfChange | ConfChangeV2) -> bool:
    """Is this the empty change that ends a joint configuration?"""
    return isinstance(change, ConfChangeV2) and not change.changes and change.transition is ConfChangeTransition.AUTO


def takes_vote_of(change: ConfChange | ConfChangeV2, member: int) -> bool:
    """Does this change remove `member`, or make it a learner?"""
    changes: tuple[Change, ...] = change.changes if isinstance(change, ConfChangeV2) else ((change.type, change.node_id),)
    return any(one == member and kind in _WITHOUT_VOTE for kind, one in changes)


def simple(conf: ConfState, changes: list[Change] | tuple[Change, ...]) -> ConfState:
    """Apply changes of at most one voter."""
    if conf.voters_outgoing:
        raise ConfChangeRefused("simple change in a joint configuration")
    after = _applied(conf, changes)
    if len(set(conf.voters) ^ set(after.voters)) > 1:
        raise ConfChangeRefused("more than one voter changed without a joint configuration")
    return after


def enter_joint(conf: ConfState, changes: list[Change] | tuple[Change, ...], *, auto_leave: bool) -> ConfState:
    """Apply changes to the incoming half; the current voters become the outgoing half."""
    if conf.voters_outgoing:
        raise ConfChangeRefused("joint change in a joint configuration")
    if not conf.voters:
        raise ConfChangeRefused("a configuration without voters cannot become joint")
    return _applied(conf._replace(voters_outgoing=conf.voters, auto_leave=auto_leave), changes)


def leave_joint(conf: ConfState) -> ConfState:
    """Drop the outgoing half; demoted voters become learners."""
    if not conf.voters_outgoing:
        raise ConfChangeRefused("no joint configuration to leave")
    return _checked(ConfState(voters=conf.voters, learners=_sorted({*conf.learners, *conf.learners_next})))


def check(conf: ConfState) -> None:
    """The rules of every configuration. Raises InvariantViolation."""
    voters, outgoing, learners, later = map(set, (conf.voters, conf.voters_outgoing, conf.learners, conf.learners_next))
    require(not learners & (voters | outgoing), "a voter is also a learner", conf)
    require(later <= outgoing, "a next learner is not an outgoing voter", conf)
    require(not later & (voters | learners), "a next learner is also an incoming voter or a learner", conf)
    require(bool(outgoing) or not (later or conf.auto_leave), "joint fields outside of a joint configuration", conf)
    require(NO_MEMBER not in voters | outgoing | learners, "a member with id 0", conf)
    parts = (conf.voters, conf.voters_outgoing, conf.learners, conf.learners_next)
    require(all(len(set(part)) == len(part) for part in parts), "a member listed twice", conf)


def is_sound(conf: ConfState) -> bool:
    """Is a received configuration valid: does it have voters, and pass `check`?"""
    try:
        check(conf)
    except InvariantViolation:
        return False
    return bool(conf.voters)


def members(conf: ConfState) -> tuple[int, ...]:
    """All members of the configuration, by ascending id."""
    return _sorted({*conf.voters, *conf.voters_outgoing, *conf.learners, *conf.learners_next})


def _applied(conf: ConfState, changes: list[Change] | tuple[Change, ...]) -> ConfState:
    for kind, member in changes:
        # etcd sets the id of a change that its membership rules refuse to zero: the entry is applied without effect.
        if member != NO_MEMBER and kind is not ConfChangeType.UPDATE_NODE:
            conf = _EFFECTS[kind](conf, member)
    if not conf.voters:
        raise ConfChangeRefused("removed all voters")
    return _checked(conf)


def _with_voter(conf: ConfState, member: int) -> ConfState:
    conf = _without(conf, member)
    return conf._replace(voters=_sorted({*conf.voters, member}))


def _with_learner(conf: ConfState, member: int) -> ConfState:
    if member in conf.learners:
        return conf
    conf = _without(conf, member)
    if member in conf.voters_outgoing:  # it votes in the outgoing half until that is left
        return conf._replace(learners_next=_sorted({*conf.learners_next, member}))
    return conf._replace(learners=_sorted({*conf.learners, member}))


def _without(conf: ConfState, member: int) -> ConfState:
    voters, learners, later = (
        tuple(other for other in part if other != member) for part in (conf.voters, conf.learners, conf.learners_next)
    )
    return conf._replace(voters=voters, learners=learners, learners_next=later)


_EFFECTS = {
    ConfChangeType.ADD_NODE: _with_voter,
    ConfChangeType.ADD_LEARNER_NODE: _with_learner,
    ConfChangeType.REMOVE_NODE: _without,
}
_WITHOUT_VOTE = (ConfChangeType.REMOVE_NODE, ConfChangeType.ADD_LEARNER_NODE)


def _checked(conf: ConfState) -> ConfState:
    check(conf)
    return conf


def _sorted(ids: set[int]) -> tuple[int, ...]:
    return tuple(sorted(ids))
