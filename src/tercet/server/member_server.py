"""Assembles a member from its configuration, starts it and stops it.

    start: lock, identity, log and backend, replica, peers, publication through the log, client listeners, READY=1
    stop:  client listeners, leadership transfer, peers, replica, log, backend
Source: etcd server/embed/etcd.go (StartEtcd, Close), for the order and the log lines.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial

from tercet.config.initial_cluster import check_initial_members, check_local_member, parse_initial_cluster
from tercet.config.server_config import ServerConfig
from tercet.errors import CorruptRecord, StatusError, strip_traceback
from tercet.log_fields import fields
from tercet.peer import ClusterView, Identity, Limits, NoAnswer, PeerClient, Transport
from tercet.replica.auto_compaction import make_auto_compaction
from tercet.replica.membership import Member, hex_id
from tercet.replica.replica import Options, Replica
from tercet.rpc import Handler, method_table
from tercet.server.auto_compactor import AutoCompactor
from tercet.server.boot_defragmentation import defragment_at_start
from tercet.server.bootstrap import Bootstrap, bootstrap_existing, bootstrap_new, initial_cluster
from tercet.server.client_listeners import ClientListeners, Scrape, make_health
from tercet.server.cluster_version import (
    check_own_version,
    monitor_cluster_version,
    monitor_downgrade,
    stop_below_cluster_version,
)
from tercet.server.connections import PeerConnections
from tercet.server.corruption_check import CorruptionChecker, check_while_leader
from tercet.server.data_directory import Opened, has_log, open_member
from tercet.server.default_host import resolve
from tercet.server.dial_address import dial_address
from tercet.server.discovery import discover, peer_server_name
from tercet.server.hosting import Hosting
from tercet.server.lease_forwarding import LeaseForwarding
from tercet.server.logs import zap_format
from tercet.server.lost_database import LostDatabase, find_members
from tercet.server.member_storage import DiskStorage, Paths
from tercet.server.metrics.event_loop import EventLoopMonitor
from tercet.server.metrics.member import MemberMetrics
from tercet.server.peer_api import PeerApi
from tercet.server.peer_hashes import PeerHashes
from tercet.server.peer_listeners import PeerListeners
from tercet.server.publish import publish
from tercet.server.replica_driver import ReplicaDriver
from tercet.server.slow_calls import SlowCalls
from tercet.server.startup_checks import check_listeners
from tercet.server.startup_line import ends_with, log_directory, log_listeners, log_serving, log_start
from tercet.server.systemd import loading, notify_ready
from tercet.services.auth import AuthService
from tercet.services.authorization import Authorization
from tercet.services.cluster import ClusterService
from tercet.services.election import queue_handlers
from tercet.services.headers import Headers
from tercet.services.health import HealthService
from tercet.services.interceptors import intercept
from tercet.services.kv import KvService
from tercet.services.leader_monitor import LeaderMonitor
from tercet.services.leadership_transfer import transfer_leadership
from tercet.services.lease import LeaseService
from tercet.services.lock import Cleanups
from tercet.services.maintenance import MaintenanceService
from tercet.services.passwords import Passwords
from tercet.services.scheduler import Scheduler
from tercet.services.watch import WatchService
from tercet.version import ETCD_VERSION

logger = logging.getLogger(__name__)

_TRANSFER_SECONDS_MAX = 5.0
_LEASE_CHECKPOINT_SECONDS = 300.0


class MemberServer:
    """One member. `start` returns when it serves clients; `stop` may be called at any time, also during `start`."""

    def __init__(
        self,
        config: ServerConfig,
        *,
        on_failure: Callable[[BaseException], None],
        on_removed: Callable[[], None],
        hosting: Hosting | None = None,
    ) -> None:
        """hosting: of a program that embeds the member."""
        self._config = config
        self._hosting = hosting or Hosting()
        self._clock = self._hosting.clock or asyncio.get_running_loop().time
        self._storage = self._hosting.storage or DiskStorage(config)
        self._on_failure = on_failure
        self._on_removed = on_removed
        self._closing = AsyncExitStack()
        self._stopping = False
        self._member: ReplicaDriver | None = None
        self.watches: WatchService | None = None
        self.scrape: Scrape | None = None
        """Answers /metrics; with `listeners` both are set while clients are served."""
        self.listeners: ClientListeners | None = None

    async def start(self) -> None:
        """Raises ConfigError or StorageFailure if the member cannot start."""
        config = self._config
        if config.unsafe_no_fsync:
            logger.warning("--unsafe-no-fsync: nothing is synced to disk; a power failure loses acknowledged writes")
        hosting, storage = self._hosting, self._storage
        log_directory(config.data_dir)
        await storage.begin(self._closing)
        paths = storage.paths
        log_listeners(config)
        zap_format.write_lines(check_listeners(config))
        peer_listeners = PeerListeners(config, paths.data / "fixtures" / "peer", hosting.sockets)
        self._closing.callback(peer_listeners.close_sockets)
        listeners = ClientListeners(config, paths.data / "fixtures" / "client", hosting)
        self._closing.callback(listeners.close_sockets)
        dial_tls, local_address = peer_listeners.dial_tls, dial_address(config)
        client = PeerClient(dial_tls, local_address=local_address, reaches=hosting.reaches)
        self._closing.push_async_callback(client.close)
        bootstrap = await self._bootstrap(client)
        config = self._config  # with what discovery has found
        if dial_tls is not None and bootstrap is not None:
            dial_tls.server_name = peer_server_name(config)
        metrics = MemberMetrics(config)
        with loading(os.environ if hosting.notifies else {}):
            opened = await self._open(client, bootstrap, metrics)
            member = self._make_member(opened, paths, metrics)
            await defragment_at_start(opened.backend, config.bootstrap_defrag_threshold_megabytes)
        check_own_version(member.replica.membership.cluster_version)
        monitor = EventLoopMonitor(metrics.turn_seconds, metrics.turn_processor_seconds)
        if hosting.measures_turns:
            monitor.start()
        self._closing.callback(monitor.stop)
        metrics.watch_member(member, monitor)
        metrics.watch_certificates(listeners.files, peer_listeners.files)
        log_start(config, paths, opened, is_restart=bootstrap is None, local_address=local_address)
        headers = Headers(member.replica, cluster_id=opened.cluster_id, member_id=opened.member_id)
        authorization = Authorization(member.replica, client_cert_auth=config.client_cert_auth)
        cluster = ClusterService(
            member.replica,
            headers,
            authorization,
            PeerConnections(member, client),
            strict=config.strict_reconfig_check,
            timeout_seconds=config.request_timeout_seconds,
        )
        maintenance = MaintenanceService(
            member.replica, headers, authorization, version=ETCD_VERSION, timeout_seconds=config.request_timeout_seconds
        )
        self._closing.callback(maintenance.snapshot_threads.close)
        scheduler = Scheduler(asyncio.get_running_loop())
        self._closing.callback(scheduler.close)
        leases = LeaseService(
            member.replica,
            headers,
            scheduler,
            authorization,
            LeaseForwarding(client),
            timeout_seconds=config.request_timeout_seconds,
        )
        metrics.watch_services(cluster, maintenance)
        member.compactions.find_hash = maintenance.compaction_hasher.find
        api = PeerApi(member.replica, headers, authorization, cluster, maintenance, leases)
        checker = CorruptionChecker(PeerHashes(member.replica, maintenance, client, opened.cluster_id))
        if bootstrap is None and config.feature_gates["InitialCorruptCheck"] and not member.replica.repair.is_lost:
            await checker.initial_check()
        await self._connect(opened, member, bootstrap, api, paths, peer_listeners, local_address)
        self._begin_tasks(member, client, checker)
        await publish(member.replica, opened.cluster_id, config.name, [url.text for url in config.advertise_client_urls])
        _watch_work(monitor, member.replica, scheduler)
        kv = KvService(
            member.replica,
            headers,
            scheduler,
            authorization,
            txn_ops_max=config.max_txn_ops,
            request_bytes_max=config.max_request_bytes,
        )
        metrics.watch_reads(member.replica, kv.durations)
        watch = WatchService(
            member.replica,
            headers,
            authorization,
            request_bytes_max=config.max_request_bytes,
            progress_seconds=config.watch_progress_notify_interval_seconds,
            fail=member.fail,
        )
        metrics.watch_sends(watch.durations.durations)
        passwords = Passwords(config.bcrypt_cost)
        self._closing.callback(passwords.close)
        auth = AuthService(member.replica, headers, authorization, passwords, scheduler)
        handlers: dict[str, Handler] = {}
        health_service = HealthService()
        if config.feature_gates["StopGRPCServiceOnDefrag"]:
            maintenance.on_defragment = health_service.defragmenting
        for service in (kv, watch, leases, auth, cluster, maintenance, health_service):
            handlers |= service.handlers()
        health = make_health(member, config)
        metrics.watch_health(health)
        leader_monitor = LeaderMonitor(member.replica, election_seconds=config.election_timeout / 1000)
        handlers = intercept(handlers, member.replica, authorization, leader_monitor)
        handlers |= hosting.services
        handlers |= intercept(self._lock_handlers(handlers), member.replica, authorization, leader_monitor)
        if hosting.wrap_handlers is not None:
            handlers = hosting.wrap_handlers(handlers)
        slow_calls = SlowCalls(
            lambda: member.rpc_server.unary_calls() if member.rpc_server else (),
            config.warning_unary_request_duration_seconds,
            metrics.slow_applies,
        )
        handlers = slow_calls.wrap(handlers)
        member.rpc_server = await listeners.open(member, handlers, health, metrics.metrics.scrape)
        metrics.metrics.watch_rpc(member.rpc_server)
        self._closing.push_async_callback(_cancelled, asyncio.get_running_loop().create_task(slow_calls.run()))
        self._closing.push_async_callback(self._leave, member, listeners)
        self._closing.callback(watch.close)
        self.watches, self.scrape, self.listeners = watch, metrics.metrics.scrape, listeners
        log_serving(config, opened.member_id)
        if hosting.notifies:
            notify_ready(os.environ)

    def _lock_handlers(self, handlers: Mapping[str, Handler]) -> dict[str, Handler]:
        """Lock and Election, which call the other services. Those calls are not counted as clients' calls."""
        methods, cleanups = method_table(handlers), Cleanups()
        self._closing.callback(cleanups.close)
        return queue_handlers(methods, cleanups)

    @property
    def member(self) -> ReplicaDriver | None:
        """From the time at which log and backend are open."""
        return self._member

    async def stop(self) -> None:
        """Stop everything that was started. Afterwards all acknowledged writes are on disk and the directory is unlocked."""
        if not self._stopping:
            self._stopping = True
            logger.info("closing etcd server", extra=ends_with(self._config))
            await self._closing.aclose()
            logger.info("closed etcd server", extra=ends_with(self._config))

    # --- steps of the start

    async def _bootstrap(self, client: PeerClient) -> Bootstrap | None:
        """This member's identity on its first start; None on a restart."""
        if has_log(self._storage):
            return None
        config = self._config = await discover(self._config, resolve)
        named = parse_initial_cluster(config.initial_cluster)
        members = initial_cluster(config)
        if self._hosting.is_new_cluster:
            check_initial_members(config, named, resolve)
            return await bootstrap_new(config.name, members, config.initial_cluster_token, _no_answer)
        check = check_local_member if config.initial_cluster_state == "existing" else check_initial_members
        await asyncio.get_running_loop().run_in_executor(None, check, config, named, resolve)
        if config.initial_cluster_state == "existing":
            return await bootstrap_existing(config.name, members, client.members, client.versions_of, client.downgrade_enabled)
        return await bootstrap_new(config.name, members, config.initial_cluster_token, client.members)

    async def _open(self, client: PeerClient, bootstrap: Bootstrap | None, metrics: MemberMetrics) -> Opened:
        """Open log and backend; if the backend is damaged, with another one from the leader to come."""
        work = partial(
            open_member,
            self._config,
            self._storage,
            bootstrap,
            on_failure=self._fail,
            on_corruption=self._on_corruption,
            observe_commit=metrics.commit_seconds.observe,
            clock=self._clock,
        )
        try:
            return work()
        except LostDatabase as lost:
            if self._config.force_new_cluster:
                raise
            members = await find_members(lost, client.members)
        return work(members=members)

    def _make_member(self, opened: Opened, paths: Paths, metrics: MemberMetrics) -> ReplicaDriver:
        config = self._config
        self._closing.callback(opened.backend.close)
        log_store = self._storage.open_log(
            opened.wal,
            asyncio.get_running_loop(),
            self._closing,
            on_failure=self._fail,
            observe_sync=metrics.fsync_seconds.observe,
            observe_snapshot=metrics.snapshot_record_seconds.observe,
        )
        metrics.watch_log(opened.wal)
        gates = config.feature_gates
        options = Options(
            request_timeout_seconds=config.request_timeout_seconds,
            election_timeout_seconds=config.election_timeout / 1000,
            request_bytes_max=config.max_request_bytes,
            snapshot_entries=config.snapshot_count,
            catch_up_entries=config.snapshot_catchup_entries,
            quota_bytes=config.quota_backend_bytes,
            heartbeat_seconds=config.heartbeat_interval / 1000,
            lease_checkpoint_seconds=_LEASE_CHECKPOINT_SECONDS if gates["LeaseCheckpoint"] else 0.0,
            fast_lease_renewal=gates["FastLeaseKeepAlive"],
            prioritize_revokes=gates["PriorityRequest"],
        )
        member = ReplicaDriver(
            opened.raft,
            log_store,
            opened.state_machine,
            options=options,
            apply_timer=metrics.slow_applies.timer,
            snapshot_directory=paths.snapshots,
            tick_seconds=config.heartbeat_interval / 1000,
            compaction_limit=config.compaction_batch_limit or 1000,
            compaction_pause_seconds=config.compaction_sleep_interval_seconds or 0.01,
            on_failure=self._on_failure,
            on_removed=self._on_removed,
            lease_clock=self._clock,
        )
        self._closing.push_async_callback(member.close)
        self._closing.callback(member.stop)
        self._member = member
        mode, retention = config.auto_compaction_mode, config.auto_compaction_retention
        policy = make_auto_compaction(mode, retention, self._clock(), opened.state_machine.store.revision)
        if policy is not None:
            member.auto_compactor = AutoCompactor(member.replica, policy, self._clock)
        return member

    def _fail(self, error: BaseException) -> None:
        """The log or the backend has failed."""
        if self._member is not None:
            self._member.fail(error)
        else:
            self._on_failure(error)

    def _on_corruption(self, record: CorruptRecord) -> None:
        """Reads of the record fail. The alarm tells the other members, and the operator."""
        logger.error("found data corruption, raising the CORRUPT alarm", extra=fields(error=str(record)))
        if self._member is not None:
            self._member.guard(self._member.replica.repair.begin)

    async def _connect(
        self,
        opened: Opened,
        member: ReplicaDriver,
        bootstrap: Bootstrap | None,
        api: PeerApi,
        paths: Paths,
        listeners: PeerListeners,
        local_address: str,
    ) -> None:
        """Start to listen for peers and to dial them: the member takes part in the cluster from here on."""
        config = self._config
        identity = Identity(
            id=opened.member_id,
            cluster_id=opened.cluster_id,
            version=ETCD_VERSION,
            peer_urls=tuple(url.text for url in config.initial_advertise_peer_urls),
        )
        transport = Transport(
            identity,
            member,
            snapshot_directory=paths.snapshots,
            api=api,
            client_tls=listeners.dial_tls,
            dial_timeout=1 + config.election_timeout / 1000,
            local_address=local_address,
            reaches=self._hosting.reaches,
            limits=Limits(read_timeout=config.raft_read_timeout_seconds, write_timeout=config.raft_write_timeout_seconds),
        )
        self._closing.push_async_callback(transport.close)
        await listeners.open(transport.accept)
        self._closing.callback(listeners.stop)
        for one in bootstrap.others if bootstrap else ():
            transport.add_remote(one.id, one.peer_urls)
        wrap = self._hosting.wrap_peers
        member.start(wrap(transport) if wrap is not None else transport)
        alone = set(opened.state_machine.membership.members) == {opened.member_id}
        if alone and config.initial_election_tick_advance:
            member.replica.campaign()  # a single member needs no election timeout

    def _begin_tasks(self, member: ReplicaDriver, client: PeerClient, checker: CorruptionChecker) -> None:
        async def fetch(other: Member) -> str | None:
            versions = (await client.versions_of({other.id: other.peer_urls}))[other.id]
            return versions.get("etcdserver") if versions else None

        config, loop = self._config, asyncio.get_running_loop()
        tasks = [
            monitor_cluster_version(member.replica, fetch),
            stop_below_cluster_version(member.replica, member.fail),
        ]
        if seconds := config.downgrade_check_time_seconds:
            tasks.append(monitor_downgrade(member.replica, fetch, seconds))
        if seconds := config.corrupt_check_time_seconds:
            tasks.append(check_while_leader(member.replica, checker.periodic_check, seconds))
        if config.feature_gates["CompactHashCheck"]:
            seconds = config.compact_hash_check_time_seconds
            tasks.append(check_while_leader(member.replica, checker.compact_hash_check, seconds))
        for work in tasks:
            self._closing.push_async_callback(_cancelled, loop.create_task(work))

    # --- the end

    async def _leave(self, member: ReplicaDriver, listeners: ClientListeners) -> None:
        """Stop serving clients and transfer leadership, so that the cluster does not wait for an election."""
        is_hasty = member.has_failed or self._hosting.stops_at_once
        await listeners.close(0.0 if is_hasty else self._config.request_timeout_seconds)
        replica, transport = member.replica, member.transport
        others = [one for one in replica.voters if one != replica.member_id]
        if is_hasty or transport is None:
            return
        if not replica.is_leader or not others:
            why = " for single voting member cluster" if replica.is_leader else "; local server is not leader"
            shown = fields(local_member_id=hex_id(replica.member_id), current_leader_member_id=hex_id(replica.leader_id))
            logger.info(f"skipped leadership transfer{why}", extra=shown)
            return
        since = {one: active for one in others if (active := transport.active_since(one)) is not None}
        if not since:
            logger.warning("leadership transfer failed", extra=fields(error="no other voter is connected"))
            return
        try:
            await transfer_leadership(replica, min(since, key=lambda one: since[one]), _TRANSFER_SECONDS_MAX)
        except StatusError as error:
            logger.warning("leadership transfer failed", extra=fields(error=strip_traceback(error).message))


def _watch_work(monitor: EventLoopMonitor, replica: Replica, scheduler: Scheduler) -> None:
    """What the log line of a long turn of the event loop names."""
    counts = replica.counts
    monitor.watch("applied_index", lambda: replica.applied_index)
    monitor.watch("apply_steps", lambda: replica.apply_steps)
    monitor.watch("read_slices", lambda: scheduler.slices)
    monitor.watch("puts", lambda: counts.puts)
    monitor.watch("deletes", lambda: counts.deletes)
    monitor.watch("ranges", lambda: counts.ranges)
    monitor.watch("txns", lambda: counts.txns)


async def _no_answer(urls: list[str]) -> ClusterView:
    """The members of a new cluster have not run yet."""
    raise NoAnswer("a new cluster")


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
