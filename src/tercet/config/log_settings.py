"""Log outputs, level, format and rotation, validated before the first line is written.

Source: etcd server/embed/config_logging.go.
"""

from __future__ import annotations

import json
import logging
from typing import Any, NamedTuple

from tercet.errors import ConfigError

DEFAULT, STDERR, STDOUT, JOURNAL = "default", "stderr", "stdout", "systemd/journal"
LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "dpanic": logging.CRITICAL - 3,
    "panic": logging.CRITICAL - 2,
    "fatal": logging.CRITICAL,
}
_ALIASES = {"": "info", "warning": "warn"}
_ROTATION_NEEDS_FILE = "--log-outputs requires a single file path when --log-rotate-config-json is defined"
_ROTATION_TYPES = {"maxsize": int, "maxage": int, "maxbackups": int, "localtime": bool, "compress": bool}
_GO_NAMES = {int: "int", bool: "bool"}


class Rotation(NamedTuple):
    """megabytes_max: size at which a file is rotated. days_max, files_max: bounds on old files; 0: none."""

    megabytes_max: int = 100
    days_max: int = 0
    files_max: int = 0
    local_time: bool = False
    compress: bool = False


class LogSettings(NamedTuple):
    """level: of the logging module. outputs: stderr, stdout, systemd/journal or file paths; empty: no log."""

    level: int = logging.INFO
    outputs: tuple[str, ...] = (STDERR,)
    json: bool = True
    rotation: Rotation | None = None


class UnknownLevel(ConfigError):
    """etcd panics on an unknown level: the exit code is 2."""


def log_settings(
    *, logger: str, outputs: tuple[str, ...], level: str, form: str, rotate: bool, rotation_json: str
) -> LogSettings:
    """Raises ConfigError with etcd's text."""
    if logger == "capnslog":
        raise ConfigError("--logger=capnslog is removed in v3.5")
    if logger != "zap":
        raise ConfigError(f'unknown logger option "{logger}"')
    outputs = outputs or (DEFAULT,)
    if len(outputs) > 1 and DEFAULT in outputs:
        raise ConfigError('multi logoutput for "default" is not supported yet')
    rotation = _rotation(outputs, rotation_json) if rotate else None
    number = LEVELS.get(_ALIASES.get(level.lower(), level.lower()))
    if number is None:
        raise UnknownLevel(f'unrecognized level: "{level}"')
    if form not in ("", "json", "console"):
        raise ConfigError(f"unknown log format: {form}, supported values json, console")
    if JOURNAL in outputs and len(outputs) > 1:
        listed = " ".join(f'"{output}"' for output in outputs)
        raise ConfigError(
            f"running with systemd/journal but other '--log-outputs' values ([{listed}]) are configured with 'default'; "
            "override 'default' value with something else"
        )
    places = () if "/dev/null" in outputs else tuple(STDERR if output == DEFAULT else output for output in outputs)
    return LogSettings(number, places, form != "console", rotation)


def _rotation(outputs: tuple[str, ...], text: str) -> Rotation:
    files = [output for output in outputs if output not in (DEFAULT, STDERR, STDOUT)]
    if len(files) > 1 or (len(outputs) == 1 and not files):
        raise ConfigError(_ROTATION_NEEDS_FILE)
    given = _rotation_object(text)
    for name, kind in _ROTATION_TYPES.items():
        value = given.get(name)
        if value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
            raise ConfigError(
                f"invalid log rotation config: json: cannot unmarshal {_json_type(value)} "
                f"into Go struct field logRotationConfig.{name} of type {_GO_NAMES[kind]}"
            )
    return Rotation(
        megabytes_max=given.get("maxsize") or 100,
        days_max=given.get("maxage") or 0,
        files_max=given.get("maxbackups") or 0,
        local_time=bool(given.get("localtime")),
        compress=bool(given.get("compress")),
    )


def _rotation_object(text: str) -> dict[str, Any]:
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        is_short = isinstance(error, json.JSONDecodeError) and not text[error.pos :].strip()
        shown = "unexpected end of JSON input" if is_short else error
        raise ConfigError(f"improperly formatted log rotation config: {shown}") from error
    if not isinstance(given, dict):
        raise ConfigError(f"invalid log rotation config: json: cannot unmarshal {_json_type(given)} into Go value of an object")
    return {str(name).lower(): value for name, value in given.items()}


def _json_type(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"
