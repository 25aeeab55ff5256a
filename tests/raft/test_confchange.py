"""Configuration changes: tables of their results, and properties that hold for all of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.errors import InvariantViolation
from tercet.raft import ConfChange, ConfChangeRefused, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState
from tercet.raft.confchange import Change, changed, check, enter_joint, is_sound, leave_joint, members, simple
from tercet.raft.quorum import majority

ADD, LEARN, REMOVE, UPDATE = (
    ConfChangeType.ADD_NODE,
    ConfChangeType.ADD_LEARNER_NODE,
    ConfChangeType.REMOVE_NODE,
    ConfChangeType.UPDATE_NODE,
)
THREE = ConfState(voters=(1, 2, 3))


@pytest.mark.parametrize(
    ("before", "kind", "member", "after"),
    [
        (ConfState(), ADD, 1, ConfState(voters=(1,))),
        (THREE, ADD, 4, ConfState(voters=(1, 2, 3, 4))),
        (THREE, ADD, 3, THREE),
        (THREE, LEARN, 4, ConfState(voters=(1, 2, 3), learners=(4,))),
        (ConfState(voters=(1, 2), learners=(3,)), ADD, 3, THREE),
        (THREE, LEARN, 3, ConfState(voters=(1, 2), learners=(3,))),
        (ConfState(voters=(1,), learners=(3,)), LEARN, 3, ConfState(voters=(1,), learners=(3,))),
        (THREE, REMOVE, 2, ConfState(voters=(1, 3))),
        (THREE, REMOVE, 9, THREE),
        (ConfState(voters=(1,), learners=(3,)), REMOVE, 3, ConfState(voters=(1,))),
        (THREE, UPDATE, 2, THREE),
        (THREE, REMOVE, 0, THREE),
    ],
)
def test_a_simple_change_gives_the_configuration_in_the_table(
    before: ConfState, kind: ConfChangeType, member: int, after: ConfState
) -> None:
    assert changed(before, ConfChange(kind, member)) == after
    assert changed(before, ConfChangeV2(((kind, member),))) == after


def test_the_last_voter_cannot_be_removed() -> None:
    with pytest.raises(ConfChangeRefused, match="removed all voters"):
        changed(ConfState(voters=(1,), learners=(2,)), ConfChange(REMOVE, 1))


def test_two_voters_at_once_need_a_joint_configuration() -> None:
    with pytest.raises(ConfChangeRefused, match="more than one voter"):
        simple(THREE, [(ADD, 4), (REMOVE, 1)])
    joint = changed(THREE, ConfChangeV2(((ADD, 4), (REMOVE, 1))))
    assert joint == ConfState(voters=(2, 3, 4), voters_outgoing=(1, 2, 3), auto_leave=True)
    assert changed(joint, ConfChangeV2()) == ConfState(voters=(2, 3, 4))


def test_an_explicit_joint_change_is_left_only_on_request() -> None:
    change = ConfChangeV2(((ADD, 4),), ConfChangeTransition.JOINT_EXPLICIT)
    joint = changed(THREE, change)
    assert joint == ConfState(voters=(1, 2, 3, 4), voters_outgoing=(1, 2, 3))
    for refused in (change, ConfChange(ADD, 5), ConfChangeV2(((ADD, 5), (ADD, 6)))):
        with pytest.raises(ConfChangeRefused, match="in a joint configuration"):
            changed(joint, refused)


def test_a_demoted_voter_becomes_a_learner_on_leaving() -> None:
    joint = enter_joint(THREE, [(LEARN, 3)], auto_leave=False)
    assert joint == ConfState(voters=(1, 2), voters_outgoing=(1, 2, 3), learners_next=(3,))
    assert leave_joint(joint) == ConfState(voters=(1, 2), learners=(3,))


def test_a_member_removed_while_joint_is_gone_after_leaving() -> None:
    joint = enter_joint(THREE, [(LEARN, 3), (REMOVE, 3)], auto_leave=False)
    assert members(joint) == (1, 2, 3)
    assert leave_joint(joint) == ConfState(voters=(1, 2))


def test_leaving_or_entering_needs_the_matching_configuration() -> None:
    with pytest.raises(ConfChangeRefused, match="no joint configuration"):
        changed(THREE, ConfChangeV2())
    with pytest.raises(ConfChangeRefused, match="without voters"):
        enter_joint(ConfState(), [(ADD, 1)], auto_leave=False)


@pytest.mark.parametrize(
    "invalid",
    [
        ConfState(voters=(1,), learners=(1,)),
        ConfState(voters=(1,), voters_outgoing=(2,), learners=(2,)),
        ConfState(voters=(1,), learners_next=(2,)),
        ConfState(voters=(1,), voters_outgoing=(2,), learners_next=(3,)),
        ConfState(voters=(1, 2), voters_outgoing=(2,), learners_next=(2,)),
        ConfState(voters=(1,), auto_leave=True),
        ConfState(voters=(0, 1)),
        ConfState(voters=(1, 1)),
    ],
)
def test_an_invalid_configuration_is_reported(invalid: ConfState) -> None:
    assert not is_sound(invalid)
    with pytest.raises(InvariantViolation):
        check(invalid)


def test_a_received_configuration_needs_voters() -> None:
    check(ConfState(learners=(1,)))
    assert not is_sound(ConfState(learners=(1,)))
    assert is_sound(THREE)


KINDS = st.sampled_from([ADD, LEARN, REMOVE, UPDATE])
CHANGES = st.lists(st.tuples(KINDS, st.integers(0, 5)), max_size=4)


@given(st.lists(st.tuples(CHANGES, st.sampled_from(list(ConfChangeTransition))), max_size=12))
def test_every_history_of_changes_keeps_the_configuration_valid(
    history: list[tuple[list[Change], ConfChangeTransition]],
) -> None:
    conf = ConfState(voters=(1,))
    for changes, transition in history:
        try:
            after = changed(conf, ConfChangeV2(tuple(changes), transition))
        except ConfChangeRefused:
            continue
        assert is_sound(after)
        if not conf.voters_outgoing and not after.voters_outgoing:
            assert len(set(conf.voters) ^ set(after.voters)) <= 1
        if after.voters_outgoing:
            assert after.voters_outgoing == conf.voters
        conf = after


@given(st.sets(st.integers(1, 6), min_size=1), CHANGES)
def test_every_simple_change_keeps_majorities_overlapping(voters: set[int], changes: list[Change]) -> None:
    before = ConfState(voters=tuple(sorted(voters)))
    try:
        after = simple(before, changes)
    except ConfChangeRefused:
        return
    everyone = len(set(before.voters) | set(after.voters))
    assert majority(len(before.voters)) + majority(len(after.voters)) > everyone


@given(st.sets(st.integers(1, 5), min_size=1), CHANGES)
def test_a_joint_change_has_the_result_of_single_steps(voters: set[int], changes: list[Change]) -> None:
    conf = ConfState(voters=tuple(sorted(voters)))
    try:
        by_joint = leave_joint(enter_joint(conf, changes, auto_leave=False))
        by_steps = conf
        for change in changes:
            by_steps = simple(by_steps, [change])
    except ConfChangeRefused:
        return
    assert by_joint == by_steps
