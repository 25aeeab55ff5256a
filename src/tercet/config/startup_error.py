"""A failed start: log lines, plain text for stdout and stderr, and the exit code.

etcd reports some errors as log lines and others as plain text, with exit codes 0, 1 and 2, and scripts depend on it. The
configuration package writes nothing itself: a StartupError carries the whole output, in order.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from tercet.errors import ConfigError

if TYPE_CHECKING:
    from tercet.config.log_settings import LogSettings

FATAL = logging.CRITICAL


class Line(NamedTuple):
    """A log line, to be written once logging is configured."""

    level: int
    message: str
    fields: Mapping[str, object]


class StartupError(ConfigError):
    """code: exit code. out, error_text: plain text for stdout and stderr. lines: log lines, written first.

    settings: where to log; None if the error precedes them.
    """

    def __init__(
        self,
        text: str,
        *,
        code: int = 1,
        out: str = "",
        error_text: str = "",
        lines: Sequence[Line] = (),
        settings: LogSettings | None = None,
    ) -> None:
        super().__init__(text)
        self.code = code
        self.out = out
        self.error_text = error_text
        self.lines = tuple(lines)
        self.settings = settings


def info(message: str, **fields: object) -> Line:
    return Line(logging.INFO, message, _named(fields))


def warn(message: str, **fields: object) -> Line:
    return Line(logging.WARNING, message, _named(fields))


def fatal(message: str, **fields: object) -> Line:
    return Line(FATAL, message, _named(fields))


def _named(fields: Mapping[str, object]) -> dict[str, object]:
    return {name.replace("_", "-"): value for name, value in fields.items()}
