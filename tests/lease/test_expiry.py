"""Deadlines: no lease comes due before its time, each comes due once, and a promotion gives every lease its time again."""

from __future__ import annotations

from random import Random

import pytest

from tercet.lease import Expiry, Lease
from tercet.lease.deadline_heap import DeadlineHeap
from tercet.lease.expiry import PLACE_LEASES, SORT_LEASES, SPREAD_PER_SECOND


def promoted(leases: list[Lease], now: float = 0.0, extend: float = 1.0) -> Expiry:
    expiry = Expiry()
    expiry.promote(leases, now, extend)
    while expiry._unsorted or expiry._lefts:
        expiry.step()
    return expiry


@pytest.mark.parametrize("seed", range(20))
def test_the_heap_agrees_with_sorting(seed: int) -> None:
    random = Random(seed)
    heap = DeadlineHeap()
    inside: list[Lease] = []
    for number in range(300):
        act = random.random()
        if act < 0.5 or not inside:
            lease = Lease(number, 1)
            inside.append(lease)
            heap.push(lease, random.randrange(50))
        elif act < 0.7:
            heap.move(random.choice(inside), random.randrange(50))
        elif act < 0.85:
            heap.remove(inside.pop(random.randrange(len(inside))))
        else:
            first = heap.first
            assert first is not None
            assert first.due == min(lease.due for lease in inside)
            heap.remove(first)
            inside.remove(first)
        assert len(heap) == len(inside)
        assert sorted(lease.position for lease in inside) == list(range(len(inside)))


def test_a_lease_comes_due_at_its_ttl_after_the_grant_and_after_each_renewal() -> None:
    expiry = promoted([])
    lease = Lease(1, 10)
    expiry.renew(lease, 100.0)
    assert expiry.take_due(109.9, 10) == []
    expiry.renew(lease, 109.9)
    assert expiry.take_due(119.8, 10) == []
    assert not expiry.is_expired(lease, 119.8)
    assert expiry.is_expired(lease, 120.0)
    assert expiry.take_due(120.0, 10) == [lease]
    assert expiry.take_due(500.0, 10) == []  # a revoke is proposed
    expiry.retry(lease, 501.0)
    assert expiry.take_due(500.9, 10) == []
    assert expiry.is_expired(lease, 500.9)  # never renewed again
    assert expiry.take_due(501.0, 10) == [lease]


def test_a_revoked_lease_leaves_at_once() -> None:
    expiry = promoted([])
    leases = [Lease(number, 1_000_000) for number in range(100)]
    for lease in leases:
        expiry.renew(lease, 0.0)
        expiry.revoked(lease)
    assert len(expiry._heap) == 0


def test_a_limit_leaves_the_rest_for_later_in_order() -> None:
    expiry = promoted([])
    leases = [Lease(number, 10 + number) for number in range(5)]
    for lease in reversed(leases):
        expiry.renew(lease, 0.0)
    assert [lease.id for lease in expiry.take_due(100.0, 3)] == [0, 1, 2]
    assert [lease.id for lease in expiry.take_due(100.0, 3)] == [3, 4]


def test_d24_a_promotion_gives_what_the_checkpoint_left_and_the_election_timeout() -> None:
    full, checkpointed = Lease(1, 600), Lease(2, 600, 200)
    expiry = promoted([full, checkpointed], now=50.0, extend=1.0)
    assert (expiry.deadline(full), expiry.deadline(checkpointed)) == (651.0, 251.0)
    assert expiry.take_due(250.9, 9) == []
    assert expiry.take_due(251.0, 9) == [checkpointed]
    expiry.demote()
    expiry.promote([full, checkpointed], 1000.0, 1.0)  # before `step`: nothing is due, and every lease has a deadline
    assert (expiry.deadline(full), expiry.deadline(checkpointed)) == (1601.0, 1201.0)
    assert not expiry.is_expired(checkpointed, 1200.0)


def test_a_lease_renewed_or_revoked_during_a_promotion_keeps_that() -> None:
    renewed, gone, other = Lease(1, 5), Lease(2, 5), Lease(3, 5)
    expiry = Expiry()
    expiry.promote([renewed, gone, other], 0.0, 1.0)
    expiry.renew(renewed, 4.0)
    gone.is_gone = True
    expiry.revoked(gone)
    while expiry._unsorted or expiry._lefts:
        expiry.step()
    assert expiry.take_due(6.0, 9) == [other]
    assert expiry.take_due(9.0, 9) == [renewed]


def test_many_leases_are_spread_and_none_is_early() -> None:
    leases = [Lease(number, 10) for number in range(3000)]
    expiry = promoted(leases, now=0.0, extend=1.0)
    deadlines = sorted(lease.expires_at for lease in leases)
    assert deadlines[0] == 11.0
    for earlier, later in zip(deadlines, deadlines[int(SPREAD_PER_SECOND) :], strict=False):
        assert later - earlier > 0.99
    assert len(expiry.take_due(11.0 + 1.0, 5000)) <= SPREAD_PER_SECOND + 1


def test_a_step_of_a_promotion_is_bounded() -> None:
    leases = [Lease(number, 10) for number in range(SORT_LEASES + 1)]
    expiry = Expiry()
    expiry.promote(leases, 0.0, 1.0)
    assert expiry.step() == []
    assert expiry.step() == []
    placed = [len(expiry.step()) for _ in range(6)]
    assert placed == [PLACE_LEASES] * 4 + [1, 0]
