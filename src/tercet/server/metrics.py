"""Counters for others to count with, and the page that shows them.

On a hot path a counter is a plain integer attribute of whoever counts; nothing is done for metrics until somebody asks. Then
each registered source is read once:

    metrics.read("etcd_server_has_leader", lambda: member.leader_id != 0)
    metrics.read_labelled("etcd_network_active_peers", lambda: {(local, remote): 1 for remote in ...})
    wal.fsync_seconds = metrics.histogram("etcd_disk_wal_fsync_duration_seconds")     # then wal calls .observe(seconds)

`Metrics` is also a collector of prometheus-client, for programs that embed a member and have a registry of their own.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric as PrometheusMetric

from tercet.server.metric_table import METRICS, Metric

Labels = tuple[str, ...]
Buckets = tuple[Labels, Sequence[int], float]
"""Labels, counts by bucket (not cumulative, the last for what is above all bounds), sum of the values."""


class Histogram:
    """Values counted by size. `observe` takes about 0.2 us."""

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
    """One histogram for each combination of labels that has been seen."""

    __slots__ = ("_bounds", "_by_labels")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._by_labels: dict[Labels, Histogram] = {}

    def of(self, *labels: str) -> Histogram:
        """The same object for the same labels: ask once and keep it where that matters."""
        found = self._by_labels.get(labels)
        if found is None:
            found = self._by_labels[labels] = Histogram(self._bounds)
        return found

    def buckets(self) -> Iterator[Buckets]:
        for labels, histogram in self._by_labels.items():
            yield labels, histogram.counts, histogram.sum


@dataclass(frozen=True, slots=True)
class Family:
    """A metric and what was just read of it: values of a counter or gauge, or buckets of a histogram."""

    metric: Metric
    values: Mapping[Labels, float]
    buckets: Sequence[Buckets] = ()


class Metrics:
    """The sources of one member. Every `read` and `histogram` raises KeyError for a name that the table does not have."""

    def __init__(self) -> None:
        self._values: dict[str, Callable[[], Mapping[Labels, float]]] = {}
        self._buckets: dict[str, Callable[[], Iterable[Buckets]]] = {}

    def read(self, name: str, source: Callable[[], float]) -> None:
        """A counter or gauge without labels; `source` is called at each scrape."""
        self.read_labelled(name, lambda: {(): source()})

    def read_labelled(self, name: str, source: Callable[[], Mapping[Labels, float]]) -> None:
        """A counter or gauge with labels: values by labels, in the order of the table."""
        self._expect(name, is_histogram=False)
        self._values[name] = source

    def show(self, name: str, *labels: str) -> None:
        """A gauge that is always 1 and tells its labels, such as a version."""
        self.read_labelled(name, lambda: {labels: 1})

    def counts(self, name: str) -> dict[Labels, int]:
        """A counter with labels that is counted in the dict returned here."""
        counts: dict[Labels, int] = {}
        self.read_labelled(name, lambda: counts)
        return counts

    def histogram(self, name: str) -> Histogram:
        """A histogram without labels, to be observed by the caller."""
        return self.histograms(name).of()

    def histograms(self, name: str) -> Histograms:
        histograms = Histograms(self._expect(name, is_histogram=True).bounds)
        self.read_buckets(name, histograms.buckets)
        return histograms

    def read_buckets(self, name: str, source: Callable[[], Iterable[Buckets]]) -> None:
        """A histogram that somebody else counts, with the bounds of the table."""
        self._expect(name, is_histogram=True)
        self._buckets[name] = source

    def _expect(self, name: str, *, is_histogram: bool) -> Metric:
        metric = METRICS[name]
        if (metric.kind == "histogram") != is_histogram:
            raise KeyError(f"{name} is a {metric.kind}")
        return metric

    def families(self) -> Iterator[Family]:
        """All that is registered, read now, by name."""
        for name in sorted(self._values.keys() | self._buckets.keys()):
            if name in self._values:
                yield Family(METRICS[name], dict(self._values[name]()))
            else:
                yield Family(METRICS[name], {}, list(self._buckets[name]()))

    # For prometheus-client

    def collect(self) -> Iterator[PrometheusMetric]:
        for family in self.families():
            yield _as_prometheus(family)

    def registry(self) -> CollectorRegistry:
        """A registry with this collector alone."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return registry


def _as_prometheus(family: Family) -> PrometheusMetric:
    metric = family.metric
    shown = PrometheusMetric(metric.name, metric.help, metric.kind)
    if metric.kind == "counter":
        shown.name = metric.name.removesuffix("_total")
    for labels, value in family.values.items():
        shown.add_sample(metric.name, dict(zip(metric.labels, labels, strict=True)), value)
    for labels, counts, total in family.buckets:
        named = dict(zip(metric.labels, labels, strict=True))
        for bound, count in zip((*(str(bound) for bound in metric.bounds), "+Inf"), cumulative(counts), strict=True):
            shown.add_sample(f"{metric.name}_bucket", {**named, "le": bound}, count)
        shown.add_sample(f"{metric.name}_sum", named, total)
        shown.add_sample(f"{metric.name}_count", named, sum(counts))
    return shown


def cumulative(counts: Iterable[int]) -> Iterator[int]:
    total = 0
    for count in counts:
        total += count
        yield total
