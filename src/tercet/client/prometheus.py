"""Metrics of a client for Prometheus: the extra `tercet-client[prometheus]`.

client = tercet.AsyncClient(endpoints, on_event=PrometheusMetrics())

    tercet_client_calls_total{method, code}          attempts of calls, by gRPC status
    tercet_client_call_duration_seconds{method}      how long they took
    tercet_client_connections_total{endpoint, code}  connection attempts
    tercet_client_logins_total{code}

Clients that share a registry share one PrometheusMetrics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tercet.client.events import code_name
from tercet.client.extras import needs

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


class PrometheusMetrics:
    """A hook for `on_event`."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """registry: None for the library's own. Raises ConfigurationError without the library."""
        with needs("prometheus-client", extra="prometheus"):
            from prometheus_client import REGISTRY, Counter, Histogram
        registry = REGISTRY if registry is None else registry
        self._calls = Counter(
            "tercet_client_calls", "Attempts of calls, by gRPC status.", ["method", "code"], registry=registry
        )
        self._seconds = Histogram(
            "tercet_client_call_duration_seconds", "Duration of attempts of calls.", ["method"], registry=registry
        )
        self._connections = Counter(
            "tercet_client_connections", "Connection attempts, by gRPC status.", ["endpoint", "code"], registry=registry
        )
        self._logins = Counter("tercet_client_logins", "Logins, by gRPC status.", ["code"], registry=registry)

    def __call__(self, name: str, info: dict[str, object]) -> None:
        what, _, phase = name.partition(".")
        if phase == "started":
            return
        code = code_name(info.get("error"))
        if what == "call":
            self._calls.labels(info["method"], code).inc()
            self._seconds.labels(info["method"]).observe(float(str(info["seconds"])))
        elif what == "connect":
            self._connections.labels(info["endpoint"], code).inc()
        elif what == "login":
            self._logins.labels(code).inc()
