"""When a member may lose its database, or the membership change while one is without: the others can still lead."""

from __future__ import annotations

from random import Random

import pytest

from tercet.raft import Raft, RaftLog
from tercet.raft.codec import encode_conf_change
from tercet.raft.types import ConfChange, ConfChangeType, ConfState, Entry, EntryType, HardState
from tercet.sim.database_file import can_lead_without, has_pending_change
from tercet.sim.settings import Settings


@pytest.mark.parametrize(
    ("before", "after", "can_lead"),
    [
        (ConfState((1, 2)), ConfState((1, 2)), False),  # the log of 1 may be the longer one
        (ConfState((1, 2, 3)), ConfState((1, 2, 3)), True),
        (ConfState((2, 3), learners=(1,)), ConfState((2, 3), learners=(1,)), True),
        (ConfState((1, 2, 3)), ConfState((2, 3)), True),
        (ConfState((1, 2, 3)), ConfState((1, 2, 3, 4)), True),
        (ConfState((2,), learners=(1,)), ConfState((1, 2)), False),
        (ConfState((1, 2, 3)), ConfState((1, 2)), False),
        # 4 may have left, and nobody else know that it could; 2 and 3 are no majority of four.
        (ConfState((1, 2, 3, 4)), ConfState((1, 2, 3)), False),
        (ConfState((1, 2, 3, 4, 5)), ConfState((1, 2, 3, 4)), True),
        (ConfState((1, 2, 3)), ConfState((1, 2, 4), voters_outgoing=(1, 2, 3)), False),
        (ConfState((1, 2, 3)), ConfState((1, 2, 3, 4), voters_outgoing=(1, 2, 3)), True),
        (ConfState((1, 2, 4), voters_outgoing=(1, 2, 3)), ConfState((1, 2, 4)), False),
    ],
)
def test_the_others_can_lead_if_they_are_a_majority_before_and_after_a_change(
    before: ConfState, after: ConfState, can_lead: bool
) -> None:
    assert can_lead_without(1, before, after) is can_lead


def test_only_changes_of_membership_are_pending_changes() -> None:
    put = Entry(1, 1, b"a put")
    change = Entry(1, 2, encode_conf_change(ConfChange(ConfChangeType.REMOVE_NODE, 3)), EntryType.CONF_CHANGE)

    def member(entries: list[Entry]) -> Raft:
        return Raft(Settings().raft(1, Random(1)), RaftLog(0, 0, entries), hard_state=HardState(1, 0, 0))

    assert not has_pending_change(member([put]))
    assert has_pending_change(member([put, change]))
