"""Buckets that peers count and the metrics table must agree."""

from __future__ import annotations

from tercet.peer.status import ROUND_TRIP_BOUNDS
from tercet.server.metrics.table import METRICS


def test_round_trip_bounds_equal_those_of_the_metric() -> None:
    assert METRICS["etcd_network_peer_round_trip_time_seconds"].bounds == ROUND_TRIP_BOUNDS
