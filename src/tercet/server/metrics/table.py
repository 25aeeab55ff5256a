"""Every metric of a member: name, type, labels, buckets. The names are etcd's, so that its dashboards and alerts work
unchanged.

A metric without labels that has no source is shown as 0, as etcd shows what has not happened. Of the metrics of Go's runtime
(go_*), which dashboards and checks of etcd ask for, those that any runtime has are Python's; the others are 0.

Source: etcd 3.7's metrics. Odd types are kept: proposals_committed_total is a gauge, some counters have no `_total`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Metric(NamedTuple):
    """kind: counter, gauge, histogram, or summary: one without quantiles. bounds: upper bounds of a histogram's buckets,
    without +Inf.
    """

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()

    @property
    def is_counted(self) -> bool:
        """Whether it has a sum and counts in place of a value."""
        return self.kind in ("histogram", "summary")


def doubling(start: float, count: int) -> tuple[float, ...]:
    return tuple(start * 2**power for power in range(count))


_DISK = doubling(0.001, 14)
_TURNS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)
_FAST = doubling(0.0001, 20)
_SLOW = doubling(0.1, 10)
_GRPC = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_METHOD = ("grpc_type", "grpc_service", "grpc_method")
_SEND_LOOP = "etcd_debugging_server_watch_send_loop"
C, G, H, S = "counter", "gauge", "histogram", "summary"
_NO_GO = ", a part of Go's runtime, which this member does not have."

_ROWS = (
    # The member
    Metric("etcd_server_has_leader", G, "Whether this member knows a leader (1) or not (0)."),
    Metric("etcd_server_is_leader", G, "Whether this member is the leader."),
    Metric("etcd_server_is_learner", G, "Whether this member is a learner."),
    Metric("etcd_server_leader_changes_seen_total", C, "Leader changes seen by this member."),
    Metric("etcd_server_heartbeat_send_failures_total", C, "Heartbeats that this leader sent late."),
    Metric("etcd_server_proposals_committed_total", G, "Index of the last committed entry."),
    Metric("etcd_server_proposals_applied_total", G, "Index of the last applied entry."),
    Metric("etcd_server_proposals_pending", G, "Proposals that are not committed yet."),
    Metric("etcd_server_proposals_failed_total", C, "Failed proposals."),
    Metric("etcd_server_slow_apply_total", C, "Requests that took longer to apply than --warning-apply-duration."),
    Metric("etcd_server_slow_read_indexes_total", C, "Linearizable reads that timed out or waited long for their index."),
    Metric("etcd_server_read_indexes_failed_total", C, "Linearizable reads without an index."),
    Metric("etcd_server_apply_duration_seconds", H, "Time to apply a request.", ("version", "op", "success"), _FAST),
    Metric("etcd_server_range_duration_seconds", H, "Time of a range.", ("success",), _FAST),
    Metric("etcd_server_request_duration_seconds", H, "Time of a request.", ("type", "success"), _DISK),
    Metric("etcd_server_snapshot_apply_in_progress_total", G, "Whether a snapshot is being installed."),
    Metric("etcd_server_learner_promote_successes", C, "Learners promoted by this leader."),
    Metric("etcd_server_learner_promote_failures", C, "Failed promotions of learners at this leader.", ("Reason",)),
    Metric("etcd_server_client_requests_total", C, "Requests by client version.", ("type", "client_api_version")),
    Metric("etcd_server_quota_backend_bytes", G, "Database size at which writes are rejected."),
    Metric("etcd_server_health_success", C, "Successful /health checks."),
    Metric("etcd_server_health_failures", C, "Failed /health checks."),
    Metric("etcd_server_healthcheck", G, "Result of the last health check.", ("type", "name")),
    Metric("etcd_server_healthchecks_total", C, "Results of health checks.", ("type", "name", "status")),
    Metric("etcd_server_version", G, "The etcd version that this member speaks.", ("server_version",)),
    Metric("etcd_server_go_version", G, "The language runtime, under etcd's name for it.", ("server_go_version",)),
    Metric("etcd_server_id", G, "ID of this member.", ("server_id",)),
    Metric("etcd_server_feature_enabled", G, "Whether a feature gate is enabled.", ("name", "stage")),
    Metric("etcd_cluster_version", G, "The cluster version.", ("cluster_version",)),
    Metric(
        "tercet_client_calls_total", C, "gRPC calls by client address, of the busiest 100 and the sum of others.", ("client",)
    ),
    Metric("tercet_client_received_bytes_total", C, "Bytes received from these gRPC clients.", ("client",)),
    Metric("tercet_client_sent_bytes_total", C, "Bytes sent to these gRPC clients.", ("client",)),
    Metric("tercet_loop_turn_longest_seconds", G, "Longest turn of the event loop in the last two minutes."),
    Metric("tercet_loop_turn_seconds", H, "How long the event loop was busy, sampled every 10 ms.", (), _TURNS),
    Metric("tercet_loop_turn_processor_seconds", H, "Processor time of these turns, without waits.", (), _TURNS),
    Metric(
        "tercet_tls_certificate_expiry_timestamp_seconds",
        G,
        "Expiry of the certificate that this member presents or trusts in a role, in seconds since 1970.",
        ("role",),
    ),
    Metric("tercet_version", G, "The version of tercet.", ("version",)),
    # The store
    Metric("etcd_mvcc_put_total", C, "Puts applied by this member."),
    Metric("etcd_mvcc_delete_total", C, "Deletes applied by this member."),
    Metric("etcd_mvcc_txn_total", C, "Transactions applied by this member."),
    Metric("etcd_mvcc_range_total", C, "Ranges served by this member."),
    Metric("etcd_mvcc_db_total_size_in_bytes", G, "Size of the database file."),
    Metric("etcd_mvcc_db_total_size_in_use_in_bytes", G, "Size of the database file that is in use."),
    Metric("etcd_mvcc_db_open_read_transactions", G, "Open read transactions of the database."),
    Metric("etcd_mvcc_hash_duration_seconds", H, "Time of hashing the database.", (), doubling(0.01, 15)),
    Metric("etcd_mvcc_hash_rev_duration_seconds", H, "Time of hashing up to a revision.", (), doubling(0.01, 15)),
    Metric("etcd_debugging_mvcc_keys_total", G, "Number of keys."),
    Metric("etcd_debugging_mvcc_watcher_total", G, "Number of watchers."),
    Metric("etcd_debugging_mvcc_slow_watcher_total", G, "Number of watchers that are not synced."),
    Metric("etcd_debugging_mvcc_watch_stream_total", G, "Number of watch streams."),
    Metric("etcd_debugging_mvcc_pending_events_total", G, "Events that wait to be sent."),
    Metric("etcd_debugging_mvcc_current_revision", G, "Current revision of the store."),
    Metric("etcd_debugging_mvcc_compact_revision", G, "Last compacted revision of the store."),
    Metric("etcd_debugging_mvcc_total_put_size_in_bytes", G, "Bytes of all puts."),
    Metric(
        "etcd_debugging_mvcc_db_compaction_last", G, "End of the last compaction, in seconds since 1970; 0 before the first."
    ),
    Metric("etcd_debugging_mvcc_events_total", C, "Events sent to watchers."),
    Metric("etcd_debugging_mvcc_range_total", C, "Ranges served by this member."),
    Metric("etcd_debugging_mvcc_db_compaction_keys_total", C, "Revisions deleted by compactions."),
    Metric(
        "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds",
        H,
        "Pauses of index compactions.",
        (),
        doubling(0.5, 14),
    ),
    Metric("etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds", H, "Pauses of compactions.", (), doubling(1, 13)),
    Metric("etcd_debugging_mvcc_db_compaction_total_duration_milliseconds", H, "Time of compactions.", (), doubling(100, 14)),
    Metric("etcd_debugging_store_expires_total", C, "Expired keys of the v2 store, which this member does not have."),
    Metric("etcd_debugging_store_watch_requests_total", C, "Watch requests to the v2 store, which this member does not have."),
    Metric("etcd_debugging_store_watchers", G, "Watchers of the v2 store, which this member does not have."),
    # Disk
    Metric("etcd_disk_wal_fsync_duration_seconds", H, "Time of fsync of the write-ahead log.", (), _DISK),
    Metric("etcd_disk_wal_write_bytes_total", G, "Bytes written to the write-ahead log."),
    Metric("etcd_disk_wal_write_duration_seconds", H, "Time of writes to the write-ahead log.", (), _DISK),
    Metric("etcd_disk_backend_commit_duration_seconds", H, "Time of commits of the database.", (), _DISK),
    Metric("etcd_disk_backend_defrag_duration_seconds", H, "Time of defragmentations.", (), doubling(0.1, 13)),
    Metric("etcd_disk_backend_snapshot_duration_seconds", H, "Time of snapshots.", (), doubling(0.01, 17)),
    Metric("etcd_disk_defrag_inflight", G, "Whether a defragmentation is running."),
    Metric("etcd_snap_db_fsync_duration_seconds", H, "Time of fsync of received databases.", (), _DISK),
    Metric("etcd_snap_db_save_total_duration_seconds", H, "Time of receiving and saving databases.", (), _SLOW),
    Metric("etcd_snap_fsync_duration_seconds", H, "Time of fsync of snapshot records.", (), _DISK),
    Metric("etcd_debugging_disk_backend_commit_write_duration_seconds", H, "Time of bbolt's write in commits.", (), _DISK),
    Metric(
        "etcd_debugging_disk_backend_commit_rebalance_duration_seconds", H, "Time of bbolt's rebalance in commits.", (), _DISK
    ),
    Metric("etcd_debugging_disk_backend_commit_spill_duration_seconds", H, "Time of bbolt's spill in commits.", (), _DISK),
    Metric("etcd_debugging_snap_save_marshalling_duration_seconds", H, "Time of encoding snapshot records.", (), _DISK),
    Metric("etcd_debugging_snap_save_total_duration_seconds", H, "Time of saving snapshot records.", (), _DISK),
    # Network
    Metric("etcd_network_active_peers", G, "Connected peers.", ("Local", "Remote")),
    Metric("etcd_network_known_peers", G, "Known peers.", ("Local", "Remote")),
    Metric("etcd_network_disconnected_peers_total", C, "Lost connections to peers.", ("Local", "Remote")),
    Metric("etcd_network_peer_sent_bytes_total", C, "Bytes sent to a peer.", ("To",)),
    Metric("etcd_network_peer_received_bytes_total", C, "Bytes received from a peer.", ("From",)),
    Metric("etcd_network_peer_sent_failures_total", C, "Messages that could not be sent to a peer.", ("To",)),
    Metric("etcd_network_peer_received_failures_total", C, "Failures of receiving from a peer.", ("From",)),
    Metric("etcd_network_peer_round_trip_time_seconds", H, "Round-trip time to a peer.", ("To",), doubling(0.0001, 16)),
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
    Metric("etcd_network_server_stream_failures_total", C, "Failed streams.", ("Type", "API")),
    # Leases, alarms, auth, watches
    Metric("etcd_debugging_lease_granted_total", C, "Granted leases."),
    Metric("etcd_debugging_lease_revoked_total", C, "Revoked leases."),
    Metric("etcd_debugging_lease_renewed_total", C, "Leases renewed at this leader."),
    Metric("etcd_debugging_lease_ttl_total", H, "TTLs of leases in seconds.", (), doubling(1, 24)),
    Metric("etcd_debugging_server_lease_expired_total", C, "Expired leases."),
    Metric("etcd_debugging_server_alarms", G, "Active alarms.", ("server_id", "alarm_type")),
    Metric("etcd_debugging_auth_revision", G, "Revision of the auth store."),
    Metric(f"{_SEND_LOOP}_control_stream_duration_seconds", H, "Time of sending control responses to watchers.", (), _DISK),
    Metric(f"{_SEND_LOOP}_progress_duration_seconds", H, "Time of sending progress notifications to watchers.", (), _DISK),
    Metric(f"{_SEND_LOOP}_watch_stream_duration_seconds", H, "Time of sending a response to a watcher.", (), _DISK),
    Metric(f"{_SEND_LOOP}_watch_stream_duration_per_event_seconds", H, "The same, per event.", (), _DISK),
    # gRPC
    Metric("grpc_server_started_total", C, "Calls started.", _METHOD),
    Metric("grpc_server_handled_total", C, "Calls completed.", (*_METHOD, "grpc_code")),
    Metric("grpc_server_msg_received_total", C, "Messages received.", _METHOD),
    Metric("grpc_server_msg_sent_total", C, "Messages sent.", _METHOD),
    Metric("grpc_server_handling_seconds", H, "Time of calls.", _METHOD, _GRPC),
    Metric("etcd_grpc_proxy_cache_hits_total", G, "Cache hits of the gRPC proxy, which this member is not."),
    Metric("etcd_grpc_proxy_cache_keys_total", G, "Cached keys of the gRPC proxy, which this member is not."),
    Metric("etcd_grpc_proxy_cache_misses_total", G, "Cache misses of the gRPC proxy, which this member is not."),
    Metric("etcd_grpc_proxy_events_coalescing_total", C, "Coalesced events of the gRPC proxy, which this member is not."),
    Metric("etcd_grpc_proxy_watchers_coalescing_total", G, "Coalesced watchers of the gRPC proxy, which this member is not."),
    # The language runtime
    Metric("go_info", G, "The language runtime, under etcd's name for it.", ("version",)),
    Metric("go_threads", G, "Threads of the process."),
    Metric("go_sched_gomaxprocs_threads", G, "Threads that can run Python code at the same time."),
    Metric("go_gc_duration_seconds", S, "Pauses for collections of garbage."),
    Metric("go_goroutines", G, f"Goroutines{_NO_GO}"),
    Metric("go_gc_gogc_percent", G, f"Target size of the heap{_NO_GO}"),
    Metric("go_gc_gomemlimit_bytes", G, f"Memory limit{_NO_GO}"),
    Metric("go_memstats_alloc_bytes", G, f"Bytes in use of the heap{_NO_GO}"),
    Metric("go_memstats_alloc_bytes_total", C, f"Bytes allocated so far in the heap{_NO_GO}"),
    Metric("go_memstats_buck_hash_sys_bytes", G, f"Profiling table{_NO_GO}"),
    Metric("go_memstats_frees_total", C, f"Objects freed so far in the heap{_NO_GO}"),
    Metric("go_memstats_gc_sys_bytes", G, f"Metadata of the collector{_NO_GO}"),
    Metric("go_memstats_heap_alloc_bytes", G, f"Bytes in use of the heap{_NO_GO}"),
    Metric("go_memstats_heap_idle_bytes", G, f"Idle spans of the heap{_NO_GO}"),
    Metric("go_memstats_heap_inuse_bytes", G, f"Spans in use of the heap{_NO_GO}"),
    Metric("go_memstats_heap_objects", G, f"Objects of the heap{_NO_GO}"),
    Metric("go_memstats_heap_released_bytes", G, f"Bytes returned by the heap{_NO_GO}"),
    Metric("go_memstats_heap_sys_bytes", G, f"Bytes obtained for the heap{_NO_GO}"),
    Metric("go_memstats_last_gc_time_seconds", G, f"Last collection of the heap{_NO_GO}"),
    Metric("go_memstats_mallocs_total", C, f"Objects allocated so far in the heap{_NO_GO}"),
    Metric("go_memstats_mcache_inuse_bytes", G, f"Caches in use of the heap{_NO_GO}"),
    Metric("go_memstats_mcache_sys_bytes", G, f"Bytes obtained for caches of the heap{_NO_GO}"),
    Metric("go_memstats_mspan_inuse_bytes", G, f"Span records in use of the heap{_NO_GO}"),
    Metric("go_memstats_mspan_sys_bytes", G, f"Bytes obtained for span records of the heap{_NO_GO}"),
    Metric("go_memstats_next_gc_bytes", G, f"Size of the heap at its next collection{_NO_GO}"),
    Metric("go_memstats_other_sys_bytes", G, f"Other bytes obtained by the allocator{_NO_GO}"),
    Metric("go_memstats_stack_inuse_bytes", G, f"Stacks of goroutines{_NO_GO}"),
    Metric("go_memstats_stack_sys_bytes", G, f"Bytes obtained for stacks of goroutines{_NO_GO}"),
    Metric("go_memstats_sys_bytes", G, f"Bytes obtained from the system by the allocator{_NO_GO}"),
    # The process
    Metric("os_fd_used", G, "Open file descriptors."),
    Metric("os_fd_limit", G, "Limit of open file descriptors."),
    Metric("process_cpu_seconds_total", C, "CPU time in seconds."),
    Metric("process_max_fds", G, "Limit of open file descriptors."),
    Metric("process_open_fds", G, "Open file descriptors."),
    Metric("process_resident_memory_bytes", G, "Resident memory."),
    Metric("process_start_time_seconds", G, "Start of the process, in seconds since 1970."),
    Metric("process_virtual_memory_bytes", G, "Virtual memory."),
    Metric("process_virtual_memory_max_bytes", G, "Limit of virtual memory."),
    Metric("process_network_receive_bytes_total", C, "Bytes received in the network namespace of the process."),
    Metric("process_network_transmit_bytes_total", C, "Bytes sent in the network namespace of the process."),
    Metric("promhttp_metric_handler_requests_total", C, "Scrapes by status.", ("code",)),
    Metric("promhttp_metric_handler_requests_in_flight", G, "Scrapes being served."),
)

METRICS: Mapping[str, Metric] = {row.name: row for row in _ROWS}
