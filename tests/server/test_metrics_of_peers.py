"""The buckets that peers count round trips in are those that the page says."""

from __future__ import annotations

from tercet.peer.status import ROUND_TRIP_BOUNDS
from tercet.server.metrics.table import METRICS


def test_the_bounds_of_round_trips_are_those_of_the_metric() -> None:
    assert METRICS["etcd_network_peer_round_trip_time_seconds"].bounds == ROUND_TRIP_BOUNDS
