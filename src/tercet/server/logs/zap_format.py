"""Log lines in the format of etcd's zap logger, so that tools made for etcd's logs read them.

    {"level":"info","ts":"2026-11-23T06:49:21.502000Z","caller":"server/member_server.py:140","msg":"elected","id":"8e9e"}

The standard logging module does the rest. A line gets its own fields through `log_fields.fields`.

Repeated messages are sampled: after 100 in a second, every hundredth is written. Unlike etcd, a line has a stacktrace only if
an exception is attached: the caller shows the origin of the others.

Source: go.uber.org/zap (NewProductionConfig), etcd client/pkg/logutil.
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


def configure(settings: LogSettings) -> None:
    """Log to the outputs of `settings` from now on. Raises ConfigError if a file or the journal cannot be opened."""
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
    # One filter on all handlers: it decides once for each line, and marks the record.
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
    if not output:
        raise ConfigError('open sink "": open : no such file or directory')  # Python opens the working directory
    try:
        if settings.rotation is not None:
            return RotatingHandler(output, settings.rotation)
        return logging.FileHandler(output, encoding="utf-8")
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        raise ConfigError(f'open sink "{output}": open {output}: {reason}') from error


def write_lines(lines: Iterable[Line]) -> None:
    """Write the lines that preceded the configuration of logging."""
    logger = logging.getLogger(f"{_OWN}.config.load")  # the lines come from there
    for line in lines:
        logger.log(line.level, line.message, extra={"fields": dict(line.fields)})


def report(error: StartupError) -> int:
    """Print the output of a failed start. Returns the exit code."""
    if error.lines:
        try:
            configure(error.settings or LogSettings())
        except ConfigError:
            configure(LogSettings())
        write_lines(error.lines)
    sys.stdout.write(error.out)
    sys.stderr.write(error.error_text)
    return error.code


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
    """Tab-separated columns, then the fields as a JSON object."""

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
    """zap's name of a level of the logging module."""
    return _NAMES.get(level) or _NAMES[max((known for known in _NAMES if known <= level), default=logging.DEBUG)]


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _caller(record: logging.LogRecord) -> str:
    """`directory/file.py:line`; without the line for compiled modules, whose functions have no frames.

    The logging module then finds the frame of an interpreted caller, in another module than the logger is named for.
    """
    directory, name = os.path.split(record.pathname)
    found = f"{os.path.basename(directory)}/{name}"
    if record.name.startswith(f"{_OWN}."):
        expected = "/".join(record.name.split(".")[-2:]) + ".py"
        if found.removeprefix(f"{_OWN}/") != expected.removeprefix(f"{_OWN}/"):
            return expected
    return f"{found}:{record.lineno}"


def _logger(record: logging.LogRecord) -> dict[str, str]:
    """The logger's name, for the lines of libraries."""
    return {} if record.name.split(".", 1)[0] == _OWN else {"logger": record.name}


def _plain(value: Any) -> Any:
    """Values that JSON does not have: durations as Go writes them, sets as lists, the rest as text."""
    if isinstance(value, timedelta):
        return format_duration(round(value.total_seconds() * 1e9))
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return dict(value) if isinstance(value, Mapping) else str(value)


class Sampling(logging.Filter):
    """In each second passes the first 100 lines of a message, then every hundredth, as zap's production config does."""

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
