"""The configuration of an embedded member: etcd's flags by name, over defaults for a member on this host."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from datetime import timedelta
from enum import Enum

from tercet.config.flag_table import FLAGS
from tercet.config.load import load
from tercet.config.server_config import ServerConfig
from tercet.config.startup_error import StartupError
from tercet.errors import ConfigError

Setting = str | bool | int | float | timedelta | Enum | Iterable[str] | Mapping[str, bool]
"""A value as its flag takes it; a duration may also be a timedelta, a list any iterable, feature gates a mapping."""

_NAMES = {flag.name.replace("-", "_"): flag.name for flag in FLAGS.values()}


def flags(settings: Mapping[str, Setting]) -> list[str]:
    """The command line of these settings. Raises ConfigError for an unknown name, with the one that was probably meant."""
    words: list[str] = []
    for name, value in settings.items():
        flag = _NAMES.get(name)
        if flag is None:
            near = difflib.get_close_matches(name.replace("-", "_"), _NAMES, n=1, cutoff=0.6)
            raise ConfigError(f"unknown setting {name!r}" + (f", did you mean {near[0]!r}?" if near else ""))
        words.append(f"--{flag}={_text(value)}")
    return words


def configure(settings: Mapping[str, Setting]) -> ServerConfig:
    """The member's configuration, by the rules of the command line. Raises ConfigError."""
    words = flags(settings)
    try:
        return load(words, {}, find_default_host=str).config
    except StartupError as refusal:
        raise ConfigError(str(refusal).partition("\n")[0]) from refusal


def is_secure(settings: Mapping[str, Setting]) -> bool:
    """Whether clients are to use TLS."""
    return bool(settings.get("auto_tls") or settings.get("cert_file"))


def _text(value: Setting) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str() | int() | float():
            return str(value)
        case timedelta():
            return f"{round(value.total_seconds() * 1e6)}us"
        case Mapping():
            return ",".join(f"{name}={_text(one)}" for name, one in value.items())
        case Enum():
            return str(value.value)
        case _:
            return ",".join(value)
