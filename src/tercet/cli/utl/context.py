"""One run of tercetutl: the flags, the output format, log lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence

from tercet.cli.ctl.command import Command
from tercet.cli.ctl.errors import CommandError, Exit
from tercet.cli.ctl.flags import Flag, Values
from tercet.cli.ctl.global_flags import FORMATS, SECOND
from tercet.cli.streams import Output

GLOBAL_FLAGS = (
    Flag("write-out", "string", "simple", "output format: fields, json, protobuf, simple or table", short="w", choices=FORMATS),
    Flag("timeout", "duration", 10 * SECOND, "time to wait for a file that another process has locked; 0: without end"),
)


class Context:
    """What a command gets: `values` and `root` as for tercetctl; `out` is stdout."""

    def __init__(self, values: Values, root: Command) -> None:
        self.values = values
        self.root = root
        self.out = Output(sys.stdout.buffer, "stdout")
        self._err = Output(sys.stderr.buffer, "stderr", ignore_errors=True)

    @property
    def lock_seconds(self) -> float | None:
        """How long to wait for a lock; None: without end."""
        return self.values.int("timeout") / SECOND or None

    def info(self, text: str, fields: Mapping[str, object] | None = None) -> None:
        """Log to stderr, as etcdutl does: time, level, text and the fields as JSON, separated by tabs."""
        self._log("info", text, fields)

    def warn(self, text: str, fields: Mapping[str, object] | None = None) -> None:
        """Log to stderr as a warning, in the form of info()."""
        self._log("warn", text, fields)

    def _log(self, level: str, text: str, fields: Mapping[str, object] | None) -> None:
        from datetime import UTC, datetime

        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        shown = "\t" + json.dumps(fields, ensure_ascii=False) if fields else ""
        self._err.write(f"{now}\t{level}\t{text}{shown}\n".encode("utf-8", "surrogateescape"))
        self._err.flush()

    def check_format(self) -> None:
        """Raises CommandError, exit 4, for a format that does not exist."""
        if self.values.string("write-out") not in FORMATS:
            raise CommandError(Exit.BAD_FEATURE, "unsupported output format")

    def show(self, columns: Sequence[tuple[str, str, str, int | str]], simple: Sequence[str]) -> None:
        """Print a result. columns: title in a table, name in the fields format, JSON key, value. simple: the values as shown
        in the simple format and in tables. Raises CommandError for protobuf, which has no message for it.
        """
        name = self.values.string("write-out")
        if name == "simple":
            text = ", ".join(simple) + "\n"
        elif name == "json":
            from tercet.gotext.json import dumps

            text = dumps({key: value for _, _, key, value in columns}) + "\n"
        elif name == "fields":
            text = "".join(f'"{field}" : {value}\n' for _, field, _, value in columns)
        elif name == "table":
            from tercet.cli.ctl.table import draw

            text = draw([title for title, _, _, _ in columns], [simple])
        else:
            raise CommandError(Exit.BAD_FEATURE, f"{name} not supported as output format")
        self.out.write(text.encode())


def required(values: Values, *names: str) -> None:
    """Raises CommandError, exit 1, if flags that a command cannot do without are missing."""
    missing = [f'"{name}"' for name in names if name not in values.changed]
    if missing:
        raise CommandError(Exit.ERROR, f"required flag(s) {', '.join(missing)} not set")
