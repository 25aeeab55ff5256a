"""Why a server did not start: the lines for its log, the text for its operator, the code for its parent.

etcd says some of these things as log lines, some as plain text, with exit codes 0, 1 and 2; scripts depend on which is which.
So the reader of flags decides nothing about output: it raises a StartupError that holds all of it, in order.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tercet.errors import ConfigError

if TYPE_CHECKING:
    from tercet.config.log_settings import LogSettings

FATAL = logging.CRITICAL


@dataclass(frozen=True, slots=True)
class Line:
    """A log line that is due once logging works."""

    level: int
    message: str
    fields: Mapping[str, object]


class StartupError(ConfigError):
    """code: exit status. out, error_text: plain text for stdout and stderr. lines: log lines, in order, to log first.

    settings: where to log, if the configuration got as far as saying so.
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
