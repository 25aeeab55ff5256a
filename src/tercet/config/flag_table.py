"""Every flag of the server, once: name, type, default, place in the config file, and what it is for.

Command line, environment, config file, --help, docs/flags.md and the fields of ServerConfig all come from these rows; a test
compares the two that Python wants written out (ServerConfig, docs/flags.md) with them.

Source: etcd 3.7's flags; the retired ones are those of 3.4 to 3.6.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tercet.config.feature_gates import GATES
from tercet.config.flags import Flag, Kind, Retired

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

S, B, U, N, D = Kind.STRING, Kind.BOOL, Kind.UINT, Kind.INT, Kind.DURATION  # short, since the rows below are a table


def _flag(
    name: str,
    kind: Kind,
    default: str,
    help: str,
    *,
    path: str | None = None,
    go_type: str = "",
    choices: tuple[str, ...] = (),
    used: bool = True,
) -> Flag:
    """path: dotted, `-` for none, the flag's own name if not given."""
    keys = () if path == "-" else tuple((path or name).split("."))
    return Flag(
        name,
        kind,
        default,
        help,
        path=keys,
        go_type=go_type or _GO_TYPES[kind],
        choices=choices,
        is_used=used,
    )


_MEMBER = [
    _flag("name", S, "default", "Name of this member, for people and for --initial-cluster."),
    _flag("data-dir", S, "", "Directory of this member's data; <name>.etcd if empty."),
    _flag("wal-dir", S, "", "Directory of the write-ahead log, if it is to be on a disk of its own."),
    _flag("snapshot-count", U, "10000", "Applied entries after which the log is cut behind a snapshot.", go_type="uint64"),
    _flag(
        "snapshot-catchup-entries", U, "5000", "Entries kept in memory behind a snapshot for slow followers.", go_type="uint64"
    ),
    _flag("heartbeat-interval", U, "100", "Milliseconds between two heartbeats of the leader."),
    _flag("election-timeout", U, "1000", "Milliseconds without a leader after which a member stands for election."),
    _flag("initial-election-tick-advance", B, "true", "Shorten the first election at start."),
    _flag("listen-peer-urls", Kind.URLS, "http://localhost:2380", "Where this member listens for its peers."),
    _flag("listen-client-urls", Kind.URLS, "http://localhost:2379", "Where this member listens for clients (gRPC and HTTP)."),
    _flag(
        "listen-client-http-urls", Kind.URLS, "", "Where it listens for HTTP alone; --listen-client-urls then serve gRPC alone."
    ),
    _flag("max-snapshots", U, "5", "Snapshot files kept (0: all).", used=False),
    _flag("max-wals", U, "5", "Write-ahead log files kept (0: all).", used=False),
    _flag("memory-mlock", B, "false", "Lock the database in memory.", path="memory-mlock", used=False),
    _flag(
        "quota-backend-bytes", N, "0", "Size at which the store refuses writes (0: 2 GiB; negative: never).", go_type="int64"
    ),
    _flag("backend-bbolt-freelist-type", S, "", "Free list of a database format that this member does not use.", used=False),
    _flag("backend-batch-interval", D, "0s", "Longest time between two commits of the backend (0: 100ms)."),
    _flag("backend-batch-limit", N, "0", "Most operations in one commit of the backend (0: 10000)."),
    _flag("max-txn-ops", U, "128", "Most operations in one transaction."),
    _flag("max-request-bytes", U, "1572864", "Largest request in bytes."),
    _flag("max-concurrent-streams", Kind.UINT32, "4294967295", "Most open streams of one client connection."),
    _flag("grpc-keepalive-min-time", D, "5s", "A client that pings more often than this is disconnected."),
    _flag("grpc-keepalive-interval", D, "2h0m0s", "Time between the server's own pings of a client (0: none)."),
    _flag("grpc-keepalive-timeout", D, "20s", "Time to wait for the answer to such a ping before closing (0: for ever)."),
    _flag("socket-reuse-port", B, "false", "Listen with SO_REUSEPORT.", path="socket-options.reuse-port"),
    _flag("socket-reuse-address", B, "false", "Listen with SO_REUSEADDR.", path="socket-options.reuse-address"),
    _flag("enable-grpc-gateway", B, "true", "Serve the JSON gateway under /v3/."),
    _flag("raft-read-timeout", D, "5s", "Longest silence on a connection from a peer (at least 5s).", path="-"),
    _flag("raft-write-timeout", D, "5s", "Longest stall of a write to a peer (at least 5s).", path="-"),
]

_DISCOVERY = "discovery-config.client."
_CLUSTERING = [
    _flag(
        "initial-advertise-peer-urls", Kind.URLS, "http://localhost:2380", "Where the peers of a new cluster reach this one."
    ),
    _flag("advertise-client-urls", Kind.URLS, "http://localhost:2379", "Where clients reach this member."),
    _flag("initial-cluster", S, "default=http://localhost:2380", "Members of a new cluster, as name=URL,name=URL."),
    _flag(
        "initial-cluster-state",
        Kind.CHOICE,
        "new",
        "Whether this member founds a cluster or joins one; without effect once it has data.",
        choices=("new", "existing"),
    ),
    _flag("initial-cluster-token", S, "etcd-cluster", "Text mixed into the IDs of a new cluster, so that two do not meet."),
    _flag("discovery-endpoints", Kind.SET, "", "Cluster to find the peers with.", path=_DISCOVERY + "endpoints", used=False),
    _flag("discovery-token", S, "", "Token of this cluster there.", path="discovery-config.token", used=False),
    _flag("discovery-dial-timeout", D, "2s", "Its dial timeout.", path=_DISCOVERY + "dial-timeout", used=False),
    _flag("discovery-request-timeout", D, "5s", "Its request timeout.", path=_DISCOVERY + "request-timeout", used=False),
    _flag("discovery-keepalive-time", D, "2s", "Its keep-alive period.", path=_DISCOVERY + "keepalive-time", used=False),
    _flag("discovery-keepalive-timeout", D, "6s", "Its keep-alive timeout.", path=_DISCOVERY + "keepalive-timeout", used=False),
    _flag("discovery-insecure-transport", B, "true", "No TLS.", path=_DISCOVERY + "secure.insecure-transport", used=False),
    _flag(
        "discovery-insecure-skip-tls-verify",
        B,
        "false",
        "No check of its certificate.",
        path=_DISCOVERY + "secure.insecure-skip-tls-verify",
        used=False,
    ),
    _flag("discovery-cert", S, "", "Certificate to show there.", path=_DISCOVERY + "secure.cert", used=False),
    _flag("discovery-key", S, "", "Key of that certificate.", path=_DISCOVERY + "secure.key", used=False),
    _flag("discovery-cacert", S, "", "CA that its certificate is checked with.", path=_DISCOVERY + "secure.cacert", used=False),
    _flag("discovery-user", S, "", "User name there.", path=_DISCOVERY + "auth.username", used=False),
    _flag("discovery-password", S, "", "Password there.", path=_DISCOVERY + "auth.password", used=False),
    _flag("discovery-fallback", Kind.CHOICE, "exit", "What to do when discovery fails.", path="-", choices=("exit", "proxy")),
    _flag("discovery", S, "", "URL of a v2 discovery service, which etcd no longer has either.", used=False),
    _flag("discovery-srv", S, "", "DNS domain whose SRV records name the peers.", used=False),
    _flag("discovery-srv-name", S, "", "Suffix of the service name in those records.", used=False),
    _flag("strict-reconfig-check", B, "true", "Refuse changes of membership that would endanger the quorum."),
    _flag("pre-vote", B, "true", "Ask the peers before standing for election."),
    _flag("auto-compaction-mode", S, "periodic", "Whether the retention below is a time or a number of revisions."),
    _flag("auto-compaction-retention", S, "0", "History to keep: hours or a duration (periodic), or revisions; 0: all."),
    _flag(
        "v2-deprecation",
        Kind.CHOICE,
        "write-only",
        "Stage of a store that this member does not have.",
        choices=("write-only", "write-only-skip-check", "write-only-drop-data", "gone", "not-yet"),
        used=False,
    ),
]

_C, _P = "client-transport-security.", "peer-transport-security."
_SECURITY = [
    _flag("cert-file", S, "", "Certificate shown to clients (PEM).", path=_C + "cert-file"),
    _flag("key-file", S, "", "Key of that certificate.", path=_C + "key-file"),
    _flag("client-cert-file", S, "", "Certificate to show when this member is itself a client.", path=_C + "client-cert-file"),
    _flag("client-key-file", S, "", "Key of that certificate.", path=_C + "client-key-file"),
    _flag("client-cert-auth", B, "false", "Require a certificate of each client.", path=_C + "client-cert-auth"),
    _flag("client-crl-file", S, "", "Revoked client certificates (PEM or DER).", path="-"),
    _flag(
        "client-cert-allowed-hostname",
        Kind.LIST,
        "",
        "A client's certificate must be for one of these names.",
        path=_C + "allowed-hostname",
    ),
    _flag("trusted-ca-file", S, "", "CA of client certificates; setting it requires one.", path=_C + "trusted-ca-file"),
    _flag("auto-tls", B, "false", "Make a certificate for clients at first start.", path=_C + "auto-tls"),
    _flag("peer-cert-file", S, "", "Certificate shown to peers (PEM).", path=_P + "cert-file"),
    _flag("peer-key-file", S, "", "Key of that certificate.", path=_P + "key-file"),
    _flag("peer-client-cert-file", S, "", "Certificate to show when dialing a peer.", path=_P + "client-cert-file"),
    _flag("peer-client-key-file", S, "", "Key of that certificate.", path=_P + "client-key-file"),
    _flag("peer-client-cert-auth", B, "false", "Require a certificate of each peer.", path=_P + "client-cert-auth"),
    _flag("peer-trusted-ca-file", S, "", "CA of peers' certificates; setting it requires one.", path=_P + "trusted-ca-file"),
    _flag("peer-auto-tls", B, "false", "Make a certificate for peers at first start.", path=_P + "auto-tls"),
    _flag("peer-crl-file", S, "", "Revoked peer certificates (PEM or DER).", path="-"),
    _flag("peer-cert-allowed-cn", Kind.LIST, "", "A peer's certificate must have one of these CNs.", path=_P + "allowed-cn"),
    _flag(
        "peer-cert-allowed-hostname",
        Kind.LIST,
        "",
        "A peer's certificate must be for one of these names.",
        path=_P + "allowed-hostname",
    ),
    _flag(
        "peer-skip-client-san-verification",
        B,
        "false",
        "Do not compare the names in a peer's certificate with its address.",
        path=_P + "skip-client-san-verification",
    ),
    _flag("self-signed-cert-validity", U, "1", "Years that a certificate made by --auto-tls or --peer-auto-tls is valid."),
    _flag("cipher-suites", Kind.LIST, "", "TLS 1.2 cipher suites by the names Go gives them; empty: a safe default."),
    _flag("tls-min-version", S, "TLS1.2", "Oldest TLS version: TLS1.2 or TLS1.3."),
    _flag("tls-max-version", S, "", "Newest TLS version: TLS1.2 or TLS1.3; empty: the newest there is."),
    _flag("cors", Kind.ORIGINS, "*", "Origins that browsers may call from."),
    _flag("host-whitelist", Kind.SET, "*", "Host names accepted in plain HTTP requests; * or empty: all."),
]

_AUTH = [
    _flag("auth-token", S, "simple", "Kind of token: simple, or jwt with its options."),
    _flag("bcrypt-cost", U, "10", "Work per password hash, 4 to 31."),
    _flag("auth-token-ttl", U, "300", "Lifetime of a simple token in seconds."),
]

_MONITORING = [
    _flag("enable-pprof", B, "false", "Profiles of the Go runtime, which this member does not have.", used=False),
    _flag("metrics", S, "basic", "`extensive` adds the duration of each gRPC method."),
    _flag("listen-metrics-urls", Kind.URLS, "", "Further listeners for /metrics and health alone."),
]

_LOGGING = [
    _flag("logger", S, "zap", "Only zap, the name of etcd's log format."),
    _flag(
        "log-outputs", Kind.SET, "default", "default (stderr), stderr, stdout, systemd/journal, or files.", go_type="[]string"
    ),
    _flag("log-level", S, "info", "debug, info, warn, error, dpanic, panic or fatal."),
    _flag("log-format", S, "json", "json or console."),
    _flag("enable-log-rotation", B, "false", "Rotate the log file."),
    _flag(
        "log-rotation-config-json",
        S,
        '{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}',
        "How: megabytes, days, number of files, names in local time, gzip.",
    ),
]

_TRACING = [
    _flag("enable-distributed-tracing", B, "false", "Send traces to an OTLP collector.", used=False),
    _flag("distributed-tracing-address", S, "localhost:4317", "Address of the collector.", used=False),
    _flag("distributed-tracing-service-name", S, "etcd", "Service name in traces.", used=False),
    _flag("distributed-tracing-instance-id", S, "", "Service instance in traces.", used=False),
    _flag("distributed-tracing-sampling-rate", N, "0", "Traces kept in a million.", used=False),
]

_FEATURES = [
    _flag("feature-gates", Kind.GATES, "", "Gates to set, as A=true,B=false."),
    _flag("warning-apply-duration", D, "100ms", "Applying a request for longer than this is logged."),
    _flag("warning-unary-request-duration", D, "0s", "A unary request that takes longer than this is logged (0: 300ms)."),
    _flag("corrupt-check-time", D, "0s", "Period of comparing hashes with the other members (0: never).", used=False),
    _flag("compact-hash-check-time", D, "1m0s", "Period of the leader's comparison of compaction hashes.", used=False),
    _flag("compaction-batch-limit", N, "0", "Revisions deleted in one step of a compaction (0: 1000)."),
    _flag("compaction-sleep-interval", D, "0s", "Pause between two such steps (0: 10ms)."),
    _flag("watch-progress-notify-interval", D, "0s", "Period of progress notices to watchers (0: 10m)."),
    _flag("downgrade-check-time", D, "5s", "Period of the check whether a downgrade is complete (0: never).", used=False),
    _flag("bootstrap-defrag-threshold-megabytes", U, "0", "Defragment at start if that much would be freed.", used=False),
    _flag("max-learners", N, "1", "Most learners in the cluster."),
]

_UNSAFE = [
    _flag("force-new-cluster", B, "false", "Restart as a cluster of this member alone, with its data."),
    _flag("unsafe-no-fsync", B, "false", "Do not wait for the disk. A power cut then loses acknowledged writes."),
]

_PROGRAM = [
    _flag("config-file", S, "", "Read the configuration from this YAML or JSON file; other flags are then ignored.", path="-"),
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
            yield Flag(
                row.name,
                row.kind,
                row.default,
                row.help,
                group,
                row.path,
                row.go_type,
                row.choices,
                row.is_used,
            )


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
"""Flags of etcd 0.x that are accepted without a word and without effect, as etcd does."""

GATE_NAMES = tuple(gate.name for gate in GATES)
