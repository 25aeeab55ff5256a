"""Flags from the environment: `ETCD_` and the flag's name in capitals, `-` written as `_`.

Setting a flag both on the command line and in the environment is an error, as in etcd. Variables that begin with ETCD_ and
name no flag are logged, since most of them are misspelt.

Source: etcd pkg/flags/flag.go (SetFlagsFromEnv).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from tercet.config.flag_table import IGNORED, KNOWN
from tercet.config.flags import Flag, Retired, Value
from tercet.config.startup_error import Line, StartupError, fatal, info, warn
from tercet.errors import ConfigError

PREFIX = "ETCD_"
_CONFLICT = (
    "conflicting environment variable is shadowed by corresponding command-line flag "
    "(either unset environment variable or disable flag))"
)
_BY_VARIABLE: Mapping[str, Flag | Retired] = {flag.variable: flag for flag in KNOWN.values()}
_UNREAD = {PREFIX + name.upper().replace("-", "_") for name in IGNORED}


def read_environment(environ: Mapping[str, str], given: Collection[str], lines: list[Line]) -> dict[str, Value]:
    """Values of the flags that the environment sets; log lines are appended to `lines`.

    given: flags set on the command line.
    Raises ConfigError for a value that does not parse, StartupError for a conflict.
    """
    if environ.get("ETCD_VERSION"):
        lines.append(warn("cannot set special environment variable", key="ETCD_VERSION", value=environ["ETCD_VERSION"]))
        environ = {name: value for name, value in environ.items() if name != "ETCD_VERSION"}
    values: dict[str, Value] = {}
    wrong = ""
    for variable, flag in sorted(_BY_VARIABLE.items()):
        text = environ.get(variable, "")
        if not text or flag.name in given:
            continue
        try:
            values[flag.name] = flag.parse(text)
        except ValueError as error:
            wrong = f'invalid value "{text}" for {variable}: {error}'
            continue
        shown = _shown(variable, text)
        lines.append(info("recognized and used environment variable", variable_name=variable, variable_value=shown))
    _report_others(environ, given, lines)
    if wrong:
        raise ConfigError(wrong)
    return values


def _report_others(environ: Mapping[str, str], given: Collection[str], lines: list[Line]) -> None:
    given_as_variables = {KNOWN[name].variable for name in given}
    for variable, text in environ.items():
        if variable in given_as_variables:
            lines.append(fatal(_CONFLICT, environment_variable=variable))
            raise StartupError(f"{variable}: {_CONFLICT}", lines=lines)
        is_read = variable in _UNREAD or (variable in _BY_VARIABLE and text)
        if variable.startswith(PREFIX) and not is_read:
            shown = f"{variable}={_shown(variable, text)}"
            lines.append(warn("unrecognized environment variable", environment_variable=shown))


def _shown(variable: str, text: str) -> str:
    """Keep secrets out of the log, unlike etcd, which prints them."""
    return "***" if "PASSWORD" in variable or "SECRET" in variable else text
