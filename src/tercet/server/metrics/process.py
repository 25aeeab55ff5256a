"""Metrics of the process, the versions and the health checks."""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Mapping

from prometheus_client import CollectorRegistry, ProcessCollector

from tercet import __version__
from tercet.config.feature_gates import GATES, active_gates
from tercet.http import HealthCounters
from tercet.server.metrics.families import Labels
from tercet.server.metrics.registry import Metrics
from tercet.version import ETCD_VERSION


def register_process(metrics: Metrics) -> None:
    process = ProcessCollector(registry=CollectorRegistry(auto_describe=False))

    def sample(name: str) -> float:
        """One value; prometheus-client reads all of them each time, which is cheap."""
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
    metrics.read("os_fd_used", lambda: len(os.listdir("/proc/self/fd")) - 1)  # listdir itself holds one
    metrics.read("os_fd_limit", lambda: resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def register_versions(metrics: Metrics, gates: Mapping[str, bool]) -> None:
    metrics.show("etcd_server_version", ETCD_VERSION)
    metrics.show("etcd_server_go_version", f"python{platform.python_version()}")
    metrics.show("tercet_version", __version__)
    active = active_gates(gates)
    features: dict[Labels, int] = {(gate.name, gate.stage): int(active[gate.name]) for gate in GATES}
    metrics.read_labelled("etcd_server_feature_enabled", lambda: features)


def register_health(metrics: Metrics, counters: HealthCounters) -> None:
    metrics.read("etcd_server_health_success", lambda: counters.successes)
    metrics.read("etcd_server_health_failures", lambda: counters.failures)
    metrics.read_labelled("etcd_server_healthcheck", lambda: counters.state)
    metrics.read_labelled("etcd_server_healthchecks_total", lambda: counters.checks)
