"""The Grafana dashboard: one row of numbers, then rates, disks, traffic and Raft as graphs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from tercet.cli.metrics.alerts import SELECTOR

_SCHEMA_VERSION = 39  # of Grafana 10.4, which newer ones migrate
_WIDTH = 24  # of the grid
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


class _Graph(NamedTuple):
    """queries: (expression, legend)."""

    title: str
    unit: str
    queries: Sequence[tuple[str, str]]
    kind: str = "timeseries"
    width: int = 8
    height: int = 7


def _rate(metric: str, matchers: str = "", by: str = "instance") -> str:
    return f"sum by ({by}) (rate({metric}{{SELECTOR{matchers}}}[$__rate_interval]))"


def _p99(histogram: str, by: str = "instance") -> str:
    return f"histogram_quantile(0.99, {_rate(f'{histogram}_bucket', by=f'{by}, le')})"


def _open_streams(service: str) -> str:
    matchers = f', grpc_service="etcdserverpb.{service}", grpc_type="bidi_stream"'
    return f"sum(grpc_server_started_total{{SELECTOR{matchers}}}) - sum(grpc_server_handled_total{{SELECTOR{matchers}}})"


_INSTANCE = "{{instance}}"
_GRAPHS = (
    _Graph("Members with a leader", "short", [("sum(etcd_server_has_leader{SELECTOR})", "")], "stat", 4, 4),
    _Graph(
        "Leader changes in a day",
        "short",
        [("max(changes(etcd_server_leader_changes_seen_total{SELECTOR}[1d]))", "")],
        "stat",
        5,
        4,
    ),
    _Graph(
        "Database of its quota",
        "percentunit",
        [("max(etcd_mvcc_db_total_size_in_bytes{SELECTOR} / etcd_server_quota_backend_bytes{SELECTOR})", "")],
        "stat",
        5,
        4,
    ),
    _Graph("Keys", "short", [("max(etcd_debugging_mvcc_keys_total{SELECTOR})", "")], "stat", 5, 4),
    _Graph(
        "First certificate to expire",
        "dateTimeFromNow",
        [("min(tercet_tls_certificate_expiry_timestamp_seconds{SELECTOR}) * 1000", "")],
        "stat",
        5,
        4,
    ),
    _Graph(
        "Requests", "reqps", [(_rate("grpc_server_started_total", ', grpc_type="unary"', "grpc_method"), "{{grpc_method}}")]
    ),
    _Graph(
        "Failed requests",
        "reqps",
        [
            (
                _rate("grpc_server_handled_total", ', grpc_type="unary", grpc_code!="OK"', "grpc_method, grpc_code"),
                "{{grpc_method}} {{grpc_code}}",
            )
        ],
    ),
    _Graph("Open streams", "short", [(_open_streams("Watch"), "watch"), (_open_streams("Lease"), "lease")]),
    _Graph("Fsync of the log (p99)", "s", [(_p99("etcd_disk_wal_fsync_duration_seconds"), _INSTANCE)]),
    _Graph("Commit of the database (p99)", "s", [(_p99("etcd_disk_backend_commit_duration_seconds"), _INSTANCE)]),
    _Graph(
        "Round trip to peers (p99)",
        "s",
        [(_p99("etcd_network_peer_round_trip_time_seconds", "instance, To"), "{{instance}} to {{To}}")],
    ),
    _Graph(
        "Database",
        "bytes",
        [
            ("etcd_mvcc_db_total_size_in_bytes{SELECTOR}", f"{_INSTANCE} file"),
            ("etcd_mvcc_db_total_size_in_use_in_bytes{SELECTOR}", f"{_INSTANCE} in use"),
        ],
    ),
    _Graph("Memory", "bytes", [("process_resident_memory_bytes{SELECTOR}", _INSTANCE)]),
    _Graph("Processor", "percentunit", [(_rate("process_cpu_seconds_total"), _INSTANCE)]),
    _Graph("Received from clients", "Bps", [(_rate("etcd_network_client_grpc_received_bytes_total"), _INSTANCE)]),
    _Graph("Sent to clients", "Bps", [(_rate("etcd_network_client_grpc_sent_bytes_total"), _INSTANCE)]),
    _Graph(
        "Peer traffic",
        "Bps",
        [
            (_rate("etcd_network_peer_received_bytes_total"), f"{_INSTANCE} received"),
            (_rate("etcd_network_peer_sent_bytes_total"), f"{_INSTANCE} sent"),
        ],
    ),
    _Graph(
        "Raft proposals",
        "ops",
        [
            (_rate("etcd_server_proposals_committed_total"), f"{_INSTANCE} committed"),
            (_rate("etcd_server_proposals_applied_total"), f"{_INSTANCE} applied"),
            (_rate("etcd_server_proposals_failed_total"), f"{_INSTANCE} failed"),
        ],
    ),
    _Graph("Pending proposals", "short", [("etcd_server_proposals_pending{SELECTOR}", _INSTANCE)]),
    _Graph("Longest turn of the event loop", "s", [("tercet_loop_turn_longest_seconds{SELECTOR}", _INSTANCE)]),
)


def dashboard(matcher: str) -> str:
    """JSON, to import or provision. matcher: of the members' series, such as `job=~"etcd"`."""
    board = {
        "uid": "tercet",
        "title": "tercet",
        "tags": ["tercet", "etcd"],
        "schemaVersion": _SCHEMA_VERSION,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [{"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}]},
        "panels": _panels(matcher),
    }
    return json.dumps(board, indent=2) + "\n"


def _panels(matcher: str) -> list[dict[str, Any]]:
    """The graphs, from left to right and top to bottom."""
    panels: list[dict[str, Any]] = []
    x = y = 0
    for number, graph in enumerate(_GRAPHS, 1):
        if x + graph.width > _WIDTH:
            x, y = 0, y + panels[-1]["gridPos"]["h"]
        targets = [
            {
                "refId": chr(ord("A") + at),
                "datasource": _SOURCE,
                "expr": expression.replace(SELECTOR, matcher),
                "legendFormat": legend,
            }
            for at, (expression, legend) in enumerate(graph.queries)
        ]
        panels.append(
            {
                "id": number,
                "type": graph.kind,
                "title": graph.title,
                "datasource": _SOURCE,
                "gridPos": {"x": x, "y": y, "w": graph.width, "h": graph.height},
                "fieldConfig": {"defaults": {"unit": graph.unit}, "overrides": []},
                "targets": targets,
            }
        )
        x += graph.width
    return panels
