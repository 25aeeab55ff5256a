"""Counters of gRPC methods, summed over servers, with the labels of go-grpc-prometheus.

Every method has its series from the start, with 0, so that a rate includes the first call.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from tercet.errors import Code
from tercet.rpc import Method, Server
from tercet.server.metrics.families import Buckets, Labels

_CODES = {
    code: "OK" if code is Code.OK else "Canceled" if code is Code.CANCELLED else code.name.title().replace("_", "")
    for code in Code
}
"""grpc_code as written by grpc-go: InvalidArgument."""


def started(servers: Sequence[Server]) -> dict[Labels, int]:
    return _sums((_labels(method), method.started) for method in _methods(servers))


def by_client_version(servers: Sequence[Server]) -> dict[Labels, int]:
    """Calls over HTTP/2, by kind and version of the client."""
    return _sums((labels, count[0]) for server in servers for labels, count in server.calls_by_version.items())


def by_client(servers: Sequence[Server], count: str) -> dict[Labels, int]:
    """`calls`, `bytes_in` or `bytes_out` of the busiest client addresses."""
    return _sums(
        ((address,), getattr(traffic, count)) for server in servers for address, traffic in server.traffic.busiest().items()
    )


def handled(servers: Sequence[Server]) -> dict[Labels, int]:
    return _sums(
        ((*_labels(method), name), method.handled[code]) for method in _methods(servers) for code, name in _CODES.items()
    )


def received(servers: Sequence[Server]) -> dict[Labels, int]:
    return _sums((_labels(method), method.messages_received) for method in _methods(servers))


def sent(servers: Sequence[Server]) -> dict[Labels, int]:
    return _sums((_labels(method), method.messages_sent) for method in _methods(servers))


def durations(servers: Sequence[Server]) -> list[Buckets]:
    """Durations of methods that have been called, with --metrics=extensive."""
    sums: dict[Labels, tuple[list[int], float]] = {}
    for method in _methods(servers):
        counts = method.duration_counts
        if counts is None or not any(counts):
            continue
        labels = _labels(method)
        before, total = sums.get(labels, ([0] * len(counts), 0.0))
        sums[labels] = [one + other for one, other in zip(before, counts, strict=True)], total + method.duration_sum
    return [(labels, counts, total) for labels, (counts, total) in sums.items()]


def _methods(servers: Sequence[Server]) -> Iterator[Method]:
    for server in servers:
        yield from server.methods.values()


def _labels(method: Method) -> Labels:
    return method.kind.value, method.service, method.name


def _sums(counts: Iterable[tuple[Labels, int]]) -> dict[Labels, int]:
    sums: dict[Labels, int] = {}
    for labels, count in counts:
        sums[labels] = sums.get(labels, 0) + count
    return sums
