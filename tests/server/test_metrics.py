"""Metrics and their exposition."""

from __future__ import annotations

import asyncio
import gc
import gzip
import platform
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.parser import text_string_to_metric_families

from tercet.config.feature_gates import resolve_gates
from tercet.http import HealthCounters
from tercet.rpc import Server, ServerOptions, unary
from tercet.server.metrics.event_loop import EventLoopMonitor
from tercet.server.metrics.exposition import exposition, go_float, text
from tercet.server.metrics.member import MemberMetrics
from tercet.server.metrics.process import register_health, register_process, register_versions
from tercet.server.metrics.procfs import read_process
from tercet.server.metrics.prometheus import registry_of
from tercet.server.metrics.registry import Metrics
from tercet.server.metrics.table import METRICS
from tests.config.configured import config
from tests.support.waiting import scaled


def page(metrics: Metrics) -> str:
    return text(metrics.families())


def test_counters_and_gauges_keep_etcds_names_and_types() -> None:
    metrics = Metrics()
    metrics.read("etcd_server_health_success", lambda: 3)
    metrics.read("etcd_server_proposals_committed_total", lambda: 2_000_000)
    assert page(metrics) == (
        "# HELP etcd_server_health_success Successful /health checks.\n"
        "# TYPE etcd_server_health_success counter\n"
        "etcd_server_health_success 3\n"
        "# HELP etcd_server_proposals_committed_total Index of the last committed entry.\n"
        "# TYPE etcd_server_proposals_committed_total gauge\n"
        "etcd_server_proposals_committed_total 2e+06\n"
    )


def test_histograms_are_cumulative() -> None:
    metrics = Metrics()
    fsync = metrics.histogram("etcd_disk_wal_fsync_duration_seconds")
    for seconds in (0.0005, 0.001, 0.0011, 5.0, 100.0):
        fsync.observe(seconds)
    lines = page(metrics).splitlines()[2:]
    assert lines[:2] == [
        'etcd_disk_wal_fsync_duration_seconds_bucket{le="0.001"} 2',
        'etcd_disk_wal_fsync_duration_seconds_bucket{le="0.002"} 3',
    ]
    assert lines[13:] == [
        'etcd_disk_wal_fsync_duration_seconds_bucket{le="8.192"} 4',
        'etcd_disk_wal_fsync_duration_seconds_bucket{le="+Inf"} 5',
        "etcd_disk_wal_fsync_duration_seconds_sum 105.0026",
        "etcd_disk_wal_fsync_duration_seconds_count 5",
    ]
    assert fsync.count == 5


def test_labels_are_sorted_and_quoted() -> None:
    metrics = Metrics()
    metrics.counts("grpc_server_started_total")["unary", 'a"b\\c\nd', "Put"] = 1
    assert page(metrics).splitlines()[2] == (
        'grpc_server_started_total{grpc_method="Put",grpc_service="a\\"b\\\\c\\nd",grpc_type="unary"} 1'
    )


def test_labelled_histograms_appear_when_first_used() -> None:
    metrics = Metrics()
    trips = metrics.histograms("etcd_network_peer_round_trip_time_seconds")
    assert page(metrics) == ""
    trips.of("b").observe(0.1)
    trips.of("a").observe(0.00015)
    assert trips.of("a") is trips.of("a")
    found = page(metrics)
    assert 'etcd_network_peer_round_trip_time_seconds_bucket{To="a",le="0.0002"} 1' in found
    assert found.index('{To="a"') < found.index('{To="b"')


def test_only_metrics_of_the_table_can_be_registered() -> None:
    metrics = Metrics()
    with pytest.raises(KeyError):
        metrics.read("etcd_typo", lambda: 0)
    with pytest.raises(KeyError):
        metrics.read("etcd_disk_wal_fsync_duration_seconds", lambda: 0)
    with pytest.raises(KeyError):
        metrics.histogram("etcd_server_has_leader")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (True, "1"),
        (20480, "20480"),
        (999_999, "999999"),
        (1_000_000, "1e+06"),
        (1_048_576, "1.048576e+06"),
        (-2.5e9, "-2.5e+09"),
        (0.1, "0.1"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (1.25e-7, "1.25e-07"),
        (1e21, "1e+21"),
        (1795425007.25, "1.79542500725e+09"),
        (float("inf"), "+Inf"),
        (float("-inf"), "-Inf"),
        (float("nan"), "NaN"),
    ],
)
def test_numbers_as_go_writes_them(value: float, shown: str) -> None:
    assert go_float(value) == shown


@given(st.floats(allow_nan=False))
def test_numbers_round_trip(value: float) -> None:
    assert float(go_float(value)) == value


@pytest.mark.parametrize("packed", [True, False])
def test_a_page_is_compressed_on_request(packed: bool) -> None:
    metrics = Metrics()
    metrics.read("etcd_server_has_leader", lambda: 1)
    kind, encoding, body = exposition(metrics.families(), is_compressed=packed)
    assert kind == b"text/plain; version=0.0.4; charset=utf-8"
    assert encoding == (b"gzip" if packed else b"")
    assert (gzip.decompress(body) if packed else body).endswith(b"etcd_server_has_leader 1\n")


async def everything() -> Metrics:
    metrics = Metrics()
    server = Server({"/etcdserverpb.KV/Put": unary(lambda call, message: None)}, options=ServerOptions(measure_durations=True))
    method = server.methods[b"/etcdserverpb.KV/Put"]
    method.started, method.handled[0], method.handled[14] = 3, 1, 1
    method.observe(0.3)
    metrics.watch_rpc(server)
    metrics.watch_rpc(Server({"/etcdserverpb.KV/Put": unary(lambda call, message: None)}))
    register_process(metrics)
    register_versions(metrics, resolve_gates({}))
    register_health(metrics, HealthCounters())
    metrics.histogram("etcd_disk_wal_fsync_duration_seconds").observe(0.004)
    return metrics


def test_prometheus_client_parses_the_page() -> None:
    metrics = asyncio.run(everything())
    families = {family.name: family for family in text_string_to_metric_families(page(metrics))}
    handled = {
        sample.labels["grpc_code"]: sample.value
        for sample in families["grpc_server_handled"].samples
        if sample.labels["grpc_method"] == "Put"
    }
    assert (handled["OK"], handled["Unavailable"], handled["InvalidArgument"], len(handled)) == (1, 1, 0, 17)
    assert families["process_resident_memory_bytes"].samples[0].value > 1e6
    assert families["etcd_server_version"].samples[0].labels == {"server_version": "3.7.3"}
    assert families["grpc_server_handling_seconds"].type == "histogram"
    assert families["os_fd_used"].samples[0].value > 2


def test_a_prometheus_registry_has_the_same_values() -> None:
    metrics = asyncio.run(everything())
    registry = registry_of(metrics)
    assert registry.get_sample_value("etcd_disk_wal_fsync_duration_seconds_bucket", {"le": "0.004"}) == 1
    labels = {"grpc_type": "unary", "grpc_service": "etcdserverpb.KV", "grpc_method": "Put"}
    assert registry.get_sample_value("grpc_server_started_total", labels) == 3


def test_a_gate_without_effect_is_reported_as_off() -> None:
    metrics = Metrics()
    register_versions(metrics, resolve_gates({"TxnModeWriteWithSharedBuffer": True}))
    assert 'etcd_server_feature_enabled{name="TxnModeWriteWithSharedBuffer",stage="BETA"} 0' in page(metrics)


def test_scrapes_are_counted() -> None:
    metrics = Metrics()
    assert metrics.scrape(False)[2] == b""
    assert b'promhttp_metric_handler_requests_total{code="200"} 1' in metrics.scrape(False)[2]


def test_a_long_turn_of_the_loop_is_measured() -> None:
    """Its waits too; the histogram of processor time leaves them out."""
    turns, processor = (Metrics().histogram(f"tercet_loop_turn_{name}seconds") for name in ("", "processor_"))

    async def scenario() -> float:
        watch = EventLoopMonitor(turns, processor)
        watch.start()
        await asyncio.sleep(0.03)
        time.sleep(0.1)
        await asyncio.sleep(0.02)
        watch.stop()
        return watch.longest_seconds

    assert 0.08 < asyncio.run(scenario()) < scaled(5)
    assert turns.count == processor.count
    assert processor.sum <= turns.sum - 0.04


def test_a_quiet_loop_is_looked_at_less_often_and_its_first_long_turn_is_whole() -> None:
    turns, processor = (Metrics().histogram(f"tercet_loop_turn_{name}seconds") for name in ("", "processor_"))

    async def scenario() -> None:
        watch = EventLoopMonitor(turns, processor)
        quiet, busy = 0.0001, 0.003
        for _ in range(100):
            assert watch._period == 0.01
            assert watch._judge(quiet, quiet) == quiet
        assert watch._period == 0.05
        assert watch._judge(0.001, 0.004) == 0.001
        assert watch._period == 0.05, "a timer is late by itself, and a tenth of the time is little"
        assert watch._judge(0.07, 0.11) == 0.11, "it began 40 ms before the timer was due"
        assert watch._period == 0.01
        assert watch._judge(0.07, 0.11) == 0.07, "other turns may have used the rest"
        assert watch._judge(-0.001, busy) == 0
        for _ in range(100):
            watch._judge(quiet, quiet)
        assert watch._judge(0.3, 0.01) == 0.3, "it waited, and the processor time does not tell since when"
        for _ in range(100):
            watch._judge(0.01, quiet)
        assert watch._period == 0.05, "other processes had the processor"
        watch._judge(quiet, 0.006)
        for _ in range(99):
            watch._judge(quiet, quiet)
        watch._judge(quiet, busy)
        watch._judge(quiet, quiet)
        assert watch._period == 0.01

    asyncio.run(scenario())


def test_the_values_of_the_process_equal_those_of_prometheus_client() -> None:
    ours = read_process()
    collector = ProcessCollector(registry=CollectorRegistry(auto_describe=False))
    theirs = {sample.name: sample.value for family in collector.collect() for sample in family.samples}
    assert ours.keys() >= theirs.keys()
    assert ours["process_max_fds"] == theirs["process_max_fds"]
    assert ours["process_start_time_seconds"] == pytest.approx(theirs["process_start_time_seconds"], abs=1)
    assert ours["process_resident_memory_bytes"] == pytest.approx(theirs["process_resident_memory_bytes"], rel=0.2)


# Families of etcd 3.5 that 3.7 no longer shows.
NOT_OURS = {
    "etcd_debugging_store_reads_total",
    "etcd_debugging_store_writes_total",
    "go_memstats_gc_cpu_fraction",
    "go_memstats_lookups_total",
}


def test_every_family_of_a_running_etcd_is_there(etcd_page: str) -> None:
    theirs = {line.split()[2] for line in etcd_page.splitlines() if line.startswith("# TYPE ")}
    assert theirs - METRICS.keys() - NOT_OURS == set()


def test_a_metric_without_labels_and_source_is_zero() -> None:
    found = page(MemberMetrics(config()).metrics)
    assert "etcd_debugging_mvcc_watcher_total 0\n" in found
    assert "etcd_disk_backend_defrag_duration_seconds_count 0\n" in found


def test_the_runtimes_metrics_are_pythons_or_zero() -> None:
    async def shown() -> str:
        metrics = await everything()
        metrics.show_unregistered()
        monitor = EventLoopMonitor(*(metrics.histogram(f"tercet_loop_turn_{name}seconds") for name in ("", "processor_")))
        monitor.start()
        gc.collect()
        monitor.stop()
        collections = monitor.collections
        metrics.read_buckets("go_gc_duration_seconds", lambda: [((), collections.counts, collections.sum)])
        return page(metrics)

    families = {family.name: family for family in text_string_to_metric_families(asyncio.run(shown()))}
    assert families["go_info"].samples[0].labels == {"version": f"python{platform.python_version()}"}
    assert families["go_threads"].samples[0].value >= threading.active_count()
    assert families["go_memstats_heap_objects"].samples[0].value == 0
    collections = families["go_gc_duration_seconds"]
    assert collections.type == "summary"
    values = {sample.name: sample.value for sample in collections.samples}
    assert values.keys() == {"go_gc_duration_seconds_sum", "go_gc_duration_seconds_count"}
    assert values["go_gc_duration_seconds_count"] >= 1


def test_types_and_buckets_are_those_of_a_running_etcd(etcd_page: str) -> None:
    """Compares every metric that both have."""
    theirs = {family.name: family for family in text_string_to_metric_families(etcd_page)}
    compared = 0
    for name, metric in METRICS.items():
        family = theirs.get(name.removesuffix("_total") if metric.kind == "counter" else name)
        if family is None:
            continue
        compared += 1
        assert f"# TYPE {name} {metric.kind}\n" in etcd_page
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert labels == set(metric.labels) or not metric.labels
        if metric.kind == "histogram":
            bounds = {sample.labels["le"] for sample in family.samples if "le" in sample.labels}
            assert {float(bound) for bound in bounds} == {*metric.bounds, float("inf")}
    assert compared > 60


@pytest.fixture(scope="module")
def etcd_page(tmp_path_factory: pytest.TempPathFactory) -> str:
    from tests.http.fetch import fetch
    from tests.support.etcd import running_etcd

    directory: Path = tmp_path_factory.mktemp("etcd")
    with running_etcd(directory, "--metrics", "extensive") as etcd:
        return fetch(f"{etcd.client_url}/metrics").body.decode()
