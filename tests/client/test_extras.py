"""A client's events as metrics and spans, read with the real libraries."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

import tercet
from tercet import AsyncClient
from tercet.client import methods
from tercet.client.otel import OpenTelemetrySpans
from tercet.client.prometheus import PrometheusMetrics
from tercet.errors import Code
from tercet.proto import rpc_pb2
from tercet.rpc import UnaryCall
from tests.client.member import member, run

RANGE, PUT = methods.RANGE.path, methods.PUT.path


def found(call: UnaryCall, _: bytes) -> None:
    call.reply(rpc_pb2.RangeResponse(count=1).SerializeToString())


def refuse(call: UnaryCall, _: bytes) -> None:
    call.fail(Code.PERMISSION_DENIED, "etcdserver: permission denied")


async def use(hook: Callable[[str, dict[str, object]], object]) -> str:
    """Two reads, and a put that is refused. Returns the endpoint."""
    async with member({RANGE: found, PUT: refuse}) as up, AsyncClient(up.endpoint, on_event=hook) as client:
        await client.count("a")
        await client.count("a")
        with pytest.raises(tercet.PermissionDenied):
            await client.put("a", "1")
        return up.endpoint


def test_prometheus_counts_calls_by_method_and_status() -> None:
    library = pytest.importorskip("prometheus_client", reason="needs prometheus-client")
    registry = library.CollectorRegistry()
    endpoint = run(use(PrometheusMetrics(registry)))

    def value(name: str, **labels: str) -> float | None:
        found: float | None = registry.get_sample_value(name, labels)
        return found

    assert value("tercet_client_calls_total", method=RANGE, code="OK") == 2
    assert value("tercet_client_calls_total", method=PUT, code="PERMISSION_DENIED") == 1
    assert value("tercet_client_call_duration_seconds_count", method=RANGE) == 2
    assert value("tercet_client_connections_total", endpoint=endpoint, code="OK") == 1


def test_opentelemetry_gets_a_span_of_each_call_below_the_current_one() -> None:
    sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="needs opentelemetry-sdk")
    export: Any = pytest.importorskip("opentelemetry.sdk.trace.export")
    memory: Any = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    provider, exporter = sdk.TracerProvider(), memory.InMemorySpanExporter()
    provider.add_span_processor(export.SimpleSpanProcessor(exporter))

    async def test() -> None:
        with provider.get_tracer("test").start_as_current_span("outer"):
            await use(OpenTelemetrySpans(provider))

    run(test())
    spans = exporter.get_finished_spans()
    assert [span.name for span in spans] == ["etcd connect", "etcd Range", "etcd Range", "etcd Put", "outer"]
    outer = spans[-1]
    assert all(span.parent.span_id == outer.context.span_id for span in spans[:-1])
    assert all(outer.start_time <= span.start_time <= span.end_time <= outer.end_time for span in spans[:-1])
    put = spans[-2]
    assert put.attributes["db.system.name"] == "etcd"
    assert put.attributes["error.type"] == "PERMISSION_DENIED"
    assert not put.status.is_ok
    assert not any("error.type" in span.attributes for span in spans[:3])


@pytest.mark.parametrize(
    ("module", "make", "text"),
    [
        ("prometheus_client", PrometheusMetrics, r"prometheus-client is not installed: .*\[prometheus\]"),
        ("opentelemetry", OpenTelemetrySpans, r"opentelemetry-api is not installed: .*\[otel\]"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(
    module: str, make: Callable[[], object], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(tercet.ConfigurationError, match=text):
        make()
