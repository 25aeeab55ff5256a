"""Metrics of a running member, read from its objects at each scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from tercet.config.server_config import ServerConfig
from tercet.http.health import Health
from tercet.lease import LeaseCounts
from tercet.mvcc import Counts, WatchHub
from tercet.peer import PeerStatus, Receptions
from tercet.peer.status import SYNC_BOUNDS, TRANSFER_BOUNDS
from tercet.proto.alarm_names import alarm_name
from tercet.replica.durations import Durations
from tercet.replica.membership import Membership, hex_id
from tercet.replica.replica import Replica
from tercet.server.metrics.durations import apply_durations, range_durations, request_durations, send_durations
from tercet.server.metrics.event_loop import EventLoopMonitor
from tercet.server.metrics.families import Buckets, Labels
from tercet.server.metrics.process import register_health, register_process, register_versions
from tercet.server.metrics.registry import Metrics
from tercet.server.replica_driver import ReplicaDriver
from tercet.server.scheduled_compactions import ScheduledCompactions
from tercet.server.slow_requests import SlowApplies
from tercet.server.tls.expiry import CertificateExpiry
from tercet.server.tls.files import TlsFiles
from tercet.services.cluster import ClusterService
from tercet.services.maintenance import MaintenanceService
from tercet.services.read_timing import ReadDurations
from tercet.services.watch_durations import CONTROL, PER_EVENT, PROGRESS, WATCH_STREAM
from tercet.storage.wal import WAL


class MemberMetrics:
    """The registry of one member's metrics."""

    def __init__(self, config: ServerConfig) -> None:
        self.metrics = Metrics()
        self.metrics.show_unregistered()
        self.fsync_seconds = self.metrics.histogram("etcd_disk_wal_fsync_duration_seconds")
        self.wal_write_seconds = self.metrics.histogram("etcd_disk_wal_write_duration_seconds")
        self.snapshot_record_seconds = self.metrics.histogram("etcd_snap_fsync_duration_seconds")
        self.turn_seconds = self.metrics.histogram("tercet_loop_turn_seconds")
        self.turn_processor_seconds = self.metrics.histogram("tercet_loop_turn_processor_seconds")
        self.commit_seconds = self.metrics.histogram("etcd_disk_backend_commit_duration_seconds")
        self.slow_applies = SlowApplies(config.warning_apply_duration_seconds)
        self.metrics.read("etcd_server_slow_apply_total", lambda: self.slow_applies.count)
        applies = self.slow_applies.timer.durations
        self.metrics.read_buckets("etcd_server_apply_duration_seconds", lambda: apply_durations(applies))
        register_process(self.metrics)
        register_versions(self.metrics, config.feature_gates)

    def watch_member(self, member: ReplicaDriver, monitor: EventLoopMonitor) -> None:
        replica, metrics = member.replica, self.metrics
        backend = replica.backend
        collections = monitor.collections
        metrics.read("tercet_loop_turn_longest_seconds", lambda: monitor.longest_seconds)
        metrics.read_buckets("go_gc_duration_seconds", lambda: [((), collections.counts, collections.sum)])
        metrics.show("etcd_server_id", hex_id(replica.member_id))
        metrics.read("etcd_server_has_leader", lambda: int(bool(replica.leader_id)))
        metrics.read("etcd_server_is_leader", lambda: int(replica.is_leader))
        metrics.read("etcd_server_is_learner", lambda: int(replica.is_learner))
        metrics.read("etcd_server_leader_changes_seen_total", lambda: replica.leader_changes_seen)
        metrics.read("etcd_server_proposals_committed_total", lambda: replica.commit_index)
        metrics.read("etcd_server_proposals_applied_total", lambda: replica.applied_index)
        metrics.read("etcd_server_proposals_pending", lambda: replica.proposal_counts[0])
        metrics.read("etcd_server_proposals_failed_total", lambda: replica.proposal_counts[1])
        metrics.read("etcd_server_read_indexes_failed_total", lambda: replica.read_counts[0])
        metrics.read("etcd_server_slow_read_indexes_total", lambda: replica.read_counts[1])
        metrics.read("etcd_server_heartbeat_send_failures_total", lambda: member.late_heartbeats.count)
        metrics.read("etcd_server_snapshot_apply_in_progress_total", lambda: member.installer.active)
        metrics.read("etcd_server_quota_backend_bytes", lambda: replica.quota.limit_bytes)
        metrics.read("etcd_mvcc_db_total_size_in_bytes", backend.size)
        metrics.read("etcd_mvcc_db_total_size_in_use_in_bytes", backend.size_in_use)
        metrics.read("etcd_mvcc_db_open_read_transactions", lambda: len(backend.open_view_seconds()))
        metrics.read("etcd_debugging_mvcc_current_revision", lambda: replica.revision)
        metrics.read("etcd_debugging_mvcc_compact_revision", lambda: replica.store.compact_revision)
        metrics.read("etcd_debugging_mvcc_keys_total", lambda: len(replica.store.index))
        metrics.read("etcd_debugging_auth_revision", lambda: replica.auth.revision)
        self._watch_operations(replica.counts)
        self._watch_leases(replica.lease_counts)
        self._watch_watches(replica.watches)
        metrics.read_labelled("etcd_cluster_version", lambda: _cluster_version(replica))
        metrics.read_labelled("etcd_debugging_server_alarms", lambda: _alarms(replica))
        self._watch_compactions(member.compactions, replica.counts)
        self._watch_peers(member)

    def watch_reads(self, replica: Replica, reads: ReadDurations) -> None:
        self.metrics.read_buckets("etcd_server_range_duration_seconds", lambda: range_durations(reads.ranges))
        self.metrics.read_buckets(
            "etcd_server_request_duration_seconds", lambda: request_durations(replica.request_durations, reads.requests)
        )

    def watch_sends(self, sends: Durations) -> None:
        prefix = "etcd_debugging_server_watch_send_loop_"
        for kind, name in (
            (WATCH_STREAM, "watch_stream_duration_seconds"),
            (PER_EVENT, "watch_stream_duration_per_event_seconds"),
            (CONTROL, "control_stream_duration_seconds"),
            (PROGRESS, "progress_duration_seconds"),
        ):
            self.metrics.read_buckets(prefix + name, partial(send_durations, sends, kind))

    def watch_log(self, wal: WAL) -> None:
        wal.observe_write = self.wal_write_seconds.observe
        self.metrics.read("etcd_disk_wal_write_bytes_total", lambda: wal.bytes_written)

    def watch_services(self, cluster: ClusterService, maintenance: MaintenanceService) -> None:
        metrics, durations = self.metrics, maintenance.durations
        metrics.read("etcd_server_learner_promote_successes", lambda: cluster.promotions)
        metrics.read_labelled(
            "etcd_server_learner_promote_failures",
            lambda: {(reason,): count for reason, count in cluster.promotion_failures.items()},
        )
        durations.hash_all = metrics.histogram("etcd_mvcc_hash_duration_seconds").observe
        durations.hash_kv = metrics.histogram("etcd_mvcc_hash_rev_duration_seconds").observe
        durations.snapshot = metrics.histogram("etcd_disk_backend_snapshot_duration_seconds").observe
        durations.defragment = metrics.histogram("etcd_disk_backend_defrag_duration_seconds").observe
        metrics.read("etcd_disk_defrag_inflight", lambda: int(durations.defragmentations > 0))

    def _watch_compactions(self, compactions: ScheduledCompactions, counts: Counts) -> None:
        metrics, prefix = self.metrics, "etcd_debugging_mvcc_db_compaction"
        compactions.observe_batch = metrics.histogram(f"{prefix}_pause_duration_milliseconds").observe
        compactions.observe_total = metrics.histogram(f"{prefix}_total_duration_milliseconds").observe
        metrics.read(f"{prefix}_last", lambda: compactions.finished_at)
        metrics.read(f"{prefix}_keys_total", lambda: counts.compacted)

    def _watch_operations(self, counts: Counts) -> None:
        read = self.metrics.read
        read("etcd_mvcc_put_total", lambda: counts.puts)
        read("etcd_mvcc_delete_total", lambda: counts.deletes)
        read("etcd_mvcc_range_total", lambda: counts.ranges)
        read("etcd_debugging_mvcc_range_total", lambda: counts.ranges)
        read("etcd_mvcc_txn_total", lambda: counts.txns)
        read("etcd_debugging_mvcc_total_put_size_in_bytes", lambda: counts.put_bytes)

    def _watch_leases(self, counts: LeaseCounts) -> None:
        read = self.metrics.read
        read("etcd_debugging_lease_granted_total", lambda: counts.granted)
        read("etcd_debugging_lease_revoked_total", lambda: counts.revoked)
        read("etcd_debugging_lease_renewed_total", lambda: counts.renewed)
        read("etcd_debugging_server_lease_expired_total", lambda: counts.expired)
        self.metrics.read_buckets("etcd_debugging_lease_ttl_total", lambda: [((), counts.ttl_counts, counts.ttl_sum)])

    def _watch_watches(self, watches: WatchHub) -> None:
        read = self.metrics.read
        read("etcd_debugging_mvcc_watcher_total", lambda: watches.watches)
        read("etcd_debugging_mvcc_slow_watcher_total", lambda: watches.slow_watches)
        read("etcd_debugging_mvcc_watch_stream_total", lambda: watches.streams)
        read("etcd_debugging_mvcc_events_total", lambda: watches.delivered_events)
        read("etcd_debugging_mvcc_pending_events_total", lambda: watches.pending_events)

    def _watch_peers(self, member: ReplicaDriver) -> None:
        own = hex_id(member.replica.member_id)

        def by_peer(value: Callable[[PeerStatus], float]) -> Callable[[], dict[Labels, float]]:
            return lambda: {(hex_id(status.id),): value(status) for status in _statuses(member)}

        def by_pair(value: Callable[[PeerStatus], float]) -> Callable[[], dict[Labels, float]]:
            return lambda: {(own, hex_id(status.id)): value(status) for status in _statuses(member)}

        read = self.metrics.read_labelled
        members = member.replica.membership
        read("etcd_network_known_peers", lambda: _known(own, members))
        read("etcd_network_active_peers", by_pair(lambda status: int(status.active_since is not None)))
        read("etcd_network_disconnected_peers_total", by_pair(lambda status: status.disconnects))
        read("etcd_network_peer_sent_bytes_total", by_peer(lambda status: status.sent_bytes))
        read("etcd_network_peer_received_bytes_total", by_peer(lambda status: status.received_bytes))
        read("etcd_network_peer_sent_failures_total", by_peer(lambda status: status.sent_failures))
        read("etcd_network_peer_received_failures_total", by_peer(lambda status: status.received_failures))
        self.metrics.read_buckets("etcd_network_peer_round_trip_time_seconds", lambda: _round_trips(member))
        read("etcd_network_snapshot_send_success", by_peer(lambda status: status.snapshots_sent))
        read("etcd_network_snapshot_send_failures", by_peer(lambda status: status.snapshots_failed))

        read("etcd_network_snapshot_send_inflights_total", by_peer(lambda status: status.snapshots_in_flight))
        self.metrics.read_buckets("etcd_network_snapshot_send_total_duration_seconds", lambda: _snapshots_sent(member))
        self._watch_receptions(member)

    def _watch_receptions(self, member: ReplicaDriver) -> None:
        def by_sender(value: Callable[[Receptions], float]) -> Callable[[], dict[Labels, float]]:
            return lambda: {(_sender(sender),): value(one) for sender, one in _receptions(member).items()}

        read = self.metrics.read_labelled
        read("etcd_network_snapshot_receive_success", by_sender(lambda one: one.received))
        read("etcd_network_snapshot_receive_failures", by_sender(lambda one: one.failed))
        read("etcd_network_snapshot_receive_inflights_total", by_sender(lambda one: one.in_flight))
        self.metrics.read_buckets(
            "etcd_network_snapshot_receive_total_duration_seconds",
            lambda: [((_sender(sender),), one.counts, one.sum) for sender, one in _receptions(member).items()],
        )
        self.metrics.read_buckets(
            "etcd_snap_db_save_total_duration_seconds",
            lambda: [_sum(TRANSFER_BOUNDS, ((one.counts, one.sum) for one in _receptions(member).values()))],
        )
        self.metrics.read_buckets(
            "etcd_snap_db_fsync_duration_seconds",
            lambda: [_sum(SYNC_BOUNDS, ((one.sync_counts, one.sync_sum) for one in _receptions(member).values()))],
        )

    def watch_certificates(self, client: TlsFiles, peer: TlsFiles) -> None:
        self.metrics.read_labelled("tercet_tls_certificate_expiry_timestamp_seconds", CertificateExpiry(client, peer))

    def watch_health(self, health: Health) -> None:
        register_health(self.metrics, health.counters)


def _known(own: str, membership: Membership) -> dict[Labels, float]:
    """1 for members, this one included, and 0 for removed ones."""
    known: dict[Labels, float] = {(own, hex_id(one)): 0 for one in membership.removed}
    known.update({(own, hex_id(one)): 1 for one in membership.members})
    return known


def _statuses(member: ReplicaDriver) -> list[PeerStatus]:
    transport = member.transport
    if transport is None:
        return []
    return [status for peer in transport.peers if (status := transport.status(peer)) is not None]


def _receptions(member: ReplicaDriver) -> Mapping[int, Receptions]:
    return member.transport.receptions() if member.transport is not None else {}


def _sender(member_id: int) -> str:
    return hex_id(member_id) if member_id else "UNKNOWN_SNAPSHOT_SENDER"


def _sum(bounds: Sequence[float], histograms: Iterable[tuple[Sequence[int], float]]) -> Buckets:
    """One histogram of those of all senders."""
    counts = [0] * (len(bounds) + 1)
    seconds = 0.0
    for each, total in histograms:
        counts = [one + other for one, other in zip(counts, each, strict=True)]
        seconds += total
    return (), counts, seconds


def _snapshots_sent(member: ReplicaDriver) -> list[Buckets]:
    return [((hex_id(one.id),), one.snapshot_send_counts, one.snapshot_send_sum) for one in _statuses(member)]


def _round_trips(member: ReplicaDriver) -> list[Buckets]:
    return [((hex_id(status.id),), status.round_trip_counts, status.round_trip_sum) for status in _statuses(member)]


def _cluster_version(replica: Replica) -> dict[Labels, float]:
    version = replica.membership.cluster_version
    return {(".".join(version.split(".")[:2]),): 1} if version else {}


def _alarms(replica: Replica) -> dict[Labels, float]:
    return {(hex_id(alarm.memberID), alarm_name(alarm.alarm)): 1 for alarm in replica.alarms.active()}
