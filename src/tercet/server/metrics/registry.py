"""Registry of metric sources, read at each scrape.

On a hot path a counter is an integer attribute of the object that counts. A scrape reads each registered source once:

    metrics.read("etcd_server_has_leader", lambda: member.leader_id != 0)
    metrics.read_labelled("etcd_network_active_peers", lambda: {(local, remote): 1 for remote in ...})
    wal.fsync_seconds = metrics.histogram("etcd_disk_wal_fsync_duration_seconds")     # then wal calls .observe(seconds)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from tercet.http.scrape_pages import Page
from tercet.rpc import Server
from tercet.server.metrics import grpc as grpc_metrics
from tercet.server.metrics.exposition import exposition
from tercet.server.metrics.families import Buckets, Family, Histogram, Histograms, Labels
from tercet.server.metrics.table import METRICS, Metric

__all__ = ["Histogram", "Histograms", "Metrics"]


class Metrics:
    """The sources of one member. Every `read` and `histogram` raises KeyError for a name that is not in the table."""

    def __init__(self) -> None:
        self._values: dict[str, Callable[[], Mapping[Labels, float]]] = {}
        self._buckets: dict[str, Callable[[], Iterable[Buckets]]] = {}
        self._servers: list[Server] = []
        self._scrapes = self.counts("promhttp_metric_handler_requests_total")

    def read(self, name: str, source: Callable[[], float]) -> None:
        """A counter or gauge without labels; `source` is called at each scrape."""
        self.read_labelled(name, lambda: {(): source()})

    def read_labelled(self, name: str, source: Callable[[], Mapping[Labels, float]]) -> None:
        """A counter or gauge with labels: values by label values, in the order of the table."""
        self._expect(name, is_histogram=False)
        self._values[name] = source

    def show(self, name: str, *labels: str) -> None:
        """A gauge of 1 whose labels are the information, such as a version."""
        self.read_labelled(name, lambda: {labels: 1})

    def counts(self, name: str) -> dict[Labels, int]:
        """A counter with labels; the caller increments the values of the dict returned."""
        counts: dict[Labels, int] = {}
        self.read_labelled(name, lambda: counts)
        return counts

    def histogram(self, name: str) -> Histogram:
        """A histogram without labels; the caller observes values."""
        return self.histograms(name).of()

    def histograms(self, name: str) -> Histograms:
        histograms = Histograms(self._expect(name, is_histogram=True).bounds)
        self.read_buckets(name, histograms.buckets)
        return histograms

    def read_buckets(self, name: str, source: Callable[[], Iterable[Buckets]]) -> None:
        """A histogram counted elsewhere, with the bounds of the table."""
        self._expect(name, is_histogram=True)
        self._buckets[name] = source

    def show_unregistered(self) -> None:
        """Show every metric without labels, and without a source so far, as 0 or as an empty histogram."""
        self._scrapes.update({(code,): 0 for code in ("200", "500", "503")})
        for name, metric in METRICS.items():
            if metric.labels or name in self._values or name in self._buckets:
                continue
            if metric.is_counted:
                self.histogram(name)
            else:
                self.read(name, lambda: 0)

    def watch_rpc(self, server: Server) -> None:
        """Calls and bytes of a gRPC server; those of several servers are summed."""
        servers = self._servers
        servers.append(server)
        self.read_labelled("grpc_server_started_total", lambda: grpc_metrics.started(servers))
        self.read_labelled("etcd_server_client_requests_total", lambda: grpc_metrics.by_client_version(servers))
        self.read_labelled("grpc_server_handled_total", lambda: grpc_metrics.handled(servers))
        self.read_labelled("grpc_server_msg_received_total", lambda: grpc_metrics.received(servers))
        self.read_labelled("grpc_server_msg_sent_total", lambda: grpc_metrics.sent(servers))
        self.read_buckets("grpc_server_handling_seconds", lambda: grpc_metrics.durations(servers))
        self.read("etcd_network_client_grpc_received_bytes_total", lambda: sum(one.traffic.total().bytes_in for one in servers))
        self.read("etcd_network_client_grpc_sent_bytes_total", lambda: sum(one.traffic.total().bytes_out for one in servers))
        self.read_labelled("tercet_client_calls_total", lambda: grpc_metrics.by_client(servers, "calls"))
        self.read_labelled("tercet_client_received_bytes_total", lambda: grpc_metrics.by_client(servers, "bytes_in"))
        self.read_labelled("tercet_client_sent_bytes_total", lambda: grpc_metrics.by_client(servers, "bytes_out"))

    def _expect(self, name: str, *, is_histogram: bool) -> Metric:
        metric = METRICS[name]
        if metric.is_counted != is_histogram:
            raise KeyError(f"{name} is a {metric.kind}")
        return metric

    def families(self) -> Iterator[Family]:
        """All registered metrics with their current values, sorted by name."""
        for name in sorted(self._values.keys() | self._buckets.keys()):
            if name in self._values:
                yield Family(METRICS[name], dict(self._values[name]()))
            else:
                yield Family(METRICS[name], {}, list(self._buckets[name]()))

    def scrape(self, is_compressed: bool) -> Page:
        """/metrics at this moment."""
        page = exposition(self.families(), is_compressed=is_compressed)
        self._scrapes[("200",)] = self._scrapes.get(("200",), 0) + 1
        return page
