"""Prometheus' text exposition format, with numbers formatted as by Go.

prometheus-client is not used because it appends `_total` to the names of counters: some of etcd's have no suffix
(etcd_server_health_success), and dashboards query them by name. As in etcd there is one format for every Accept header.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from tercet.http.scrape_pages import Page
from tercet.server.metrics.families import Family, Labels, cumulative
from tercet.server.metrics.table import Metric

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
_GZIP_LEVEL = 1  # compresses a scrape to a tenth, in a third of the time of level 6


def exposition(families: Iterable[Family], *, is_compressed: bool) -> Page:
    body = text(families).encode()
    if not is_compressed:
        return CONTENT_TYPE, b"", body
    import gzip  # with the first scrape that asks for it

    return CONTENT_TYPE, b"gzip", gzip.compress(body, _GZIP_LEVEL, mtime=0)


def text(families: Iterable[Family]) -> str:
    """Families without values are left out, as label vectors are before their first use."""
    return "".join(line for family in families for line in _lines(family))


def _lines(family: Family) -> Iterator[str]:
    if not family.values and not family.buckets:
        return
    metric = family.metric
    yield f"# HELP {metric.name} {_escaped(metric.help)}\n# TYPE {metric.name} {metric.kind}\n"
    if family.values:
        order = _label_order(metric)
        for labels, value in sorted(family.values.items()):
            yield f"{metric.name}{_labels(order, labels)} {go_float(value)}\n"
    for labels, counts, total in sorted(family.buckets, key=lambda bucket: bucket[0]):
        yield from _histogram(metric, labels, counts, total)


def _histogram(metric: Metric, labels: Labels, counts: Iterable[int], total: float) -> Iterator[str]:
    named = _labels(_label_order(metric), labels)[1:-1]
    head = f"{named}," if named else ""
    above = 0
    bounds = (*(go_float(bound) for bound in metric.bounds), "+Inf")
    for bound, above in zip(bounds, cumulative(counts), strict=True):
        if metric.kind == "histogram":
            yield f'{metric.name}_bucket{{{head}le="{bound}"}} {above}\n'
    tail = f"{{{named}}}" if named else ""
    yield f"{metric.name}_sum{tail} {go_float(total)}\n{metric.name}_count{tail} {above}\n"


def _label_order(metric: Metric) -> list[tuple[str, int]]:
    """(label, position in the values), sorted by label as by Go's client."""
    return sorted((name, place) for place, name in enumerate(metric.labels))


def _labels(order: list[tuple[str, int]], values: Labels) -> str:
    if not order:
        return ""
    return "{" + ",".join([f'{name}="{_quoted(values[place])}"' for name, place in order]) + "}"


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _escaped(help: str) -> str:
    return help.replace("\\", "\\\\").replace("\n", "\\n")


def go_float(value: float) -> str:
    """A number in the shortest form of Go's `%g`: 20480, 0.001, 1.048576e+06, 1e-05, +Inf."""
    if isinstance(value, int) and -1_000_000 < value < 1_000_000:
        return str(int(value))
    number = float(value)
    if not math.isfinite(number):
        return "NaN" if math.isnan(number) else "+Inf" if number > 0 else "-Inf"
    if number == 0:
        return "0"
    if 1e-4 <= abs(number) < 1e6:
        return repr(number).removesuffix(".0")
    digits, exponent = _shortest(abs(number))
    mantissa = digits[0] + ("." + digits[1:] if len(digits) > 1 else "")
    sign = "-" if number < 0 else ""
    return f"{sign}{mantissa}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"


def _shortest(number: float) -> tuple[str, int]:
    """(shortest digits, power of ten of the first). number: at least 1, or its repr has an exponent."""
    mantissa, _, power = repr(number).partition("e")
    integer, _, fraction = mantissa.partition(".")
    return (integer + fraction).rstrip("0"), int(power or 0) + len(integer) - 1
