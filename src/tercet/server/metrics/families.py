"""Histograms, and families: a metric with the values just read."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from tercet.server.metrics.table import Metric

Labels = tuple[str, ...]
Buckets = tuple[Labels, Sequence[int], float]
"""(labels, counts by bucket, sum of the values). Counts are not cumulative; the last is of values above all bounds."""


class Histogram:
    """`observe` takes about 0.2 us."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        return sum(self.counts)


class Histograms:
    """A histogram per combination of labels."""

    __slots__ = ("_bounds", "_by_labels")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._by_labels: dict[Labels, Histogram] = {}

    def of(self, *labels: str) -> Histogram:
        """The histogram of these labels, created on first use; hot paths keep the object."""
        found = self._by_labels.get(labels)
        if found is None:
            found = self._by_labels[labels] = Histogram(self._bounds)
        return found

    def buckets(self) -> Iterator[Buckets]:
        for labels, histogram in self._by_labels.items():
            yield labels, histogram.counts, histogram.sum


class Family(NamedTuple):
    """A metric with the values just read: of a counter or gauge, or buckets of a histogram."""

    metric: Metric
    values: Mapping[Labels, float]
    buckets: Sequence[Buckets] = ()


def cumulative(counts: Iterable[int]) -> Iterator[int]:
    total = 0
    for count in counts:
        total += count
        yield total
