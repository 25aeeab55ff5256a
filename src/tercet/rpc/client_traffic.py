"""What the clients of a server send and receive, by address.

Connections from one address share a count. At most COUNTED_MAX addresses are told apart: when another one connects, those
without a connection are added to OTHERS, except the busiest; if all have connections, the new one is counted there.
"""

from __future__ import annotations

from heapq import nlargest
from typing import Final

SHOWN_MAX: Final = 100
COUNTED_MAX: Final = 1000
OTHERS: Final = "other"


class TrafficCount:
    """Calls, and bytes to and from the transport, below TLS. connections: that are open."""

    __slots__ = ("bytes_in", "bytes_out", "calls", "connections")

    def __init__(self) -> None:
        self.bytes_in = 0
        self.bytes_out = 0
        self.calls = 0
        self.connections = 0

    def add(self, other: TrafficCount) -> None:
        """Add calls and bytes."""
        self.bytes_in += other.bytes_in
        self.bytes_out += other.bytes_out
        self.calls += other.calls


class ClientTraffic:
    """The counts of one server."""

    def __init__(self) -> None:
        self._counts: dict[str, TrafficCount] = {}
        self._others = TrafficCount()

    def connected(self, peername: object) -> TrafficCount:
        """The count of a new connection. peername: of its socket."""
        address = str(peername[0]) if isinstance(peername, tuple) else "unix"
        count = self._counts.get(address)
        if count is None:
            count = self._new(address)
        count.connections += 1
        return count

    def busiest(self) -> dict[str, TrafficCount]:
        """The SHOWN_MAX addresses with most calls, and the sum of all others as OTHERS."""
        shown = dict(nlargest(SHOWN_MAX, self._counts.items(), key=_calls))
        rest = TrafficCount()
        rest.add(self._others)
        for address, count in self._counts.items():
            if address not in shown:
                rest.add(count)
        if rest.calls or rest.bytes_in:
            shown[OTHERS] = rest
        return shown

    def total(self) -> TrafficCount:
        total = TrafficCount()
        total.add(self._others)
        for count in self._counts.values():
            total.add(count)
        return total

    def _new(self, address: str) -> TrafficCount:
        if len(self._counts) >= COUNTED_MAX:
            self._forget_idle()
        if len(self._counts) >= COUNTED_MAX:
            return self._others
        count = self._counts[address] = TrafficCount()
        return count

    def _forget_idle(self) -> None:
        kept = dict(nlargest(SHOWN_MAX, self._counts.items(), key=_calls))
        for address, count in self._counts.items():
            if count.connections > 0:
                kept[address] = count
            elif address not in kept:
                self._others.add(count)
        self._counts = kept


def _calls(item: tuple[str, TrafficCount]) -> int:
    return item[1].calls
