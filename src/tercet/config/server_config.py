"""The validated configuration of a member: one field per flag.

A field has the flag's name with `-` written `_`; durations are in seconds and have the suffix `_seconds`. Values are effective:
a 0 that stands for a default is replaced by it. The fields repeat the rows of `flag_table` for the type checker; a test
compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from tercet.gotext.urls import Url


class ServerConfig(NamedTuple):  # a dataclass of so many fields takes several milliseconds to define
    """Returned by `config.load`.

    heartbeat_interval and election_timeout are in milliseconds, auth_token_ttl in seconds, self_signed_cert_validity in years.
    advertise_client_urls and the other URL lists are sorted by text. feature_gates holds every gate, resolved.
    """

    # Member
    name: str
    data_dir: str
    wal_dir: str
    snapshot_count: int
    snapshot_catchup_entries: int
    heartbeat_interval: int
    election_timeout: int
    initial_election_tick_advance: bool
    listen_peer_urls: tuple[Url, ...]
    listen_client_urls: tuple[Url, ...]
    listen_client_http_urls: tuple[Url, ...]
    max_snapshots: int
    max_wals: int
    memory_mlock: bool
    quota_backend_bytes: int
    backend_bbolt_freelist_type: str
    backend_batch_interval_seconds: float
    backend_batch_limit: int
    max_txn_ops: int
    max_request_bytes: int
    max_concurrent_streams: int
    grpc_keepalive_min_time_seconds: float
    grpc_keepalive_interval_seconds: float
    grpc_keepalive_timeout_seconds: float
    socket_reuse_port: bool
    socket_reuse_address: bool
    enable_grpc_gateway: bool
    raft_read_timeout_seconds: float
    raft_write_timeout_seconds: float

    # Clustering
    initial_advertise_peer_urls: tuple[Url, ...]
    advertise_client_urls: tuple[Url, ...]
    initial_cluster: str
    initial_cluster_state: str
    initial_cluster_token: str
    discovery_endpoints: tuple[str, ...]
    discovery_token: str
    discovery_dial_timeout_seconds: float
    discovery_request_timeout_seconds: float
    discovery_keepalive_time_seconds: float
    discovery_keepalive_timeout_seconds: float
    discovery_insecure_transport: bool
    discovery_insecure_skip_tls_verify: bool
    discovery_cert: str
    discovery_key: str
    discovery_cacert: str
    discovery_user: str
    discovery_password: str
    discovery_fallback: str
    discovery: str
    discovery_srv: str
    discovery_srv_name: str
    strict_reconfig_check: bool
    pre_vote: bool
    auto_compaction_mode: str
    auto_compaction_retention: str
    v2_deprecation: str

    # Security
    cert_file: str
    key_file: str
    client_cert_file: str
    client_key_file: str
    client_cert_auth: bool
    client_crl_file: str
    client_cert_allowed_hostname: tuple[str, ...]
    trusted_ca_file: str
    auto_tls: bool
    peer_cert_file: str
    peer_key_file: str
    peer_client_cert_file: str
    peer_client_key_file: str
    peer_client_cert_auth: bool
    peer_trusted_ca_file: str
    peer_auto_tls: bool
    peer_crl_file: str
    peer_cert_allowed_cn: tuple[str, ...]
    peer_cert_allowed_hostname: tuple[str, ...]
    peer_skip_client_san_verification: bool
    self_signed_cert_validity: int
    cipher_suites: tuple[str, ...]
    tls_min_version: str
    tls_max_version: str
    cors: tuple[str, ...]
    host_whitelist: tuple[str, ...]

    # Auth
    auth_token: str
    bcrypt_cost: int
    auth_token_ttl: int

    # Monitoring
    enable_pprof: bool
    metrics: str
    listen_metrics_urls: tuple[Url, ...]

    # Logging
    logger: str
    log_outputs: tuple[str, ...]
    log_level: str
    log_format: str
    enable_log_rotation: bool
    log_rotation_config_json: str

    # Distributed tracing
    enable_distributed_tracing: bool
    distributed_tracing_address: str
    distributed_tracing_service_name: str
    distributed_tracing_instance_id: str
    distributed_tracing_sampling_rate: int

    # Features
    feature_gates: Mapping[str, bool]
    warning_apply_duration_seconds: float
    warning_unary_request_duration_seconds: float
    corrupt_check_time_seconds: float
    compact_hash_check_time_seconds: float
    compaction_batch_limit: int
    compaction_sleep_interval_seconds: float
    watch_progress_notify_interval_seconds: float
    downgrade_check_time_seconds: float
    bootstrap_defrag_threshold_megabytes: int
    max_learners: int

    # Unsafe
    force_new_cluster: bool
    unsafe_no_fsync: bool

    # Program
    config_file: str
    version: bool

    @property
    def election_ticks(self) -> int:
        """Number of heartbeat intervals in an election timeout."""
        return self.election_timeout // self.heartbeat_interval

    @property
    def request_timeout_seconds(self) -> float:
        """Timeout of a client's request: 5 s for a slow disk and two election timeouts (etcd ServerConfig.ReqTimeout)."""
        return 5 + 2 * self.election_timeout / 1000
