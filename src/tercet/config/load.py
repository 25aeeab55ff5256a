"""Reads command line, environment and config file into one validated ServerConfig.

Precedence: with a config file, the file and then the defaults; without one, flags, environment variables, defaults. `load` has
no side effects: the log lines that are due are part of its result, a Loaded or a StartupError.

Source: etcd's server/etcdmain/config.go and server/embed/config.go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tercet import __version__
from tercet.config.config_file import read_config_file
from tercet.config.environment import read_environment
from tercet.config.feature_gates import GATES, resolve_gates
from tercet.config.flag_reference import flag_list, usage
from tercet.config.flag_table import FLAGS, IGNORED, KNOWN, RETIRED
from tercet.config.flags import HelpRequested, Kind, Support, UsageError, Value, read_command_line
from tercet.config.log_settings import LogSettings, UnknownLevel, log_settings
from tercet.config.server_config import ServerConfig
from tercet.config.startup_error import Line, StartupError, info, warn
from tercet.config.validation import UNSET_ADVERTISE, validate
from tercet.errors import ConfigError
from tercet.gotext.urls import Url
from tercet.version import ETCD_VERSION

_SHORTEST_TIMEOUT = 5 * 10**9


class Loaded(NamedTuple):
    """A valid configuration, its log settings, and the lines to log first."""

    config: ServerConfig
    settings: LogSettings
    lines: tuple[Line, ...]


def load(
    arguments: Sequence[str],
    environ: Mapping[str, str],
    *,
    find_default_host: Callable[[], str],
    program: str = "tercet",
) -> Loaded:
    """arguments: without the program's name. find_default_host: address of the default route, "" without one.

    Raises StartupError, also for --help and --version (code 0).
    """
    lines: list[Line] = []
    settings: LogSettings | None = None
    try:
        given, rest = _read_flags(arguments, program)
        if rest:
            hint = _PROXIES.get(rest[0], "")
            raise ConfigError(f'"{rest[0]}" is not a valid flag{hint}')
        if given.get("version"):
            raise StartupError("version requested", code=0, out=version_text())
        values, path = _gather(given, environ, lines)
        values = _defaults() | _renamed(values, lines)
        settings = _settings(values)
        if path:
            lines.append(info(_FILE_ALONE_COUNTS, path=path))
        validate(values, lines)
    except ConfigError as error:
        raise _refused(error, [program, *arguments], lines, settings) from error
    lines.append(info("Running: ", args=[program, *arguments]))
    return Loaded(_build(values, find_default_host, lines), settings, tuple(lines))


_PROXIES = {
    "gateway": ": tercet has no gateway; etcd's works in front of tercet, as does any TCP load balancer",
    "grpc-proxy": ": tercet has no grpc-proxy; etcd's works in front of tercet",
}
_DEPRECATED = {
    "max-snapshots": "--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8.",
    "v2-deprecation": "--v2-deprecation is deprecated and scheduled for removal in v3.8. "
    "The default value is enforced, ignoring user input.",
}
_FILE_ALONE_COUNTS = (
    "loaded server configuration, other configuration command line flags and environment variables will be ignored if provided"
)


def version_text() -> str:
    """Four lines, as etcd prints them: scripts count them. Those about Go name Python."""
    import platform

    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return (
        f"etcd Version: {ETCD_VERSION}\n"
        f"Git SHA: tercet-{__version__}\n"
        f"Go Version: none (Python {platform.python_version()})\n"
        f"Go OS/Arch: {platform.system().lower()}/{machine}\n"
    )


def _read_flags(arguments: Sequence[str], program: str) -> tuple[dict[str, Value], list[str]]:
    try:
        return read_command_line(arguments, KNOWN, IGNORED)
    except UsageError as error:
        raise StartupError(str(error), code=2, error_text=f"{error}\n{usage(program)}\n") from error
    except HelpRequested as error:
        raise StartupError("help requested", code=0, error_text=usage(program) + "\n", out=flag_list() + "\n") from error


def _gather(given: dict[str, Value], environ: Mapping[str, str], lines: list[Line]) -> tuple[dict[str, Value], str]:
    """(values that the operator set, path of the config file or "")."""
    path = str(given.get("config-file", "") or environ.get(FLAGS["config-file"].variable, ""))
    if path:
        values = read_config_file(path)
        values |= {name: given[name] for name in ("raft-read-timeout", "raft-write-timeout") if name in given}
        return values | {"config-file": path}, path
    values = read_environment(environ, given.keys(), lines) | given
    for name in ("raft-read-timeout", "raft-write-timeout"):
        timeout = values.get(name)
        if isinstance(timeout, int) and timeout < _SHORTEST_TIMEOUT:
            lines.append(info(f"{name} increased to minimum value: 5s"))
            values[name] = _SHORTEST_TIMEOUT
    if "listen-client-urls" in values and "advertise-client-urls" not in values:
        values["advertise-client-urls"] = ()
    _forget_default_cluster(values)
    return values, ""


def _forget_default_cluster(values: dict[str, Value]) -> None:
    """With discovery, --initial-cluster has no default."""
    found_elsewhere = ("discovery", "discovery-srv", "discovery-srv-name", "discovery-endpoints")
    if "initial-cluster" not in values and any(values.get(name) for name in found_elsewhere):
        values["initial-cluster"] = ""


def _defaults() -> dict[str, Value]:
    return {flag.name: flag.parse(flag.default) for flag in FLAGS.values()}


def _renamed(values: dict[str, Value], lines: list[Line]) -> dict[str, Value]:
    """Values of retired flags under their current names, with a warning each; a value set under the current name wins."""
    gates: dict[str, bool] = {}
    renamed: dict[str, Value] = {}
    for name in values.keys() & RETIRED.keys():
        retired, value = RETIRED[name], values[name]
        lines.append(warn(retired.warning))
        if name == "proxy" and value != "off":
            raise ConfigError("v2 proxy is deprecated, and --proxy can only be 'off'")
        if retired.now:
            renamed[retired.now] = value
        elif retired.gate:
            gates[retired.gate] = bool(value)
    merged = renamed | {name: value for name, value in values.items() if name in FLAGS}
    named = gates | dict(merged.get("feature-gates", {}))  # type: ignore[arg-type]
    lines += _without_effect(merged, named)
    return merged | {"feature-gates": named}


def _without_effect(values: Mapping[str, Value], gates: Mapping[str, bool]) -> Iterator[Line]:
    """A warning for each flag and gate that is set to a value other than its default and has no effect.

    And etcd's own for each flag that is set and deprecated.
    """
    for name in sorted(values):
        flag = FLAGS[name]
        if name in _DEPRECATED:
            yield warn(_DEPRECATED[name])
        if flag.support is Support.IGNORED and values[name] != flag.parse(flag.default):
            yield warn("flag is accepted and has no effect in this version", flag=name)
    for gate in GATES:
        if not gate.is_used and gates.get(gate.name, gate.default) != gate.default:
            yield warn("feature gate is accepted and has no effect in this version", gate=gate.name)


def _settings(values: Mapping[str, Any]) -> LogSettings:
    return log_settings(
        logger=values["logger"],
        outputs=values["log-outputs"],
        level=values["log-level"],
        form=values["log-format"],
        rotate=values["enable-log-rotation"],
        rotation_json=values["log-rotation-config-json"],
    )


def _refused(error: ConfigError, words: list[str], lines: list[Line], settings: LogSettings | None) -> StartupError:
    if isinstance(error, StartupError):
        return error
    if isinstance(error, UnknownLevel):
        return StartupError(str(error), code=2, error_text=f"panic: {error}\n", lines=lines)
    lines = [*lines, info("Running: ", args=words), warn("failed to verify flags", error=str(error))]
    if str(error) == UNSET_ADVERTISE:
        lines.append(warn("advertise client URLs are not set", error=str(error)))
    return StartupError(str(error), lines=lines, settings=settings)


def _build(values: Mapping[str, Any], find_default_host: Callable[[], str], lines: list[Line]) -> ServerConfig:
    """The ServerConfig, with derived defaults filled in."""
    fields: dict[str, Any] = {}
    for flag in FLAGS.values():
        value = values[flag.name]
        fields[flag.field] = value / 1e9 if flag.kind is Kind.DURATION else value
    fields["feature_gates"] = resolve_gates(values["feature-gates"])
    fields |= {name: effective for name, effective in _WHERE_ZERO.items() if not fields[name]}
    config = ServerConfig(**fields)
    if not 4 <= config.bcrypt_cost <= 31:
        bounds = {"min_cost": 4, "max_cost": 31, "default_cost": 10}
        lines.append(warn("use default bcrypt cost instead of the invalid given cost", **bounds, given_cost=config.bcrypt_cost))
        config = config._replace(bcrypt_cost=10)
    if config.watch_progress_notify_interval_seconds < 0:
        config = config._replace(watch_progress_notify_interval_seconds=_WHERE_ZERO[_NOTIFY])
    if config.watch_progress_notify_interval_seconds < 0.1:
        lines.append(
            warn("adjusting watch progress notify interval to minimum period", min_watch_progress_notify_interval="100ms")
        )
        config = config._replace(watch_progress_notify_interval_seconds=0.1)
    config = _with_default_host(config, find_default_host, lines)
    if not config.data_dir:
        config = config._replace(data_dir=f"{config.name}.etcd")
        lines.append(warn("'data-dir' was empty; using default", data_dir=config.data_dir))
    return config


_NOTIFY = "watch_progress_notify_interval_seconds"
_WHERE_ZERO: Mapping[str, Any] = {
    "snapshot_count": 10_000,
    "snapshot_catchup_entries": 5_000,
    "quota_backend_bytes": 2 << 30,
    "backend_batch_interval_seconds": 0.1,
    "backend_batch_limit": 10_000,
    "compaction_batch_limit": 1_000,
    "compaction_sleep_interval_seconds": 0.01,
    "watch_progress_notify_interval_seconds": 600.0,
    "warning_unary_request_duration_seconds": 0.3,
}
"""Values that 0 stands for."""


def _with_default_host(config: ServerConfig, find_default_host: Callable[[], str], lines: list[Line]) -> ServerConfig:
    """Derive advertised URLs and --initial-cluster that are not set.

    A member that listens on 0.0.0.0 advertises the address of the default route. Without --initial-cluster a member is the
    only one of its cluster, under its own name and URLs.
    """
    peers = _advertised(config.initial_advertise_peer_urls, "initial-advertise-peer-urls", config.listen_peer_urls)
    clients = _advertised(config.advertise_client_urls, "advertise-client-urls", config.listen_client_urls)
    host = find_default_host() if peers or clients else ""
    if host:
        lines.append(info("detected default host for advertise", host=host))
        if peers:
            urls = (config.initial_advertise_peer_urls[0].with_host(host, peers.port),)
            config = config._replace(initial_advertise_peer_urls=urls)
        if clients:
            config = config._replace(advertise_client_urls=(config.advertise_client_urls[0].with_host(host, clients.port),))
    if config.name != FLAGS["name"].default and config.initial_cluster == FLAGS["initial-cluster"].default:
        own = ",".join(f"{config.name or 'default'}={url}" for url in config.initial_advertise_peer_urls)
        config = config._replace(initial_cluster=own)
    return config


def _advertised(advertised: tuple[Url, ...], flag: str, listening: tuple[Url, ...]) -> Url | None:
    """The listener whose port is advertised with the default host; None where URLs were set or the listener has a host."""
    is_default = advertised == FLAGS[flag].parse(FLAGS[flag].default)
    return listening[0] if is_default and listening and listening[0].host == "0.0.0.0" else None
