"""Six minutes of `make soak-clients`, which fails if a client was promised something that did not hold."""

from __future__ import annotations

from tests.client import soak


def test_clients_lose_nothing_while_members_fail() -> None:
    state = soak.run(hours=0.1, seed=1)
    assert state.locks.holdings
    assert state.leases
    assert state.watched >= state.added > 0
