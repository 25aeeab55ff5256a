"""Output of the commands that etcdctl does not have: plain columns, a table, or JSON that scripts may rely on.

The JSON has etcdctl's conventions: one line, bytes as base64, IDs and revisions as numbers. Names are only ever added to it.
"""

from __future__ import annotations

import shutil
import sys
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tercet.cli.ctl.colours import Colours
from tercet.cli.ctl.errors import CommandError, Exit
from tercet.gotext.strconv import quote

if TYPE_CHECKING:
    from tercet.cli.ctl.session import Session


class Report:
    """Opens the session and prints."""

    def __init__(self, session: Session, *, has_columns: bool = True) -> None:
        """Raises CommandError, exit 4, for formats that need a message of the API, and for a table without columns."""
        session.open()
        name = session.values.string("write-out")
        if name not in ("simple", "json", "table" if has_columns else "json"):
            raise CommandError(Exit.BAD_FEATURE, f"{name} not supported as output format")
        self._session = session
        self.is_json = name == "json"
        self._is_table = name == "table"
        self.colours = Colours(sys.stdout.isatty())

    def json(self, value: Mapping[str, object]) -> None:
        from tercet.gotext.json import dumps

        self.line(dumps(value))

    def rows(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Columns. Numbers are aligned to the right; at a terminal the last column is cut to the width of a line."""
        if self._is_table:
            from tercet.cli.ctl.table import draw

            self._session.out.write(draw(header, rows).encode("utf-8", "surrogateescape"))
            return
        titles = [title.upper() for title in header]
        widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
        is_number = [all(map(_is_number, column)) for column in zip(*rows, strict=True)]
        columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
        for row in (titles, *rows):
            cells = [
                cell.rjust(width) if right else cell.ljust(width)
                for cell, width, right in zip(row, widths, is_number or [False] * len(row), strict=True)
            ]
            text = "  ".join(cells).rstrip()
            if columns and len(text) > columns:
                text = text[: columns - 1] + "…"
            self.line(self.colours.bold(text) if row is titles else text)

    def line(self, text: str = "") -> None:
        self._session.out.write(text.encode("utf-8", "surrogateescape") + b"\n")

    def note(self, text: str) -> None:
        """A remark on stderr, which is not part of the result."""
        self._session.warn(text)


def _is_number(cell: str) -> bool:
    return cell in ("", "-") or cell.replace(",", "").isdigit()


def base64(data: bytes) -> str:
    return b64encode(data).decode()


def shown(data: bytes) -> str:
    """Bytes for a person: as they are if they are printable and do not look quoted, else quoted as in Go."""
    quoted = quote(data)
    plain = quoted[1:-1]
    return plain if data and "\\" not in plain and not plain.startswith((" ", '"')) and not plain.endswith(" ") else quoted
