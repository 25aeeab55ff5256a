"""Durations of requests by operation, as histograms for the metrics: a few list operations per request, no labels, no objects.

    durations = Durations(APPLY_BOUNDS)
    durations.observe("put", True, 0.00003)
    durations.histograms()     # [("put", True, [1, 0, 0, ...], 0.00003)]

Never part of the replicated state.
Source: etcd server/etcdserver/txn/metrics.go, server/etcdserver/metrics.go (the bounds).
"""

from __future__ import annotations

from typing import Final

APPLY_BOUNDS: Final = tuple(0.0001 * 2**power for power in range(20))
REQUEST_BOUNDS: Final = tuple(0.001 * 2**power for power in range(14))


class _Histogram:
    __slots__ = ("counts", "sum")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * buckets
        self.sum = 0.0


class Durations:
    """Histograms by operation and success.

    bounds: upper bounds of the buckets in seconds, each twice the one before, without the last, +Inf.
    """

    __slots__ = ("_buckets", "_failed", "_shortest", "_succeeded")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._buckets = len(bounds) + 1
        self._shortest = bounds[0]
        self._succeeded: dict[str, _Histogram] = {}
        self._failed: dict[str, _Histogram] = {}

    def observe(self, operation: str, is_success: bool, seconds: float, weight: int = 1) -> None:
        """Count one duration, `weight` times where it stands for as many that were not measured."""
        histograms = self._succeeded if is_success else self._failed
        found = histograms.get(operation)
        if found is None:
            found = histograms[operation] = _Histogram(self._buckets)
        bucket, last, bound = 0, self._buckets - 1, self._shortest
        while seconds > bound and bucket < last:  # doubling is exact; compiled, a step takes a few instructions
            bucket += 1
            bound += bound
        found.counts[bucket] += weight
        found.sum += seconds * weight

    def histograms(self) -> list[tuple[str, bool, list[int], float]]:
        """(operation, success, counts by bucket, sum of seconds). Counts are not cumulative; the lists are live."""
        return [
            (operation, is_success, one.counts, one.sum)
            for is_success, histograms in ((True, self._succeeded), (False, self._failed))
            for operation, one in histograms.items()
        ]
