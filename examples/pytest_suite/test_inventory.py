"""Tests with the fixtures of tercet's pytest plugin.

pytest                                  a server in the test process: it starts in milliseconds, without container or binary
pytest --tercet-bin=/usr/bin/etcd       the same tests on a real etcd
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from inventory import Inventory, SoldOut

import tercet


@pytest.fixture
def inventory(tercet_client: tercet.Client) -> Inventory:
    made = Inventory(tercet_client, "hamlet")
    made.open(3)
    return made


def test_seats_are_sold_in_order(inventory: Inventory) -> None:
    assert [inventory.sell("ada"), inventory.sell("bob")] == [1, 2]
    assert inventory.customers() == {1: "ada", 2: "bob"}


def test_no_seat_is_sold_twice(inventory: Inventory) -> None:
    with ThreadPoolExecutor(8) as threads:
        outcomes = [threads.submit(inventory.sell, f"customer {number}") for number in range(5)]
    sold = [one.result() for one in outcomes if one.exception() is None]
    assert sorted(sold) == [1, 2, 3]
    assert [type(one.exception()) for one in outcomes if one.exception()] == [SoldOut, SoldOut]
