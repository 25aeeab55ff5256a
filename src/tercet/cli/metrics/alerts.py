"""The conditions under which somebody should be called: those of etcd's own alert rules, and two about tercet alone.

The same table serves Prometheus (`tercet metrics rules`) and `tercetctl doctor`, which judges most of them without one.
In an expression SELECTOR stands for the label matcher that finds the members.

Source of names, thresholds and durations: etcd's contrib/mixin.
"""

from __future__ import annotations

from typing import NamedTuple

SELECTOR = "SELECTOR"


class Alert(NamedTuple):
    """wait: how long the condition must hold. remedy: what the operator does."""

    name: str
    expression: str
    wait: str
    severity: str
    summary: str
    remedy: str


_BAD_CODES = "Unknown|FailedPrecondition|ResourceExhausted|Internal|Unavailable|DataLoss|DeadlineExceeded"


def _p99(histogram: str, by: str, *, matchers: str = "", window: str = "5m") -> str:
    return f"histogram_quantile(0.99, sum by ({by}, le) (rate({histogram}_bucket{{SELECTOR{matchers}}}[{window}])))"


def _failed_share() -> str:
    failed = (
        f'sum by (job, grpc_service, grpc_method) (rate(grpc_server_handled_total{{SELECTOR, grpc_code=~"{_BAD_CODES}"}}[5m]))'
    )
    return f"100 * {failed} / sum by (job, grpc_service, grpc_method) (rate(grpc_server_handled_total{{SELECTOR}}[5m]))"


_DISK = "look for a busy or failing disk (iostat -x 1) and give the data directory a device of its own, an SSD"
_SIZE, _USED, _QUOTA = (
    "etcd_mvcc_db_total_size_in_bytes{SELECTOR}",
    "etcd_mvcc_db_total_size_in_use_in_bytes{SELECTOR}",
    "etcd_server_quota_backend_bytes{SELECTOR}",
)

ALERTS = (
    Alert(
        "etcdMembersDown",
        "count by (job) (up{SELECTOR} == 0) > 0 or count by (job)"
        " (sum by (job, To) (rate(etcd_network_peer_sent_failures_total{SELECTOR}[2m])) > 0.01) > 0",
        "20m",
        "warning",
        "{{ $value }} members of {{ $labels.job }} are down or unreachable for their peers",
        "start the member, or replace it if its disk is lost: `tercetctl member list`, `tercet deploy member replace`",
    ),
    Alert(
        "etcdInsufficientMembers",
        "sum by (job) (up{SELECTOR}) < (count by (job) (up{SELECTOR}) + 1) / 2",
        "3m",
        "critical",
        "{{ $labels.job }} has {{ $value }} members, too few for a quorum: no writes",
        "start members until a majority runs; if they are lost for good, restore a snapshot (tercetutl snapshot restore)",
    ),
    Alert(
        "etcdNoLeader",
        "etcd_server_has_leader{SELECTOR} == 0",
        "1m",
        "critical",
        "{{ $labels.instance }} has no leader",
        "check that the members reach each other's peer URLs (firewall, DNS, certificates) and that a majority runs",
    ),
    Alert(
        "etcdHighNumberOfLeaderChanges",
        "max by (job) (increase(etcd_server_leader_changes_seen_total{SELECTOR}[15m])) >= 4",
        "5m",
        "warning",
        "{{ $value }} leader changes in {{ $labels.job }} within 15 minutes",
        "look for slow disks, overloaded hosts and packet loss between members; raise --election-timeout on slow networks",
    ),
    Alert(
        "etcdHighNumberOfFailedGRPCRequests",
        f"{_failed_share()} > 1",
        "10m",
        "warning",
        "{{ $value | humanize }} % of {{ $labels.grpc_service }}/{{ $labels.grpc_method }} fail",
        "read the member's log for the reason; Unavailable: leadership changes, ResourceExhausted: space or load",
    ),
    Alert(
        "etcdHighNumberOfFailedGRPCRequests",
        f"{_failed_share()} > 5",
        "5m",
        "critical",
        "{{ $value | humanize }} % of {{ $labels.grpc_service }}/{{ $labels.grpc_method }} fail",
        "read the member's log for the reason; Unavailable: leadership changes, ResourceExhausted: space or load",
    ),
    Alert(
        "etcdGRPCRequestsSlow",
        _p99(
            "grpc_server_handling_seconds",
            "job, instance, grpc_service, grpc_method",
            matchers=', grpc_method!="Defragment", grpc_type="unary"',
        )
        + " > 0.15",
        "10m",
        "critical",
        "{{ $labels.grpc_service }}/{{ $labels.grpc_method }} takes {{ $value }} s at {{ $labels.instance }} (99th percentile)",
        "find the expensive requests in the log (slow request) and with `tercetctl top`; this metric needs --metrics=extensive",
    ),
    Alert(
        "etcdMemberCommunicationSlow",
        _p99("etcd_network_peer_round_trip_time_seconds", "job, instance, To") + " > 0.15",
        "10m",
        "warning",
        "{{ $labels.instance }} takes {{ $value }} s to reach {{ $labels.To }} (99th percentile)",
        "check the network between the members; for distant sites raise --heartbeat-interval and --election-timeout",
    ),
    Alert(
        "etcdHighNumberOfFailedProposals",
        "rate(etcd_server_proposals_failed_total{SELECTOR}[15m]) > 5",
        "15m",
        "warning",
        "{{ $value | humanize }} proposals a second fail at {{ $labels.instance }}",
        "look for lost leaders and for members without a quorum; clients may be sending faster than the disks can write",
    ),
    Alert(
        "etcdHighFsyncDurations",
        _p99("etcd_disk_wal_fsync_duration_seconds", "job, instance") + " > 0.5",
        "10m",
        "warning",
        "fsync of the log takes {{ $value }} s at {{ $labels.instance }} (99th percentile)",
        _DISK,
    ),
    Alert(
        "etcdHighFsyncDurations",
        _p99("etcd_disk_wal_fsync_duration_seconds", "job, instance") + " > 1",
        "10m",
        "critical",
        "fsync of the log takes {{ $value }} s at {{ $labels.instance }} (99th percentile)",
        _DISK,
    ),
    Alert(
        "etcdHighCommitDurations",
        _p99("etcd_disk_backend_commit_duration_seconds", "job, instance") + " > 0.25",
        "10m",
        "warning",
        "a commit of the database takes {{ $value }} s at {{ $labels.instance }} (99th percentile)",
        _DISK,
    ),
    Alert(
        "etcdDatabaseQuotaLowSpace",
        f"100 * last_over_time({_SIZE}[5m]) / last_over_time({_QUOTA}[5m]) > 95",
        "10m",
        "critical",
        "the database of {{ $labels.instance }} has {{ $value | humanize }} % of its quota; at 100 % writes are rejected",
        "compact and defragment (tercetctl compaction, defrag), or raise --quota-backend-bytes; then `alarm disarm`",
    ),
    Alert(
        "etcdExcessiveDatabaseGrowth",
        f"predict_linear({_SIZE}[4h], 4 * 60 * 60) > {_QUOTA}",
        "10m",
        "warning",
        "the database of {{ $labels.instance }} will reach its quota within four hours",
        "find what writes (tercetctl top), set --auto-compaction-retention, or raise --quota-backend-bytes",
    ),
    Alert(
        "etcdDatabaseHighFragmentationRatio",
        f"last_over_time({_USED}[5m]) / last_over_time({_SIZE}[5m]) < 0.5 and {_SIZE} > 100 * 1024 * 1024",
        "10m",
        "warning",
        "the database of {{ $labels.instance }} uses {{ $value | humanizePercentage }} of its file",
        "release the space: tercetctl defrag --cluster, one member at a time",
    ),
    Alert(
        "tercetCertificateExpires",
        "min by (job, instance, role) (tercet_tls_certificate_expiry_timestamp_seconds{SELECTOR}) - time() < 14 * 24 * 60 * 60",
        "1h",
        "warning",
        "the certificate of {{ $labels.instance }} as {{ $labels.role }} expires in {{ $value | humanizeDuration }}",
        "renew it: tercet deploy certs renew, or tercet pki renew; members read renewed files without a restart",
    ),
    Alert(
        "tercetCertificateExpires",
        "min by (job, instance, role) (tercet_tls_certificate_expiry_timestamp_seconds{SELECTOR}) - time() < 24 * 60 * 60",
        "5m",
        "critical",
        "the certificate of {{ $labels.instance }} as {{ $labels.role }} expires in {{ $value | humanizeDuration }}",
        "renew it: tercet deploy certs renew, or tercet pki renew; members read renewed files without a restart",
    ),
    Alert(
        "tercetEventLoopBlocked",
        "max_over_time(tercet_loop_turn_longest_seconds{SELECTOR}[5m]) > 0.5",
        "5m",
        "warning",
        "a turn of the event loop takes {{ $value }} s at {{ $labels.instance }}; leaders lose their leadership at 1 s",
        "find the expensive requests in the log (slow request); check that the host is not out of processor time or memory",
    ),
)
REMEDIES = {alert.name: alert.remedy for alert in ALERTS}
