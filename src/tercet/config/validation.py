"""Validation of settings against each other, in etcd's order and with its texts.

Checks that need files, the network or the cluster's members are made at start, in server/startup_checks.py.

Source: etcd server/embed/config.go (Config.Validate).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tercet.config.feature_gates import resolve_gates
from tercet.config.flag_table import FLAGS, V2_DISCOVERY
from tercet.config.startup_error import Line, warn
from tercet.config.urls import check_bindable, check_has_host, texts
from tercet.errors import ConfigError
from tercet.gotext.duration import format_duration
from tercet.gotext.urls import Url

UNSET_ADVERTISE = "--advertise-client-urls is required when --listen-client-urls is set explicitly"
_ELECTION_MILLISECONDS_MAX = 50_000
_TLS_VERSIONS = {"": 0, "TLS1.2": 0x0303, "TLS1.3": 0x0304}
_DEFAULT_NAME = (
    "it isn't recommended to use default name, please set a value for --name. "
    "Note that etcd might run into issue when multiple members have the same default name"
)


def validate(values: Mapping[str, Any], lines: list[Line]) -> None:
    """values: parsed, by flag name. Raises ConfigError; warnings are appended to `lines`."""
    if values["discovery"]:
        raise ConfigError(V2_DISCOVERY)  # of a file or the environment, where etcd would ignore it and found another cluster
    if values["discovery-fallback"] == "proxy":
        raise ConfigError('v2 proxy is deprecated, and --discovery-fallback can\'t be configured as "proxy"')
    try:
        _check_urls(values, lines)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    _check_bootstrap(values)
    _check_ticks(values["heartbeat-interval"], values["election-timeout"])
    if values["listen-client-urls"] and not values["advertise-client-urls"]:
        raise ConfigError(UNSET_ADVERTISE)
    _check_compaction(values["auto-compaction-mode"])
    if values["enable-distributed-tracing"]:
        _check_tracing(values["distributed-tracing-sampling-rate"])
    _check_gates(values["feature-gates"], lines)
    if values["compact-hash-check-time"] <= 0:
        shown = format_duration(values["compact-hash-check-time"])
        raise ConfigError(f"--compact-hash-check-time must be >0 (set to {shown})")
    if values["name"] == FLAGS["name"].default:
        lines.append(warn(_DEFAULT_NAME, name=values["name"]))
    _check_tls_versions(values["tls-min-version"], values["tls-max-version"], values["cipher-suites"])
    _check_client_http(values["listen-client-urls"], values["listen-client-http-urls"])


def _check_urls(values: Mapping[str, Any], lines: list[Line]) -> None:
    for name in ("listen-peer-urls", "listen-client-urls", "listen-client-http-urls"):
        check_bindable(values[name])
    if not values["listen-client-http-urls"]:
        lines.append(warn("Running http and grpc server on single port. This is not recommended for production."))
    check_bindable(values["listen-metrics-urls"])
    peers, clients = values["initial-advertise-peer-urls"], values["advertise-client-urls"]
    try:
        check_has_host(peers)
    except ValueError as error:
        shown = ",".join(texts(peers))
        raise ConfigError(f'--initial-advertise-peer-urls "{shown}" must be "host:port" ({error})') from error
    try:
        check_has_host(clients)
    except ValueError as error:
        raise ConfigError(
            f'--advertise-client-urls "{",".join(texts(clients))}" must be in the format "host:port", '
            f'"unix:/path/to/socket" or "unixs:/path/to/socket" ({error})'
        ) from error


def _check_bootstrap(values: Mapping[str, Any]) -> None:
    state, endpoints = values["initial-cluster-state"], values["discovery-endpoints"]
    if state not in ("new", "existing"):
        raise ConfigError(f'unexpected clusterState "{state}"')
    initial_cluster = values["initial-cluster"]
    discovered = bool(values["discovery-srv"]), bool(endpoints)
    if initial_cluster == FLAGS["initial-cluster"].default and any(discovered):
        initial_cluster = ""  # a file that discovers its peers does not set it
    if sum((bool(initial_cluster), *discovered)) > 1:
        raise ConfigError(
            "multiple discovery or bootstrap flags are set. "
            'Choose one of "initial-cluster", "discovery-endpoints" or "discovery-srv"'
        )
    if bool(values["discovery-token"]) != bool(endpoints):
        raise ConfigError("both --discovery-token and --discovery-endpoints must be set")
    if any(not endpoint.strip() for endpoint in endpoints):
        raise ConfigError("--discovery-endpoints must not contain empty endpoints")


def _check_ticks(heartbeat: int, election: int) -> None:
    """Both in milliseconds."""
    if heartbeat == 0:
        raise ConfigError("--heartbeat-interval must be >0 (set to 0ms)")
    if election == 0:
        raise ConfigError("--election-timeout must be >0 (set to 0ms)")
    if 5 * heartbeat > election:
        raise ConfigError(
            f"--election-timeout[{election}ms] should be at least as 5 times as --heartbeat-interval[{heartbeat}ms]"
        )
    if election > _ELECTION_MILLISECONDS_MAX:
        raise ConfigError(
            f"--election-timeout[{election}ms] is too long, and should be set less than {_ELECTION_MILLISECONDS_MAX}ms"
        )


def _check_compaction(mode: str) -> None:
    if not mode:
        raise ConfigError("undefined auto-compaction-mode")
    if mode not in ("periodic", "revision"):
        raise ConfigError(f'unknown auto-compaction-mode "{mode}"')


def _check_tracing(per_million: int) -> None:
    wrong = ""
    if per_million < 0:
        wrong = "tracing sampling rate must be positive"
    elif per_million > 1_000_000:
        wrong = "tracing sampling rate must be less than 1000000"
    if wrong:
        raise ConfigError(f"distributed tracing configurition is not valid: ({wrong})")


def _check_gates(named: Mapping[str, bool], lines: list[Line]) -> None:
    gates = resolve_gates(named)
    if gates["LeaseCheckpoint"] and not gates["LeaseCheckpointPersist"]:
        lines.append(
            warn(
                "Detected that checkpointing is enabled without persistence. "
                "Consider enabling feature gate LeaseCheckpointPersist"
            )
        )
    if gates["LeaseCheckpointPersist"] and not gates["LeaseCheckpoint"]:
        raise ConfigError("enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint")


def _check_tls_versions(lowest: str, highest: str, suites: tuple[str, ...]) -> None:
    for version in (lowest, highest):
        if version not in _TLS_VERSIONS:
            raise ConfigError(f'unexpected TLS version "{version}" (must be one of: TLS1.2, TLS1.3)')
    if highest and _TLS_VERSIONS[lowest] > _TLS_VERSIONS[highest]:
        raise ConfigError(f"min version ({lowest}) is greater than max version ({highest})")
    if lowest == "TLS1.3" and suites:
        raise ConfigError("cipher suites cannot be configured when only TLS1.3 is enabled")


def _check_client_http(both: tuple[Url, ...], http: tuple[Url, ...]) -> None:
    taken = {url.address for url in both}
    for url in http:
        if url.address in taken:
            raise ConfigError(f"cannot bind both --listen-client-urls and --listen-client-http-urls on the same url {url}")
