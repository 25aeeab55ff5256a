"""Tests against a real server in the test process: it starts in milliseconds and needs no port, container or binary."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from inventory import Inventory, SoldOut

import tercet


@pytest.fixture(scope="session")
def server() -> Iterator[object]:
    with tercet.Server.start_in_thread() as started:
        yield started


@pytest.fixture
def client(server: object) -> Iterator[tercet.Client]:
    server.reset()  # type: ignore[attr-defined]
    with tercet.Client(server.endpoint) as made:  # type: ignore[attr-defined]
        yield made


@pytest.fixture
def inventory(client: tercet.Client) -> Inventory:
    made = Inventory(client, "hamlet")
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
