"""The metrics that come from outside the member's core: its process, its gRPC servers, its health checks, its versions."""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, ProcessCollector

from tercet import __version__
from tercet.errors import Code
from tercet.http import HealthCounters
from tercet.rpc import Method, Server
from tercet.server.feature_gates import GATES
from tercet.server.metrics import Buckets, Labels, Metrics
from tercet.version import ETCD_VERSION

_CODES = {
    code: "OK" if code is Code.OK else "Canceled" if code is Code.CANCELLED else code.name.title().replace("_", "")
    for code in Code
}
"""grpc_code as grpc-go writes it: InvalidArgument."""


def register_process(metrics: Metrics) -> None:
    process = ProcessCollector(registry=CollectorRegistry(auto_describe=False))

    def sample(name: str) -> float:
        """One of the process's numbers; prometheus-client reads them all together, which is cheap."""
        return next((s.value for family in process.collect() for s in family.samples if s.name == name), 0.0)

    for name in (
        "process_cpu_seconds_total",
        "process_max_fds",
        "process_open_fds",
        "process_resident_memory_bytes",
        "process_start_time_seconds",
        "process_virtual_memory_bytes",
    ):
        metrics.read(name, lambda name=name: sample(name))  # type: ignore[misc]
    metrics.read("os_fd_used", lambda: len(os.listdir("/proc/self/fd")) - 1)  # one is the listing's own
    metrics.read("os_fd_limit", lambda: resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def register_versions(metrics: Metrics, gates: Mapping[str, bool]) -> None:
    metrics.show("etcd_server_version", ETCD_VERSION)
    metrics.show("etcd_server_go_version", f"python{platform.python_version()}")
    metrics.show("tercet_version", __version__)
    features: dict[Labels, int] = {(gate.name, gate.stage): int(gates[gate.name]) for gate in GATES}
    metrics.read_labelled("etcd_server_feature_enabled", lambda: features)


def register_health(metrics: Metrics, counters: HealthCounters) -> None:
    metrics.read("etcd_server_health_success", lambda: counters.successes)
    metrics.read("etcd_server_health_failures", lambda: counters.failures)
    metrics.read_labelled("etcd_server_healthcheck", lambda: counters.state)
    metrics.read_labelled("etcd_server_healthchecks_total", lambda: counters.checks)


def register_grpc(metrics: Metrics, servers: Sequence[Server], *, timed: bool) -> None:
    """Calls and bytes of all client listeners together. timed: --metrics=extensive."""

    def methods() -> Iterator[Method]:
        for server in servers:
            yield from server.methods.values()

    metrics.read_labelled("grpc_server_started_total", lambda: _sums((_method(m), m.started) for m in methods()))
    metrics.read_labelled("grpc_server_msg_received_total", lambda: _sums((_method(m), m.messages_received) for m in methods()))
    metrics.read_labelled("grpc_server_msg_sent_total", lambda: _sums((_method(m), m.messages_sent) for m in methods()))
    metrics.read_labelled(
        "grpc_server_handled_total",
        lambda: _sums(((*_method(m), _CODES[code]), m.handled[code]) for m in methods() for code in Code),
    )
    metrics.read("etcd_network_client_grpc_received_bytes_total", lambda: sum(server.traffic.bytes_in for server in servers))
    metrics.read("etcd_network_client_grpc_sent_bytes_total", lambda: sum(server.traffic.bytes_out for server in servers))
    if timed:
        metrics.read_buckets("grpc_server_handling_seconds", lambda: _durations(methods()))


def _method(method: Method) -> Labels:
    return method.kind.value, method.service, method.name


def _sums(counts: Iterable[tuple[Labels, int]]) -> dict[Labels, int]:
    sums: dict[Labels, int] = {}
    for labels, count in counts:
        sums[labels] = sums.get(labels, 0) + count
    return sums


def _durations(methods: Iterable[Method]) -> list[Buckets]:
    """Methods that have been called, as a label vector shows nothing before its first use."""
    sums: dict[Labels, tuple[list[int], float]] = {}
    for method in methods:
        counts = method.duration_counts
        if counts is None or not any(counts):
            continue
        labels = _method(method)
        before, total = sums.get(labels, ([0] * len(counts), 0.0))
        sums[labels] = [one + other for one, other in zip(before, counts, strict=True)], total + method.duration_sum
    return [(labels, counts, total) for labels, (counts, total) in sums.items()]
