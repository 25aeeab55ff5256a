"""A member's metrics as a prometheus-client collector, for programs that embed a member and have their own registry.

Apart from the registry because prometheus-client takes long to import.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric as PrometheusMetric

from tercet.server.metrics.families import Family, cumulative
from tercet.server.metrics.registry import Metrics


class Collector:
    """For `registry.register`."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[PrometheusMetric]:
        for family in self._metrics.families():
            yield _as_prometheus(family)


def registry_of(metrics: Metrics) -> CollectorRegistry:
    """A registry with these metrics only."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector(metrics))
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
            if metric.kind == "histogram":
                shown.add_sample(f"{metric.name}_bucket", {**named, "le": bound}, count)
        shown.add_sample(f"{metric.name}_sum", named, total)
        shown.add_sample(f"{metric.name}_count", named, sum(counts))
    return shown
