"""When leases are renewed and lost, with a clock of the test."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tercet.client.lease_schedule import LeaseSchedule


def test_a_lease_is_due_at_a_third_of_its_ttl_after_each_answer() -> None:
    schedule = LeaseSchedule()
    schedule.add(1, ttl_seconds=9, sent_at=0.0)
    assert schedule.take_due(2.9) == []
    assert schedule.take_due(3.0) == [1]
    assert schedule.take_due(3.1) == [], "one renewal in flight is enough"
    assert schedule.answered(1, 9, 3.5)
    assert schedule.next_at(connected=True) == 6.5


def test_a_lease_is_lost_a_ttl_after_the_sending_of_the_last_acknowledged_renewal() -> None:
    schedule = LeaseSchedule()
    schedule.add(1, ttl_seconds=9, sent_at=0.0)
    schedule.take_due(3.0)
    schedule.answered(1, 9, 7.0)  # the server renewed it at some time between 3 and 7
    assert schedule.remaining_seconds(1, 7.0) == 5.0
    assert schedule.take_lost(11.9) == []
    assert schedule.take_lost(12.0) == [1]
    assert len(schedule) == 0


def test_a_short_lease_is_renewed_at_most_twice_a_second() -> None:
    schedule = LeaseSchedule()
    schedule.add(1, ttl_seconds=1, sent_at=0.0)
    assert schedule.take_due(0.4) == []
    assert schedule.take_due(0.5) == [1]


def test_ttl_zero_in_an_answer_means_that_the_server_has_no_such_lease() -> None:
    schedule = LeaseSchedule()
    schedule.add(1, ttl_seconds=9, sent_at=0.0)
    schedule.take_due(3.0)
    assert not schedule.answered(1, 0, 3.1)
    assert schedule.next_at(connected=True) is None


def test_an_answer_for_a_lease_that_was_removed_is_ignored() -> None:
    schedule = LeaseSchedule()
    schedule.add(1, ttl_seconds=9, sent_at=0.0)
    schedule.take_due(3.0)
    schedule.remove(1)
    assert schedule.answered(1, 0, 3.1), "it is not lost: nobody keeps it"


def test_a_renewal_of_a_lost_stream_is_due_at_once_on_the_next() -> None:
    schedule = LeaseSchedule()
    schedule.add(1, ttl_seconds=9, sent_at=0.0)
    schedule.add(2, ttl_seconds=90, sent_at=0.0)
    assert schedule.take_due(3.0) == [1]
    schedule.stream_lost(4.0)
    assert schedule.next_at(connected=False) == 9.0, "without a stream nothing can be sent"
    assert schedule.take_due(4.0) == [1]


def test_a_renewal_without_an_answer_stalls_after_a_third_of_the_ttl() -> None:
    schedule = LeaseSchedule()
    schedule.add(1, ttl_seconds=9, sent_at=0.0)
    schedule.take_due(3.0)
    assert not schedule.is_stalled(5.9)
    assert schedule.next_at(connected=True) == 6.0
    assert schedule.is_stalled(6.0)


STEPS = st.lists(st.tuples(st.sampled_from("wwdrxkb"), st.integers(0, 3), st.floats(0.05, 4.0)), max_size=80)


@given(steps=STEPS, ttls=st.lists(st.integers(1, 20), min_size=1, max_size=4))
def test_the_client_never_holds_a_lease_that_the_server_has_expired(
    steps: list[tuple[str, int, float]], ttls: list[int]
) -> None:
    """The server expires a lease a TTL after it received the last renewal. Messages take any time, or are lost."""
    schedule, now = LeaseSchedule(), 0.0
    expires = {lease_id: float(ttl) for lease_id, ttl in enumerate(ttls)}
    requests: list[tuple[int, float]] = []  # in flight to the server
    answers: list[tuple[int, int]] = []
    for lease_id, ttl in enumerate(ttls):
        schedule.add(lease_id, ttl_seconds=ttl, sent_at=now)
    held = set(expires)
    for step, _, seconds in steps:
        if step == "w":
            now += seconds
        elif step == "d":
            requests += [(lease_id, now) for lease_id in schedule.take_due(now)]
        elif step == "r" and requests:
            lease_id, _ = requests.pop(0)
            alive = expires[lease_id] > now
            if alive:
                expires[lease_id] = now + ttls[lease_id]
            answers.append((lease_id, ttls[lease_id] if alive else 0))
        elif step == "k" and answers:
            lease_id, ttl = answers.pop(0)
            if not schedule.answered(lease_id, ttl, now):
                held.discard(lease_id)
        elif step in "xb":
            requests, answers = [], []
            schedule.stream_lost(now)
        held -= set(schedule.take_lost(now))
        assert all(expires[lease_id] > now for lease_id in held)
        assert len(schedule) == len(held)
        assert all(schedule.remaining_seconds(lease_id, now) > 0 for lease_id in held)
        if held:
            assert (schedule.next_at(connected=False) or 0) > now
