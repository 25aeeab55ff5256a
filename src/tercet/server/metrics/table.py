"""Every metric a member may show: name, type, labels, buckets. The names are etcd's, so that its dashboards and alerts work
unchanged.

Which of them are shown is decided by who registers a source with `Metrics`; a name that is not here cannot be registered.

Source: etcd 3.7's metrics. Odd types are kept: proposals_committed_total is a gauge, some counters have no `_total`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Metric:
    """kind: counter, gauge or histogram. bounds: upper bounds of a histogram's buckets, without +Inf."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()


def doubling(start: float, count: int) -> tuple[float, ...]:
    return tuple(start * 2**power for power in range(count))


_DISK = doubling(0.001, 14)
_FAST = doubling(0.0001, 20)
_SLOW = doubling(0.1, 10)
_GRPC = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_METHOD = ("grpc_type", "grpc_service", "grpc_method")
C, G, H = "counter", "gauge", "histogram"

_ROWS = (
    # The member
    Metric("etcd_server_has_leader", G, "Whether this member knows a leader (1) or not (0)."),
    Metric("etcd_server_is_leader", G, "Whether this member leads."),
    Metric("etcd_server_is_learner", G, "Whether this member is a learner."),
    Metric("etcd_server_leader_changes_seen_total", C, "Changes to a known leader that this member has seen."),
    Metric("etcd_server_heartbeat_send_failures_total", C, "Heartbeats that this leader sent too late."),
    Metric("etcd_server_proposals_committed_total", G, "Index of the last committed entry."),
    Metric("etcd_server_proposals_applied_total", G, "Index of the last applied entry."),
    Metric("etcd_server_proposals_pending", G, "Proposals waiting to be committed."),
    Metric("etcd_server_proposals_failed_total", C, "Proposals that failed."),
    Metric("etcd_server_slow_apply_total", C, "Requests that took longer to apply than --warning-apply-duration."),
    Metric("etcd_server_slow_read_indexes_total", C, "Linearizable reads that waited long for their index."),
    Metric("etcd_server_read_indexes_failed_total", C, "Linearizable reads that got no index."),
    Metric("etcd_server_apply_duration_seconds", H, "Time to apply a request.", ("version", "op", "success"), _FAST),
    Metric("etcd_server_range_duration_seconds", H, "Time of a range.", ("success",), _FAST),
    Metric("etcd_server_request_duration_seconds", H, "Time of a request.", ("type", "success"), _DISK),
    Metric("etcd_server_snapshot_apply_in_progress_total", G, "Whether a snapshot is being installed."),
    Metric("etcd_server_learner_promote_successes", C, "Learners that this leader promoted."),
    Metric("etcd_server_learner_promote_failures", C, "Learners that this leader did not promote.", ("Reason",)),
    Metric("etcd_server_client_requests_total", C, "Requests by version of the client.", ("type", "client_api_version")),
    Metric("etcd_server_quota_backend_bytes", G, "Size at which the store refuses writes."),
    Metric("etcd_server_health_success", C, "Times that /health was good."),
    Metric("etcd_server_health_failures", C, "Times that /health was bad."),
    Metric("etcd_server_healthcheck", G, "Last result of a health check.", ("type", "name")),
    Metric("etcd_server_healthchecks_total", C, "Results of health checks.", ("type", "name", "status")),
    Metric("etcd_server_version", G, "The etcd version that this member speaks.", ("server_version",)),
    Metric("etcd_server_go_version", G, "The language runtime, under etcd's name for it.", ("server_go_version",)),
    Metric("etcd_server_id", G, "The id of this member.", ("server_id",)),
    Metric("etcd_server_feature_enabled", G, "Whether a feature gate is on.", ("name", "stage")),
    Metric("etcd_cluster_version", G, "The version that the cluster has agreed on.", ("cluster_version",)),
    Metric("tercet_loop_turn_longest_seconds", G, "The longest that the event loop was busy in the last two minutes."),
    Metric(
        "tercet_tls_certificate_expiry_timestamp_seconds",
        G,
        "When the certificate that this member shows or trusts in a role ends, in seconds since 1970.",
        ("role",),
    ),
    Metric("tercet_version", G, "The version of tercet.", ("version",)),
    # The store
    Metric("etcd_mvcc_put_total", C, "Puts seen by this member."),
    Metric("etcd_mvcc_delete_total", C, "Deletes seen by this member."),
    Metric("etcd_mvcc_txn_total", C, "Transactions seen by this member."),
    Metric("etcd_mvcc_range_total", C, "Ranges seen by this member."),
    Metric("etcd_mvcc_db_total_size_in_bytes", G, "Size of the backend's file."),
    Metric("etcd_mvcc_db_total_size_in_use_in_bytes", G, "Size of what is in use in the backend's file."),
    Metric("etcd_mvcc_db_open_read_transactions", G, "Open read transactions of the backend."),
    Metric("etcd_mvcc_hash_duration_seconds", H, "Time of hashing the backend.", (), doubling(0.01, 15)),
    Metric("etcd_mvcc_hash_rev_duration_seconds", H, "Time of hashing up to a revision.", (), doubling(0.01, 15)),
    Metric("etcd_debugging_mvcc_keys_total", G, "Keys."),
    Metric("etcd_debugging_mvcc_watcher_total", G, "Watchers."),
    Metric("etcd_debugging_mvcc_slow_watcher_total", G, "Watchers that are behind."),
    Metric("etcd_debugging_mvcc_watch_stream_total", G, "Watch streams."),
    Metric("etcd_debugging_mvcc_pending_events_total", G, "Events that wait to be sent."),
    Metric("etcd_debugging_mvcc_current_revision", G, "The current revision."),
    Metric("etcd_debugging_mvcc_compact_revision", G, "The last compacted revision."),
    Metric("etcd_debugging_mvcc_total_put_size_in_bytes", G, "Bytes of all puts."),
    Metric("etcd_debugging_mvcc_db_compaction_last", G, "When the last compaction ended, in seconds since 1970."),
    Metric("etcd_debugging_mvcc_events_total", C, "Events sent to watchers."),
    Metric("etcd_debugging_mvcc_range_total", C, "Ranges seen by this member."),
    Metric("etcd_debugging_mvcc_db_compaction_keys_total", C, "Revisions removed by compaction."),
    Metric(
        "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds", H, "Index compaction pauses.", (), doubling(0.5, 14)
    ),
    Metric("etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds", H, "Compaction pauses.", (), doubling(1, 13)),
    Metric("etcd_debugging_mvcc_db_compaction_total_duration_milliseconds", H, "Compactions.", (), doubling(100, 14)),
    # Disk
    Metric("etcd_disk_wal_fsync_duration_seconds", H, "Time of an fsync of the write-ahead log.", (), _DISK),
    Metric("etcd_disk_wal_write_bytes_total", G, "Bytes written to the write-ahead log."),
    Metric("etcd_disk_wal_write_duration_seconds", H, "Time of a write to the write-ahead log.", (), _DISK),
    Metric("etcd_disk_backend_commit_duration_seconds", H, "Time of a commit of the backend.", (), _DISK),
    Metric("etcd_disk_backend_defrag_duration_seconds", H, "Time of a defragmentation.", (), doubling(0.1, 13)),
    Metric("etcd_disk_backend_snapshot_duration_seconds", H, "Time of sending a snapshot.", (), doubling(0.01, 17)),
    Metric("etcd_disk_defrag_inflight", G, "Whether a defragmentation is running."),
    Metric("etcd_snap_db_fsync_duration_seconds", H, "Time of an fsync of a received snapshot.", (), _DISK),
    Metric("etcd_snap_db_save_total_duration_seconds", H, "Time of receiving and saving a snapshot.", (), _SLOW),
    Metric("etcd_snap_fsync_duration_seconds", H, "Time of an fsync of a snapshot's record.", (), _DISK),
    Metric("etcd_debugging_disk_backend_commit_write_duration_seconds", H, "Writing part of a commit.", (), _DISK),
    # Network
    Metric("etcd_network_active_peers", G, "Connected peers.", ("Local", "Remote")),
    Metric("etcd_network_known_peers", G, "Known peers.", ("Local", "Remote")),
    Metric("etcd_network_disconnected_peers_total", C, "Lost connections to peers.", ("Local", "Remote")),
    Metric("etcd_network_peer_sent_bytes_total", C, "Bytes sent to a peer.", ("To",)),
    Metric("etcd_network_peer_received_bytes_total", C, "Bytes received from a peer.", ("From",)),
    Metric("etcd_network_peer_sent_failures_total", C, "Messages that could not be sent to a peer.", ("To",)),
    Metric("etcd_network_peer_received_failures_total", C, "Failures of receiving from a peer.", ("From",)),
    Metric("etcd_network_peer_round_trip_time_seconds", H, "Round trips to a peer.", ("To",), doubling(0.0001, 16)),
    Metric("etcd_network_client_grpc_sent_bytes_total", C, "Bytes sent to gRPC clients."),
    Metric("etcd_network_client_grpc_received_bytes_total", C, "Bytes received from gRPC clients."),
    Metric("etcd_network_snapshot_send_success", C, "Snapshots sent.", ("To",)),
    Metric("etcd_network_snapshot_send_failures", C, "Snapshots that could not be sent.", ("To",)),
    Metric("etcd_network_snapshot_send_inflights_total", G, "Snapshots being sent.", ("To",)),
    Metric("etcd_network_snapshot_send_total_duration_seconds", H, "Time of sending a snapshot.", ("To",), _SLOW),
    Metric("etcd_network_snapshot_receive_success", C, "Snapshots received.", ("From",)),
    Metric("etcd_network_snapshot_receive_failures", C, "Snapshots that could not be received.", ("From",)),
    Metric("etcd_network_snapshot_receive_inflights_total", G, "Snapshots being received.", ("From",)),
    Metric("etcd_network_snapshot_receive_total_duration_seconds", H, "Time of receiving a snapshot.", ("From",), _SLOW),
    Metric("etcd_network_server_stream_failures_total", C, "Streams that failed.", ("Type", "API")),
    # Leases, alarms, auth
    Metric("etcd_debugging_lease_granted_total", C, "Leases granted."),
    Metric("etcd_debugging_lease_revoked_total", C, "Leases revoked."),
    Metric("etcd_debugging_lease_renewed_total", C, "Leases renewed, at the leader."),
    Metric("etcd_debugging_lease_ttl_total", H, "Lifetimes of leases in seconds.", (), doubling(1, 24)),
    Metric("etcd_debugging_server_lease_expired_total", C, "Leases that expired."),
    Metric("etcd_debugging_server_alarms", G, "Alarms that are on.", ("server_id", "alarm_type")),
    Metric("etcd_debugging_auth_revision", G, "Revision of users and roles."),
    # gRPC
    Metric("grpc_server_started_total", C, "Calls begun.", _METHOD),
    Metric("grpc_server_handled_total", C, "Calls ended.", (*_METHOD, "grpc_code")),
    Metric("grpc_server_msg_received_total", C, "Messages received.", _METHOD),
    Metric("grpc_server_msg_sent_total", C, "Messages sent.", _METHOD),
    Metric("grpc_server_handling_seconds", H, "Time until a call ended.", _METHOD, _GRPC),
    # The process
    Metric("os_fd_used", G, "Open file descriptors."),
    Metric("os_fd_limit", G, "Most open file descriptors allowed."),
    Metric("process_cpu_seconds_total", C, "Processor time used, in seconds."),
    Metric("process_max_fds", G, "Most open file descriptors allowed."),
    Metric("process_open_fds", G, "Open file descriptors."),
    Metric("process_resident_memory_bytes", G, "Resident memory."),
    Metric("process_start_time_seconds", G, "When the process started, in seconds since 1970."),
    Metric("process_virtual_memory_bytes", G, "Virtual memory."),
    Metric("promhttp_metric_handler_requests_total", C, "Scrapes by status.", ("code",)),
    Metric("promhttp_metric_handler_requests_in_flight", G, "Scrapes being served."),
)

METRICS: Mapping[str, Metric] = {row.name: row for row in _ROWS}
