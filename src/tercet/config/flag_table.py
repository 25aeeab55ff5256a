"""Every flag of the server: name, type, default, path in the config file, help text, and whether it has an effect.

Command line, environment, config file, --help, docs/flags.md and the fields of ServerConfig are derived from these rows; a
test compares the two written by hand (ServerConfig, docs/flags.md) with them.

Source: etcd 3.7's flags; the retired ones are those of 3.4 to 3.6.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from tercet.config.flags import Flag, Kind, Retired, Support

_GO_TYPES = {
    Kind.STRING: "string",
    Kind.BOOL: "bool",
    Kind.UINT: "uint",
    Kind.UINT32: "uint32",
    Kind.INT: "int",
    Kind.DURATION: "time.Duration",
    Kind.URLS: "string",
    Kind.ORIGINS: "string",
    Kind.SET: "string",
    Kind.LIST: "[]string",
    Kind.CHOICE: "string",
    Kind.GATES: "string",
}

S, B, U, N, D = Kind.STRING, Kind.BOOL, Kind.UINT, Kind.INT, Kind.DURATION


def _flag(
    name: str,
    kind: Kind,
    default: str,
    help: str,
    *,
    path: str | None = None,
    go_type: str = "",
    choices: tuple[str, ...] = (),
    no_effect: str = "",
    refused: str = "",
) -> Flag:
    """path: dotted, `-` for none, the flag's own name if not given. no_effect, refused: why the flag is ignored or refused."""
    keys = () if path == "-" else tuple((path or name).split("."))
    return Flag(
        name,
        kind,
        default,
        help,
        path=keys,
        go_type=go_type or _GO_TYPES[kind],
        choices=choices,
        support=Support.IGNORED if no_effect else Support.REFUSED if refused else Support.WORKS,
        reason=no_effect or refused,
    )


V2_DISCOVERY: Final = "--discovery (v2) was removed from etcd; use --discovery-endpoints and --discovery-token"

_MEMBER = [
    _flag("name", S, "default", "Name of this member, unique in the cluster."),
    _flag("data-dir", S, "", "Data directory; <name>.etcd if empty."),
    _flag("wal-dir", S, "", "Directory of the write-ahead log; <data-dir>/member/wal if empty."),
    _flag("snapshot-count", U, "10000", "Number of applied entries after which the raft log is compacted.", go_type="uint64"),
    _flag(
        "snapshot-catchup-entries",
        U,
        "5000",
        "Number of entries kept after compaction of the raft log, for slow followers.",
        go_type="uint64",
    ),
    _flag("heartbeat-interval", U, "100", "Milliseconds between heartbeats of the leader."),
    _flag("election-timeout", U, "1000", "Milliseconds without a heartbeat after which a follower starts an election."),
    _flag("initial-election-tick-advance", B, "true", "Shorten the first election timeout after start."),
    _flag("listen-peer-urls", Kind.URLS, "http://localhost:2380", "URLs to listen on for peers."),
    _flag(
        "listen-client-urls",
        Kind.URLS,
        "http://localhost:2379",
        "URLs to listen on for clients: gRPC, and HTTP unless --listen-client-http-urls is set.",
    ),
    _flag(
        "listen-client-http-urls", Kind.URLS, "", "URLs to listen on for HTTP only; --listen-client-urls then serve gRPC only."
    ),
    _flag("max-snapshots", U, "5", "Number of snapshot files to keep (0: all).", no_effect="there are no snapshot files"),
    _flag(
        "max-wals",
        U,
        "5",
        "Number of write-ahead log files to keep (0: all).",
        no_effect="the log keeps the segments that it needs",
    ),
    _flag(
        "memory-mlock",
        B,
        "false",
        "Lock the database in memory.",
        path="memory-mlock",
        no_effect="the kernel pages the mapped database",
    ),
    _flag(
        "quota-backend-bytes",
        N,
        "0",
        "Database size at which writes are rejected and the NOSPACE alarm is raised (0: 2 GiB; negative: no limit).",
        go_type="int64",
    ),
    _flag("backend-bbolt-freelist-type", S, "", "Free list type of bbolt.", no_effect="there is no bbolt file"),
    _flag("backend-batch-interval", D, "0s", "Maximum time between commits of the backend (0: 100ms)."),
    _flag("backend-batch-limit", N, "0", "Maximum number of operations in a commit of the backend (0: 10000)."),
    _flag("max-txn-ops", U, "128", "Maximum number of operations in a transaction."),
    _flag("max-request-bytes", U, "1572864", "Maximum size of a client request in bytes."),
    _flag("max-concurrent-streams", Kind.UINT32, "4294967295", "Maximum number of concurrent streams of a client connection."),
    _flag("grpc-keepalive-min-time", D, "5s", "Minimum time between pings of a client, or it is disconnected (0: 5m)."),
    _flag("grpc-keepalive-interval", D, "2h0m0s", "Interval of the server's pings to clients (0: none)."),
    _flag(
        "grpc-keepalive-timeout",
        D,
        "20s",
        "Time to wait for the answer to a ping before the connection is closed (0: 20s, and pings every 2h).",
    ),
    _flag("socket-reuse-port", B, "false", "Set SO_REUSEPORT on listeners.", path="socket-options.reuse-port"),
    _flag("socket-reuse-address", B, "false", "Set SO_REUSEADDR on listeners.", path="socket-options.reuse-address"),
    _flag("enable-grpc-gateway", B, "true", "Serve the JSON gateway at /v3/."),
    _flag("raft-read-timeout", D, "5s", "Close a connection from a peer after this time without data (at least 5s).", path="-"),
    _flag(
        "raft-write-timeout",
        D,
        "5s",
        "Close a connection to a peer that accepts no data for this time (at least 5s).",
        path="-",
    ),
]

_DISCOVERY = "discovery-config.client."
_CLUSTERING = [
    _flag(
        "initial-advertise-peer-urls", Kind.URLS, "http://localhost:2380", "This member's peer URLs, as its peers dial them."
    ),
    _flag("advertise-client-urls", Kind.URLS, "http://localhost:2379", "This member's client URLs, as clients dial them."),
    _flag("initial-cluster", S, "default=http://localhost:2380", "Members of the cluster at bootstrap: name=URL,name=URL."),
    _flag(
        "initial-cluster-state",
        Kind.CHOICE,
        "new",
        "Whether to bootstrap a new cluster or to join an existing one; ignored once this member has data.",
        choices=("new", "existing"),
    ),
    _flag("initial-cluster-token", S, "etcd-cluster", "Token of the cluster, hashed into cluster and member IDs at bootstrap."),
    _flag(
        "discovery-endpoints",
        Kind.SET,
        "",
        "Endpoints of the discovery service.",
        path=_DISCOVERY + "endpoints",
    ),
    _flag("discovery-token", S, "", "Token of this cluster in the discovery service.", path="discovery-config.token"),
    _flag("discovery-dial-timeout", D, "2s", "Dial timeout of discovery.", path=_DISCOVERY + "dial-timeout"),
    _flag("discovery-request-timeout", D, "5s", "Request timeout of discovery.", path=_DISCOVERY + "request-timeout"),
    _flag("discovery-keepalive-time", D, "2s", "Keepalive interval of discovery.", path=_DISCOVERY + "keepalive-time"),
    _flag("discovery-keepalive-timeout", D, "6s", "Keepalive timeout of discovery.", path=_DISCOVERY + "keepalive-timeout"),
    _flag("discovery-insecure-transport", B, "true", "Discovery without TLS.", path=_DISCOVERY + "secure.insecure-transport"),
    _flag(
        "discovery-insecure-skip-tls-verify",
        B,
        "false",
        "Do not verify the certificate of the discovery service.",
        path=_DISCOVERY + "secure.insecure-skip-tls-verify",
    ),
    _flag("discovery-cert", S, "", "Client certificate for discovery.", path=_DISCOVERY + "secure.cert"),
    _flag("discovery-key", S, "", "Key of that certificate.", path=_DISCOVERY + "secure.key"),
    _flag("discovery-cacert", S, "", "CA of the discovery service.", path=_DISCOVERY + "secure.cacert"),
    _flag("discovery-user", S, "", "User name for discovery.", path=_DISCOVERY + "auth.username"),
    _flag("discovery-password", S, "", "Password for discovery.", path=_DISCOVERY + "auth.password"),
    _flag("discovery-fallback", Kind.CHOICE, "exit", "What to do if discovery fails.", path="-", choices=("exit", "proxy")),
    _flag("discovery", S, "", "URL of a v2 discovery service, which etcd no longer supports.", refused=V2_DISCOVERY),
    _flag("discovery-srv", S, "", "DNS domain whose SRV records name the members."),
    _flag("discovery-srv-name", S, "", "Suffix of the service name in those records."),
    _flag("strict-reconfig-check", B, "true", "Reject membership changes that would cost the cluster its quorum."),
    _flag(
        "pre-vote", B, "true", "Use raft's PreVote, so that a partitioned member does not disrupt the cluster on its return."
    ),
    _flag("auto-compaction-mode", S, "periodic", "Unit of --auto-compaction-retention: periodic (time) or revision."),
    _flag(
        "auto-compaction-retention",
        S,
        "0",
        "History to keep: hours or a duration (periodic), or a number of revisions; 0: all.",
    ),
    _flag(
        "v2-deprecation",
        Kind.CHOICE,
        "write-only",
        "Deprecation stage of the v2 store.",
        choices=("write-only", "write-only-skip-check", "write-only-drop-data", "gone"),
        no_effect="there is no v2 store",
    ),
]

_C, _P = "client-transport-security.", "peer-transport-security."
_SECURITY = [
    _flag("cert-file", S, "", "Server certificate for clients (PEM).", path=_C + "cert-file"),
    _flag("key-file", S, "", "Key of that certificate.", path=_C + "key-file"),
    _flag(
        "client-cert-file", S, "", "Certificate that this member uses as a client of its own API.", path=_C + "client-cert-file"
    ),
    _flag("client-key-file", S, "", "Key of that certificate.", path=_C + "client-key-file"),
    _flag("client-cert-auth", B, "false", "Require a client certificate.", path=_C + "client-cert-auth"),
    _flag("client-crl-file", S, "", "Revocation list for client certificates (PEM or DER).", path="-"),
    _flag(
        "client-cert-allowed-hostname",
        Kind.LIST,
        "",
        "Host names of which a client certificate must contain one.",
        path=_C + "allowed-hostname",
    ),
    _flag("trusted-ca-file", S, "", "CA of client certificates; setting it requires one.", path=_C + "trusted-ca-file"),
    _flag("auto-tls", B, "false", "Generate a self-signed server certificate for clients.", path=_C + "auto-tls"),
    _flag("peer-cert-file", S, "", "Server certificate for peers (PEM).", path=_P + "cert-file"),
    _flag("peer-key-file", S, "", "Key of that certificate.", path=_P + "key-file"),
    _flag("peer-client-cert-file", S, "", "Client certificate for dialing peers.", path=_P + "client-cert-file"),
    _flag("peer-client-key-file", S, "", "Key of that certificate.", path=_P + "client-key-file"),
    _flag("peer-client-cert-auth", B, "false", "Require a certificate from peers.", path=_P + "client-cert-auth"),
    _flag("peer-trusted-ca-file", S, "", "CA of peer certificates; setting it requires one.", path=_P + "trusted-ca-file"),
    _flag("peer-auto-tls", B, "false", "Generate a self-signed certificate for peers.", path=_P + "auto-tls"),
    _flag("peer-crl-file", S, "", "Revocation list for peer certificates (PEM or DER).", path="-"),
    _flag("peer-cert-allowed-cn", Kind.LIST, "", "CNs of which a peer certificate must have one.", path=_P + "allowed-cn"),
    _flag(
        "peer-cert-allowed-hostname",
        Kind.LIST,
        "",
        "Host names of which a peer certificate must contain one.",
        path=_P + "allowed-hostname",
    ),
    _flag(
        "peer-skip-client-san-verification",
        B,
        "false",
        "Do not check a peer's address against the SANs of its certificate.",
        path=_P + "skip-client-san-verification",
    ),
    _flag("self-signed-cert-validity", U, "1", "Validity of certificates made by --auto-tls and --peer-auto-tls, in years."),
    _flag("cipher-suites", Kind.LIST, "", "TLS 1.2 cipher suites by Go's names; empty: a safe default."),
    _flag("tls-min-version", S, "TLS1.2", "Minimum TLS version: TLS1.2 or TLS1.3."),
    _flag("tls-max-version", S, "", "Maximum TLS version: TLS1.2 or TLS1.3; empty: the newest."),
    _flag("cors", Kind.ORIGINS, "*", "Origins allowed by CORS; *: all."),
    _flag("host-whitelist", Kind.SET, "*", "Host names accepted in HTTP requests without TLS; *: all."),
]

_AUTH = [
    _flag("auth-token", S, "simple", "Token type: simple, or jwt with its options."),
    _flag("bcrypt-cost", U, "10", "bcrypt cost of password hashes, 4 to 31."),
    _flag("auth-token-ttl", U, "300", "Lifetime of a simple token in seconds."),
]

_MONITORING = [
    _flag("enable-pprof", B, "false", "Serve profiles of the Go runtime.", no_effect="there is no Go runtime to profile"),
    _flag("metrics", S, "basic", "basic, or extensive: adds latency histograms of each gRPC method."),
    _flag("listen-metrics-urls", Kind.URLS, "", "Additional URLs to listen on for /metrics and the health checks only."),
]

_LOGGING = [
    _flag("logger", S, "zap", "Log format family; only zap is supported."),
    _flag(
        "log-outputs",
        Kind.SET,
        "default",
        "default (stderr), stderr, stdout, systemd/journal, or file paths.",
        go_type="[]string",
    ),
    _flag("log-level", S, "info", "debug, info, warn, error, dpanic, panic or fatal."),
    _flag("log-format", S, "json", "json or console."),
    _flag("enable-log-rotation", B, "false", "Rotate the log file."),
    _flag(
        "log-rotation-config-json",
        S,
        '{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}',
        "Rotation: size in megabytes, age in days, number of old files, local time in their names, gzip.",
    ),
]

_TRACING = [
    _flag(
        "enable-distributed-tracing",
        B,
        "false",
        "Send traces to an OTLP collector.",
        no_effect="there is no exporter of traces",
    ),
    _flag(
        "distributed-tracing-address",
        S,
        "localhost:4317",
        "Address of the collector.",
        no_effect="there is no exporter of traces",
    ),
    _flag("distributed-tracing-service-name", S, "etcd", "Service name in traces.", no_effect="there is no exporter of traces"),
    _flag(
        "distributed-tracing-instance-id", S, "", "Service instance ID in traces.", no_effect="there is no exporter of traces"
    ),
    _flag(
        "distributed-tracing-sampling-rate", N, "0", "Sampled spans per million.", no_effect="there is no exporter of traces"
    ),
]

_FEATURES = [
    _flag("feature-gates", Kind.GATES, "", "Feature gates to set: A=true,B=false."),
    _flag("warning-apply-duration", D, "100ms", "Log a warning when applying a request takes longer."),
    _flag(
        "warning-unary-request-duration",
        D,
        "0s",
        "Log a warning when a unary request takes longer (0: 300ms).",
    ),
    _flag("corrupt-check-time", D, "0s", "Interval of comparing hashes with the other members (0: never)."),
    _flag("compact-hash-check-time", D, "1m0s", "Interval at which the leader compares compaction hashes."),
    _flag("compaction-batch-limit", N, "0", "Maximum number of revisions deleted in one step of a compaction (0: 1000)."),
    _flag("compaction-sleep-interval", D, "0s", "Pause between two steps of a compaction (0: 10ms)."),
    _flag("watch-progress-notify-interval", D, "0s", "Interval of progress notifications to watchers (0: 10m)."),
    _flag("downgrade-check-time", D, "5s", "Interval of checking the status of a downgrade (0: never)."),
    _flag(
        "bootstrap-defrag-threshold-megabytes",
        U,
        "0",
        "Defragment at start if that frees at least this much.",
    ),
    _flag("max-learners", N, "1", "Maximum number of learners in the cluster."),
]

_UNSAFE = [
    _flag("force-new-cluster", B, "false", "Restart as a one-member cluster with this member's data."),
    _flag("unsafe-no-fsync", B, "false", "Do not fsync the write-ahead log: a power failure loses acknowledged writes."),
]

_PROGRAM = [
    _flag("config-file", S, "", "YAML or JSON file to read the configuration from; other flags are then ignored.", path="-"),
    _flag("version", B, "false", "Print the version and exit.", path="-"),
]


def _rows() -> Iterator[Flag]:
    groups = {
        "Member": _MEMBER,
        "Clustering": _CLUSTERING,
        "Security": _SECURITY,
        "Auth": _AUTH,
        "Monitoring": _MONITORING,
        "Logging": _LOGGING,
        "Distributed tracing": _TRACING,
        "Features": _FEATURES,
        "Unsafe": _UNSAFE,
        "Program": _PROGRAM,
    }
    for group, rows in groups.items():
        for row in rows:
            yield row._replace(group=group)


FLAGS: Mapping[str, Flag] = {flag.name: flag for flag in _rows()}


def _retired() -> Iterator[Retired]:
    renamed = (
        "corrupt-check-time compact-hash-check-time compaction-batch-limit compaction-sleep-interval max-learners "
        "watch-progress-notify-interval warning-apply-duration warning-unary-request-duration downgrade-check-time "
        "memory-mlock bootstrap-defrag-threshold-megabytes snapshot-catchup-entries peer-skip-client-san-verification "
        "enable-distributed-tracing distributed-tracing-address distributed-tracing-service-name "
        "distributed-tracing-instance-id distributed-tracing-sampling-rate backend-bbolt-freelist-type"
    )
    for name in renamed.split():
        yield Retired(f"experimental-{name}", FLAGS[name].kind, now=name)
    yield Retired("experimental-snapshot-catch-up-entries", U, now="snapshot-catchup-entries")
    gates = {
        "compact-hash-check-enabled": "CompactHashCheck",
        "initial-corrupt-check": "InitialCorruptCheck",
        "enable-lease-checkpoint": "LeaseCheckpoint",
        "enable-lease-checkpoint-persist": "LeaseCheckpointPersist",
        "stop-grpc-service-on-defrag": "StopGRPCServiceOnDefrag",
        "txn-mode-write-with-shared-buffer": "TxnModeWriteWithSharedBuffer",
    }
    for name, gate in gates.items():
        yield Retired(f"experimental-{name}", B, gate=gate)
    yield Retired("log-output", Kind.SET, now="log-outputs")
    for name in ("enable-v2", "debug"):
        yield Retired(name, B)
    texts = "experimental-enable-v2v3 discovery-proxy log-package-levels next-cluster-version-compatible"
    for name in texts.split():
        yield Retired(name, S)
    yield Retired("proxy", Kind.CHOICE, choices=("off", "readonly", "on"))
    for name in ("failure-wait", "refresh-interval", "dial-timeout", "write-timeout", "read-timeout"):
        yield Retired(f"proxy-{name}", U)


RETIRED: Mapping[str, Retired] = {flag.name: flag for flag in _retired()}
KNOWN: Mapping[str, Flag | Retired] = {**FLAGS, **RETIRED}

IGNORED = (
    "cluster-active-size",
    "cluster-remove-delay",
    "cluster-sync-interval",
    "config",
    "force",
    "max-result-buffer",
    "max-retry-attempts",
    "peer-heartbeat-interval",
    "peer-election-timeout",
    "retry-interval",
    "snapshot",
    "v",
    "vv",
    "test.coverprofile",
    "test.outputdir",
)
"""Flags of etcd 0.x, accepted and ignored without a warning, as by etcd."""
