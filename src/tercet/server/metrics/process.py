"""Metrics of the process, the versions and the health checks."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial

from tercet import __version__
from tercet.config.feature_gates import GATES, active_gates
from tercet.http import HealthCounters
from tercet.server.metrics.families import Labels
from tercet.server.metrics.procfs import read_process
from tercet.server.metrics.registry import Metrics
from tercet.version import ETCD_VERSION


def register_process(metrics: Metrics) -> None:
    for name in read_process():
        metrics.read(name, partial(_process_value, name))
    metrics.read("promhttp_metric_handler_requests_in_flight", lambda: 1)  # the scrape that reads it
    metrics.read("os_fd_used", partial(_process_value, "process_open_fds"))
    metrics.read("os_fd_limit", partial(_process_value, "process_max_fds"))


def _process_value(name: str) -> float:
    return read_process().get(name, 0.0)


def register_versions(metrics: Metrics, gates: Mapping[str, bool]) -> None:
    metrics.show("etcd_server_version", ETCD_VERSION)
    runtime = "python" + ".".join(map(str, sys.version_info[:3]))
    metrics.show("etcd_server_go_version", runtime)
    metrics.show("go_info", runtime)
    metrics.read("go_sched_gomaxprocs_threads", lambda: 1)
    metrics.show("tercet_version", __version__)
    active = active_gates(gates)
    features: dict[Labels, int] = {(gate.name, gate.stage): int(active[gate.name]) for gate in GATES}
    metrics.read_labelled("etcd_server_feature_enabled", lambda: features)


def register_health(metrics: Metrics, counters: HealthCounters) -> None:
    metrics.read("etcd_server_health_success", lambda: counters.successes)
    metrics.read("etcd_server_health_failures", lambda: counters.failures)
    metrics.read_labelled("etcd_server_healthcheck", lambda: counters.state)
    metrics.read_labelled("etcd_server_healthchecks_total", lambda: counters.checks)
