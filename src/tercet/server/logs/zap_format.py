"""The log, in the shape that etcd's has: one JSON object a line, so that what collects etcd's logs collects ours.

    {"level":"info","ts":"2026-11-23T06:49:21.502000Z","caller":"server/member.py:140","msg":"elected","id":"8e9e"}

It is the standard logging module with a formatter and handlers. A line's own fields go in through `fields`:

    log = logging.getLogger("tercet.server")
    log.info("ready to serve client requests", extra=fields(local_member_id="8e9e05c52164694d"))

A message that repeats is thinned out: after 100 in one second only every hundredth is written. A stacktrace is written where an
exception is attached, not for every error as etcd does: the caller says where the line comes from.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from tercet.config.log_settings import JOURNAL, LEVELS, STDERR, STDOUT, LogSettings
from tercet.config.startup_error import Line, StartupError
from tercet.errors import ConfigError
from tercet.gotext.duration import format_duration
from tercet.server.logs.journal import JournalHandler
from tercet.server.logs.rotation import RotatingHandler

_NAMES = {level: name for name, level in LEVELS.items()}
_FIRST, _THEN_EVERY = 100, 100
_OWN = "tercet"


def fields(named: Mapping[str, object] | None = None, /, **more: object) -> dict[str, object]:
    """`extra=` of a logging call: the fields of the line. `data_dir=` is written as "data-dir"; `named` is taken as it is."""
    return {"fields": {**(named or {}), **{name.replace("_", "-"): value for name, value in more.items()}}}


def configure(settings: LogSettings) -> None:
    """Send the log where the settings say, from now on. Raises ConfigError when a file or the journal cannot be opened."""
    handlers = [_open(output, settings) for output in settings.outputs]
    formatter = JsonFormatter() if settings.json else ConsoleFormatter()
    sampling = Sampling()
    logger = logging.getLogger()
    for old in logger.handlers[:]:
        logger.removeHandler(old)
        old.close()
    for handler in handlers or [logging.NullHandler()]:
        handler.setFormatter(formatter)
        logger.addHandler(handler)
    # The filter must count a line once, however many handlers write it, so it sits on the first and marks the record.
    for handler in handlers:
        handler.addFilter(sampling)
    logger.setLevel(settings.level)
    logging.raiseExceptions = False  # a full disk must not turn a log line into a traceback on stderr


def _open(output: str, settings: LogSettings) -> logging.Handler:
    if output == STDERR:
        return logging.StreamHandler(sys.stderr)
    if output == STDOUT:
        return logging.StreamHandler(sys.stdout)
    if output == JOURNAL:
        return JournalHandler()
    try:
        if settings.rotation is not None:
            return RotatingHandler(output, settings.rotation)
        return logging.FileHandler(output, encoding="utf-8")
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        raise ConfigError(f'couldn\'t open sink "{output}": open {output}: {reason}') from error


def write_lines(lines: Iterable[Line]) -> None:
    """Lines that were due before logging worked."""
    logger = logging.getLogger(_OWN)
    for line in lines:
        logger.log(line.level, line.message, extra={"fields": dict(line.fields)})


def report(refusal: StartupError) -> int:
    """Say all that a refused start has to say; returns the exit code."""
    if refusal.lines:
        try:
            configure(refusal.settings or LogSettings())
        except ConfigError:
            configure(LogSettings())
        write_lines(refusal.lines)
    sys.stdout.write(refusal.out)
    sys.stderr.write(refusal.error_text)
    return refusal.code


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "level": level_name(record.levelno),
            "ts": _timestamp(record.created),
            **_logger(record),
            "caller": _caller(record),
            "msg": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line.setdefault("error", str(record.exc_info[1]))
            line["stacktrace"] = self.formatException(record.exc_info)
        return json.dumps(line, default=_plain, ensure_ascii=False, separators=(",", ":"))


class ConsoleFormatter(logging.Formatter):
    """Tab-separated columns and the fields as one JSON object, for a person at a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        columns = [_timestamp(record.created), level_name(record.levelno), *_logger(record).values(), _caller(record)]
        columns.append(record.getMessage())
        own = getattr(record, "fields", {})
        if own:
            columns.append(json.dumps(own, default=_plain, ensure_ascii=False))
        text = "\t".join(columns)
        if record.exc_info and record.exc_info[1] is not None:
            text += "\n" + self.formatException(record.exc_info)
        return text


def level_name(level: int) -> str:
    """etcd's name of a level of the logging module."""
    return _NAMES.get(level) or _NAMES[max((known for known in _NAMES if known <= level), default=logging.DEBUG)]


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _caller(record: logging.LogRecord) -> str:
    directory, name = os.path.split(record.pathname)
    return f"{os.path.basename(directory)}/{name}:{record.lineno}"


def _logger(record: logging.LogRecord) -> dict[str, str]:
    """Named only for what is not ours: our own lines say enough with their caller."""
    return {} if record.name.split(".", 1)[0] == _OWN else {"logger": record.name}


def _plain(value: Any) -> Any:
    """What JSON does not know: durations as Go writes them, collections as lists, the rest as text."""
    if isinstance(value, timedelta):
        return format_duration(round(value.total_seconds() * 1e9))
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return dict(value) if isinstance(value, Mapping) else str(value)


class Sampling(logging.Filter):
    """Lets the first hundred lines of one message through in a second, then every hundredth."""

    def __init__(self) -> None:
        super().__init__()
        self._second = 0
        self._counts: dict[tuple[int, str], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        decided: bool | None = getattr(record, "is_sampled", None)
        if decided is None:
            decided = self._decide(record)
            record.is_sampled = decided
        return decided

    def _decide(self, record: logging.LogRecord) -> bool:
        second = int(record.created)
        if second != self._second:
            self._second = second
            self._counts.clear()
        key = (record.levelno, str(record.msg))
        count = self._counts[key] = self._counts.get(key, 0) + 1
        return count <= _FIRST or (count - _FIRST) % _THEN_EVERY == 0
