"""Spans of a client for OpenTelemetry: the extra `tercet-client[otel]`.

client = tercet.AsyncClient(endpoints, on_event=OpenTelemetrySpans())

One span for each attempt of a call, for each connection and each login, below the span that is current where the call is made.
Attributes are those of the semantic conventions for databases (db.system.name is "etcd"). Keys and values are not recorded.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tercet.client.events import code_name
from tercet.client.extras import needs

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider


class OpenTelemetrySpans:
    """A hook for `on_event`."""

    def __init__(self, provider: TracerProvider | None = None) -> None:
        """provider: None for the global one. Raises ConfigurationError without the library."""
        with needs("opentelemetry-api", extra="otel"):
            from opentelemetry import trace
        self._trace: Any = trace
        self._tracer = trace.get_tracer("tercet.client", tracer_provider=provider)

    def __call__(self, name: str, info: dict[str, object]) -> None:
        what, _, phase = name.partition(".")
        if phase == "started":
            return
        now = time.time_ns()
        operation = str(info["method"]).rpartition("/")[2] if what == "call" else what
        attributes: dict[str, Any] = {
            "db.system.name": "etcd",
            "db.operation.name": operation,
            "server.address": info["endpoint"],
        }
        if info.get("attempt"):
            attributes["db.operation.attempt"] = info["attempt"]
        began = now - int(float(str(info["seconds"])) * 1e9)
        span = self._tracer.start_span(
            f"etcd {operation}", kind=self._trace.SpanKind.CLIENT, attributes=attributes, start_time=began
        )
        error = info.get("error")
        if error is not None:
            span.set_attribute("error.type", code_name(error))
            span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, str(error)))
        span.end(end_time=now)
