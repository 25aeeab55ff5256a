"""The log lines of a start. "starting an etcd server" has the configuration in effect under etcd's field names.

Fields of flags without effect are left out.

Source: etcd server/embed/etcd.go (StartEtcd, print), server/etcdmain/etcd.go (identifyDataDirOrDie).
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable
from typing import Final

from tercet import __version__
from tercet.config.feature_gates import GATES
from tercet.config.server_config import ServerConfig
from tercet.gotext.duration import format_duration, format_seconds
from tercet.gotext.strconv import humanize_bytes
from tercet.gotext.urls import Url
from tercet.log_fields import fields
from tercet.replica.auto_compaction import parse_retention
from tercet.replica.membership import hex_id
from tercet.replica.quota import DEFAULT_BYTES
from tercet.server.data_directory import Opened
from tercet.server.member_storage import Paths
from tercet.version import ETCD_VERSION

logger = logging.getLogger(__name__)

_REQUEST_BYTES_MAX: Final = 10 << 20  # what etcd recommends, as the next
_QUOTA_BYTES_MAX: Final = 8 << 30
_OWN_NAMES: Final = frozenset({"member", "fixtures"})


def log_directory(directory: str) -> None:
    """Whether the member starts for the first time, and what does not belong into its data directory."""
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        names = []  # it does not exist, or `DiskStorage.begin` says why it cannot be used
    for name in names:
        if name not in _OWN_NAMES:
            logger.warning("found invalid file under data directory", extra=fields(filename=name, data_dir=directory))
    if "member" in names:
        logger.info("server has already been initialized", extra=fields(data_dir=directory, dir_type="member"))
    else:
        logger.info("Initialize and start etcd server", extra=fields(data_dir=directory, dir_type="empty"))


def log_listeners(config: ServerConfig) -> None:
    logger.info("configuring peer listeners", extra=fields(listen_peer_urls=_texts(config.listen_peer_urls)))
    logger.info("configuring client listeners", extra=fields(listen_client_urls=_texts(config.listen_client_urls)))


def log_serving(config: ServerConfig, member_id: int) -> None:
    """All listeners are served."""
    logger.info(
        "now serving peer/client/metrics",
        extra=fields(
            local_member_id=hex_id(member_id),
            initial_advertise_peer_urls=_texts(config.initial_advertise_peer_urls),
            listen_peer_urls=_texts(config.listen_peer_urls),
            advertise_client_urls=_texts(config.advertise_client_urls),
            listen_client_urls=_texts(config.listen_client_urls),
            listen_metrics_urls=_texts(config.listen_metrics_urls),
        ),
    )
    logger.info("ready to serve client requests")


def log_start(config: ServerConfig, paths: Paths, opened: Opened, *, is_restart: bool, local_address: str) -> None:
    """is_restart: the member has a log. local_address: from which it dials its peers, or ""."""
    _warn_of_large_requests(config.max_request_bytes)
    _log_quota(config.quota_backend_bytes)
    logger.info(
        "starting an etcd server",
        extra=fields(
            _program()
            | _member(config, paths, is_restart)
            | _addresses(config, local_address)
            | _cluster(config)
            | _discovery(config),
            local_member_id=hex_id(opened.member_id),
            cluster_id=hex_id(opened.cluster_id),
        ),
    )
    ids = {"cluster-id": hex_id(opened.cluster_id), "local-member-id": hex_id(opened.member_id)}
    if is_restart:
        commit_index = opened.raft.commit_index
        logger.info("restarting local member", extra=fields(ids, commit_index=commit_index))
    else:
        logger.info("starting local member", extra=fields(ids))


def _log_quota(quota_bytes: int) -> None:
    """Say what --quota-backend-bytes comes to, as etcd does."""
    quota: dict[str, object] = {"quota-name": "v3-applier", "quota-size-bytes": quota_bytes}
    if quota_bytes < 0:
        logger.info("disabled backend quota", extra=fields(quota))
        return
    quota["quota-size"] = humanize_bytes(quota_bytes)
    if quota_bytes > _QUOTA_BYTES_MAX:
        most: dict[str, object] = {
            "quota-maximum-size-bytes": _QUOTA_BYTES_MAX,
            "quota-maximum-size": humanize_bytes(_QUOTA_BYTES_MAX),
        }
        logger.warning("quota exceeds the maximum value", extra=fields(quota | most))
    default = " with default value" if quota_bytes == DEFAULT_BYTES else ""
    logger.info(f"enabled backend quota{default}", extra=fields(quota))


def ends_with(config: ServerConfig) -> dict[str, object]:
    """The fields of "closing etcd server" and "closed etcd server", for `extra`."""
    return fields(
        name=config.name,
        data_dir=config.data_dir,
        advertise_peer_urls=_texts(config.initial_advertise_peer_urls),
        advertise_client_urls=_texts(config.advertise_client_urls),
    )


def _warn_of_large_requests(bytes_max: int) -> None:
    if bytes_max > _REQUEST_BYTES_MAX:
        shown: dict[str, object] = {
            "max-request-bytes": bytes_max,
            "max-request-size": humanize_bytes(bytes_max),
            "recommended-request-bytes": _REQUEST_BYTES_MAX,
            "recommended-request-size": humanize_bytes(_REQUEST_BYTES_MAX),
        }
        logger.warning("exceeded recommended request limit", extra=fields(shown))


def _program() -> dict[str, object]:
    system = os.uname()
    processors = os.cpu_count() or 1
    return {
        "etcd-version": ETCD_VERSION,
        "git-sha": f"tercet-{__version__}",
        "go-version": f"none (Python {sys.version.split()[0]})",
        "go-os": system.sysname.lower(),
        "go-arch": {"x86_64": "amd64", "aarch64": "arm64"}.get(system.machine, system.machine),
        "max-cpu-set": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else processors,
        "max-cpu-available": processors,
    }


def _member(config: ServerConfig, paths: Paths, is_restart: bool) -> dict[str, object]:
    return {
        "member-initialized": is_restart,
        "name": config.name,
        "data-dir": config.data_dir,
        "wal-dir": config.wal_dir,
        "wal-dir-dedicated": config.wal_dir,
        "member-dir": str(paths.data / "member"),
        "force-new-cluster": config.force_new_cluster,
        "heartbeat-interval": format_seconds(config.heartbeat_interval / 1000),
        "election-timeout": format_seconds(config.election_timeout / 1000),
        "initial-election-tick-advance": config.initial_election_tick_advance,
        "snapshot-count": config.snapshot_count,
        "snapshot-catchup-entries": config.snapshot_catchup_entries,
    }


def _addresses(config: ServerConfig, local_address: str) -> dict[str, object]:
    return {
        "initial-advertise-peer-urls": _texts(config.initial_advertise_peer_urls),
        "listen-peer-urls": _texts(config.listen_peer_urls),
        "advertise-client-urls": _texts(config.advertise_client_urls),
        "listen-client-urls": _texts(config.listen_client_urls),
        "listen-metrics-urls": _texts(config.listen_metrics_urls),
        "local-address": local_address,
        "cors": sorted(config.cors),
        "host-whitelist": sorted(config.host_whitelist),
    }


def _cluster(config: ServerConfig) -> dict[str, object]:
    retention = format_duration(parse_retention(config.auto_compaction_mode, config.auto_compaction_retention))
    return {
        "initial-cluster": config.initial_cluster,
        "initial-cluster-state": config.initial_cluster_state,
        "initial-cluster-token": config.initial_cluster_token,
        "quota-backend-bytes": config.quota_backend_bytes,
        "max-request-bytes": config.max_request_bytes,
        "max-concurrent-streams": config.max_concurrent_streams,
        "pre-vote": config.pre_vote,
        "feature-gates": _changed_gates(config),
        "initial-corrupt-check": config.feature_gates["InitialCorruptCheck"],
        "corrupt-check-time-interval": format_seconds(config.corrupt_check_time_seconds),
        "compact-check-time-interval": format_seconds(config.compact_hash_check_time_seconds),
        "auto-compaction-mode": config.auto_compaction_mode,
        "auto-compaction-retention": retention,  # of revisions as well, as nanoseconds
        "auto-compaction-interval": retention,
        "downgrade-check-interval": format_seconds(config.downgrade_check_time_seconds),
        "max-learners": config.max_learners,
        "v2-deprecation": "write-only",  # the flag is ignored, as by etcd
    }


def _changed_gates(config: ServerConfig) -> str:
    changed = {gate.name: config.feature_gates[gate.name] for gate in GATES if config.feature_gates[gate.name] != gate.default}
    return ",".join(f"{name}={str(is_on).lower()}" for name, is_on in sorted(changed.items()))


def _discovery(config: ServerConfig) -> dict[str, object]:
    return {
        "discovery-token": config.discovery_token,
        "discovery-endpoints": ",".join(config.discovery_endpoints),
        "discovery-dial-timeout": format_seconds(config.discovery_dial_timeout_seconds),
        "discovery-request-timeout": format_seconds(config.discovery_request_timeout_seconds),
        "discovery-keepalive-time": format_seconds(config.discovery_keepalive_time_seconds),
        "discovery-keepalive-timeout": format_seconds(config.discovery_keepalive_timeout_seconds),
        "discovery-insecure-transport": config.discovery_insecure_transport,
        "discovery-insecure-skip-tls-verify": config.discovery_insecure_skip_tls_verify,
        "discovery-cert": config.discovery_cert,
        "discovery-key": config.discovery_key,
        "discovery-cacert": config.discovery_cacert,
        "discovery-user": config.discovery_user,
    }


def _texts(urls: Iterable[Url]) -> list[str]:
    return [url.text for url in urls]
