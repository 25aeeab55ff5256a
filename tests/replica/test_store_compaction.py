"""Clients that wait for the end of a compaction."""

from __future__ import annotations

from tests.replica.lone_member import LoneMember


def test_thousands_who_wait_for_a_compaction_are_called_back_over_several_steps() -> None:
    """During a compaction of a minute a client may ask for 100,000 others, which are refused, but only when it is over."""
    member = LoneMember()
    compaction = member.replica.compaction
    called: list[int] = []
    for number in range(2000):
        compaction.when_finished(lambda number=number: called.append(number))  # type: ignore[misc]
    steps = 0
    while len(called) < 2000:
        before = len(called)
        more = compaction.step(1000)
        assert len(called) - before <= 1000
        assert more or len(called) == 2000
        steps += 1
        assert steps < 100
    assert called == list(range(2000))
    assert not compaction.step(1000)
