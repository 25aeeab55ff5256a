"""The code under test: seats that are sold at most once, with the synchronous client."""

from __future__ import annotations

import tercet


class SoldOut(Exception):
    """No seat is left."""


class Inventory:
    """The seats of one show."""

    def __init__(self, client: tercet.Client, show: str) -> None:
        self._client = client.namespace(f"shows/{show}/")

    def open(self, seats: int) -> None:
        """Offer seats 1 to `seats`."""
        for seat in range(1, seats + 1):
            self._client.put(f"free/{seat:04}", "")

    def sell(self, customer: str) -> int:
        """Sell the first free seat. Raises SoldOut."""
        client = self._client
        while True:
            free = client.get_prefix("free/", limit=1)
            if not free:
                raise SoldOut
            seat = free[0].key.removeprefix(b"free/")
            sold = client.txn(
                when=[client.mod_revision(b"free/" + seat) == free[0].mod_revision],
                then=[client.delete_op(b"free/" + seat), client.put_op(b"sold/" + seat, customer)],
            )
            if sold:
                return int(seat)

    def customers(self) -> dict[int, str]:
        return {int(kv.key.removeprefix(b"sold/")): kv.text() for kv in self._client.get_prefix("sold/")}
