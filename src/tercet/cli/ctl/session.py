"""One run of tercetctl: global flags and environment variables, the printer, and clients.

What not every command needs is imported where it is used: `version` and `completion` start without asyncio and protobuf.

A flag does not override its variable: if both are set, the command fails, as in etcdctl.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, BinaryIO

from tercet.cli.ctl.command import Command
from tercet.cli.ctl.errors import CommandError, Exit, bad_arguments
from tercet.cli.ctl.flags import Flag, Values
from tercet.cli.ctl.global_flags import GLOBAL_FLAGS, SECOND
from tercet.cli.ctl.status_text import full_status
from tercet.cli.streams import Output
from tercet.errors import ConfigError, StatusError

if TYPE_CHECKING:
    import ssl

    from tercet.cli.ctl.output import Printer
    from tercet.client import ClusterChannel, Limits, TLSFiles

_PREFIX = "ETCDCTL_"
_OTHER_VARIABLES = {"ETCDCTL_WATCH_KEY", "ETCDCTL_WATCH_RANGE_END", "ETCDCTL_API"}  # the last: for etcdctl 3.3


class Session:
    """The settings and streams of a command. Call `open` first: it reads the environment and checks the settings."""

    printer: Printer
    is_quiet = False
    """Do not report failed calls: the command shows them itself."""

    def __init__(
        self,
        values: Values,
        root: Command,
        *,
        inherited: Collection[str] = (),
        environment: Mapping[str, str] | None = None,
        stdin: BinaryIO | None = None,
        out: BinaryIO | None = None,
        err: BinaryIO | None = None,
    ) -> None:
        """inherited: flags of the command's groups, which have variables too: ETCDCTL_CLUSTER for `endpoint --cluster`."""
        self.values = values
        self.root = root
        self._with_variables = sorted({*_GLOBAL_NAMES, *inherited})
        self.stdin = stdin or sys.stdin.buffer
        self.out = Output(out or sys.stdout.buffer, "stdout")
        self.err = Output(err or sys.stderr.buffer, "stderr", ignore_errors=True)
        self._environment = os.environ if environment is None else environment
        self._tls: TLSFiles | None = None
        self._user = ("", "")
        self._discovered: list[str] = []
        self._last_client: ClusterChannel | None = None

    @property
    def awaits_login(self) -> bool:
        """Whether the last client has not logged in, though it has a user."""
        return self._last_client is not None and self._last_client.awaits_login

    @property
    def command_timeout(self) -> float:
        """Seconds one request may take."""
        return self.values.int("command-timeout") / SECOND

    def open(self) -> Printer:
        """Read the environment, check the settings. Raises CommandError: conflict (1), output format (4), TLS files (128)."""
        self._read_environment()
        if self.values.bool("debug"):
            self._show_settings()
        self._check()
        from tercet.cli.ctl.output import make_printer

        self.printer = make_printer(self.values.string("write-out"), self.out, self.err, is_hex=self.values.bool("hex"))
        self._tls = self._tls_files()
        self._user = self._credentials()
        return self.printer

    def variable(self, name: str) -> str:
        """An environment variable, "" if it is not set."""
        return self._environment.get(name, "")

    def endpoints(self) -> list[str]:
        """Those that DNS names, else those of --endpoints, without blanks and empty ones: `a:1, b:1,` is two."""
        return self._discovered or [endpoint for text in self.values.list("endpoints") if (endpoint := text.strip())]

    def client(
        self, endpoints: Sequence[str] | None = None, *, timeout: float | None = None, limits_messages: bool = True
    ) -> ClusterChannel:
        """A client of `endpoints`, by default those of --endpoints. Raises CommandError, exit 128.

        timeout: seconds for one request, by default --command-timeout. limits_messages: by --max-request-bytes and
        --max-recv-bytes.
        """
        user, password = self._user
        token = self.values.string("auth-jwt-token")
        if endpoints is None:
            endpoints = _usable(self.endpoints(), self.warn)
            if not self._discovered:  # those are in the order that DNS asks for
                endpoints = from_any(endpoints)
        limits = self._limits(limits_messages)
        return self._client(endpoints, self._tls, limits, user=user, password=password, token=token, timeout=timeout)

    def foreign_client(
        self, endpoint: str, tls: TLSFiles | None, *, user: str, password: str, timeout: float | None = None
    ) -> ClusterChannel:
        """A client of another cluster, with its own credentials. Raises CommandError, exit 128."""
        return self._client([endpoint], tls, self._limits(), user=user, password=password, timeout=timeout)

    def http_tls(self, endpoint: str) -> ssl.SSLContext | None:
        """For HTTP/1.1 requests to an endpoint; None for one without TLS. Raises ConfigError."""
        from tercet.client import TLSFiles, parse_endpoint

        is_secure = parse_endpoint(endpoint).secure
        if is_secure is False or (is_secure is None and self._tls is None):
            return None
        context = (self._tls or TLSFiles()).context()
        context.set_alpn_protocols(["http/1.1"])
        return context

    def _client(
        self,
        endpoints: Sequence[str],
        tls: TLSFiles | None,
        limits: Limits,
        *,
        user: str,
        password: str,
        token: str = "",
        timeout: float | None = None,
    ) -> ClusterChannel:
        from tercet.client import ClusterChannel

        try:
            self._last_client = ClusterChannel(
                endpoints,
                tls=tls,
                user=user,
                password=password,
                token=token,
                timeout=self.command_timeout if timeout is None else timeout,
                limits=limits,
                on_failure=self.log_failure,
            )
            return self._last_client
        except ConfigError as error:
            raise bad_arguments(str(error)) from error

    def _limits(self, limits_messages: bool = True) -> Limits:
        from tercet.client import Limits

        values = self.values
        return Limits(
            dial_timeout_seconds=values.int("dial-timeout") / SECOND,
            request_bytes_max=(limits_messages and max(values.int("max-request-bytes"), 0)) or Limits.request_bytes_max,
            response_bytes_max=(limits_messages and max(values.int("max-recv-bytes"), 0)) or Limits.response_bytes_max,
            keepalive_seconds=values.int("keepalive-time") / SECOND,
            keepalive_timeout_seconds=values.int("keepalive-timeout") / SECOND,
        )

    def log_failure(self, endpoint: str, attempt: int, error: StatusError) -> None:
        """The warning that precedes the error of a failed call; at a terminal one line to read."""
        if self.is_quiet:
            return
        if sys.stderr.isatty():
            self.warn(f"{endpoint}: {full_status(error)}")
            return
        self._log(
            "warn",
            "retrying of unary invoker failed",
            logger="etcd-client",
            target=f"etcd-endpoints://{endpoint}",
            attempt=attempt,
            error=full_status(error),
        )

    def info(self, message: str, **fields: str) -> None:
        """Log progress to stderr, as etcdctl does."""
        self._log("info", message, **fields)

    def warn_log(self, message: str, **fields: str | int) -> None:
        self._log("warn", message, **fields)

    def warn(self, text: str) -> None:
        self.err.write(text.encode("utf-8", "surrogateescape") + b"\n")
        self.err.flush()

    def _read_environment(self) -> None:
        """Apply `ETCDCTL_*` to flags that are not given. An empty variable is none, but not beside its flag, as in etcdctl."""
        known = {_variable(name): self.values.flags[name] for name in self._with_variables if name in self.values.flags}
        for variable, flag in known.items():
            if variable not in self._environment:
                continue
            if flag.name in self.values.changed:
                self._log("fatal", _CONFLICT, **{"environment-variable": variable})
                raise CommandError(Exit.ERROR)
            if text := self._environment[variable]:
                self._apply(flag, f"{variable}={text}", text)
        for variable, text in sorted(self._environment.items()):
            is_ours = variable in _OTHER_VARIABLES or (variable in known and text)
            if variable.startswith(_PREFIX) and not is_ours:
                self._log("warn", "unrecognized environment variable", **{"environment-variable": f"{variable}={text}"})

    def _apply(self, flag: Flag, variable: str, text: str) -> None:
        """What is no boolean is false, as in etcdctl: `ETCDCTL_INSECURE_TRANSPORT=no`. Other flags keep their defaults."""
        try:
            self.values.set(flag.name, flag.parse(text))
        except ValueError as error:
            effect = "is ignored"
            if flag.kind == "bool":
                self.values.set(flag.name, False)
                effect = "means false"
            self._log("warn", f"invalid environment variable {effect}", variable=variable, error=str(error))

    def _show_settings(self) -> None:
        for name in self._with_variables:
            shown = "***" if name in _SECRETS and self.values.string(name) else self.values.shown(name)
            self.warn(f"{_variable(name)}={shown}")

    def _check(self) -> None:
        for name in ("cert", "key", "cacert"):
            if name in self.values.changed and not self.values.string(name):
                raise bad_arguments(f"empty string is passed to --{name} option")
        if self.values.string("discovery-srv"):
            self._discovered = self._discover(self.values.string("discovery-srv"))
        if not self.endpoints():
            raise CommandError(Exit.BAD_CONNECTION, "etcdclient: no available endpoints")

    def _discover(self, domain: str) -> list[str]:
        """The endpoints that DNS names; without --insecure-discovery only those with TLS. Raises CommandError."""
        from tercet.client.srv import LookupFailed, client_endpoints

        try:
            found = client_endpoints(domain, self.values.string("discovery-srv-name"))
        except LookupFailed as failed:
            raise CommandError(Exit.ERROR, str(failed)) from failed
        if self.values.bool("insecure-discovery"):
            return found
        for endpoint in found:
            if endpoint.startswith("http:"):
                self.warn(f'ignoring discovered insecure endpoint "{endpoint}"')
        return [endpoint for endpoint in found if endpoint.startswith("https:")]

    def _tls_files(self) -> TLSFiles | None:
        """The TLS flags. None if there are none: TLS for https endpoints only, with the system's CA certificates."""
        from tercet.client import TLSFiles

        values = self.values
        files = TLSFiles(
            cacert=values.string("cacert"),
            cert=values.string("cert"),
            key=values.string("key"),
            insecure_skip_verify=values.bool("insecure-skip-tls-verify"),
        )
        if files == TLSFiles() and values.bool("insecure-transport"):
            return None
        return files

    def _credentials(self) -> tuple[str, str]:
        """User and password; as in etcdctl, an empty password means no authentication."""
        user, password = self.values.string("user"), self.values.string("password")
        if user and not password:
            user, colon, password = user.partition(":")
            if not colon:
                from tercet.cli.ctl.password import ask_password

                password = ask_password(self.stdin, self.out, "Password: ")
        return (user, password) if password else ("", "")

    def _log(self, level: str, message: str, **fields: str | int) -> None:
        import json
        import time
        from datetime import UTC, datetime

        now = datetime.fromtimestamp(time.time(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        self.warn(json.dumps({"level": level, "ts": now, "msg": message, **fields}, separators=(",", ":"), ensure_ascii=False))


_GLOBAL_NAMES = frozenset(flag.name for flag in GLOBAL_FLAGS)
_SECRETS = frozenset({"password", "user", "auth-jwt-token"})
_CONFLICT = (
    "conflicting environment variable is shadowed by corresponding command-line flag "
    "(either unset environment variable or disable flag))"
)


def _usable(endpoints: list[str], warn: Callable[[str], None]) -> list[str]:
    """Those that are addresses; all if none is, so that the client names what is wrong."""
    from tercet.client import parse_endpoint

    usable, refused = [], []
    for endpoint in endpoints:
        try:
            parse_endpoint(endpoint)
        except ConfigError as error:
            refused.append(str(error))
        else:
            usable.append(endpoint)
    if not usable:
        return endpoints
    for text in refused:
        warn(f"{text}; it is not used")
    return usable


def from_any(endpoints: Sequence[str]) -> list[str]:
    """The endpoints from one chosen at random on: as with etcdctl, many short commands do not all go to the first member."""
    start = int.from_bytes(os.urandom(4), "big") % max(len(endpoints), 1)  # `random` takes 3 ms to import
    return [*endpoints[start:], *endpoints[:start]]


def _variable(flag_name: str) -> str:
    return _PREFIX + flag_name.upper().replace("-", "_")
