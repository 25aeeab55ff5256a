"""The flags of all commands of tercetctl. Each has an environment variable: ETCDCTL_ENDPOINTS for --endpoints."""

from __future__ import annotations

from tercet.cli.ctl.flags import Flag

SECOND = 10**9  # durations are in nanoseconds
FORMATS = ("fields", "json", "protobuf", "simple", "table")

GLOBAL_FLAGS = (
    Flag("endpoints", "list", ["127.0.0.1:2379"], "addresses of members, separated by commas"),
    Flag("write-out", "string", "simple", "output format: fields, json, protobuf, simple or table", short="w", choices=FORMATS),
    Flag("hex", "bool", False, "print keys, values and IDs in hexadecimal"),
    Flag("debug", "bool", False, "print the effective settings to stderr"),
    Flag("dial-timeout", "duration", 2 * SECOND, "time to connect to one endpoint"),
    Flag("command-timeout", "duration", 5 * SECOND, "time for a request, retries included"),
    Flag("keepalive-time", "duration", 2 * SECOND, "time without traffic after which a connection is checked; at least 10 s"),
    Flag("keepalive-timeout", "duration", 6 * SECOND, "time for the answer to such a check"),
    Flag("max-request-bytes", "int", 0, "largest request to send, in bytes; 0 means 2 MiB"),
    Flag("max-recv-bytes", "int", 0, "largest response to accept, in bytes; 0 means 2 GiB"),
    Flag("insecure-transport", "bool", True, "do not use TLS for endpoints without a scheme, unless certificates are given"),
    Flag("insecure-skip-tls-verify", "bool", False, "accept any server certificate; for tests only"),
    Flag("insecure-discovery", "bool", True, "accept endpoints without TLS from --discovery-srv"),
    Flag("cert", "string", "", "file with this client's TLS certificate"),
    Flag("key", "string", "", "file with the key of --cert"),
    Flag("cacert", "string", "", "file with the CA certificates that sign the servers' certificates"),
    Flag("auth-jwt-token", "string", "", "JWT that authenticates, instead of --user and --password"),
    Flag("user", "string", "", "name[:password] that authenticates; the password is asked for if it is missing"),
    Flag("password", "string", "", "password of --user, which is then the name alone"),
    Flag("discovery-srv", "string", "", "DNS domain whose SRV records list the endpoints", short="d"),
    Flag("discovery-srv-name", "string", "", "suffix of the service name in these records"),
)
