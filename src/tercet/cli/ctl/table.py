"""Tables as etcdctl 3.7 draws them: centred upper-case header, right-aligned cells, box-drawing characters."""

from __future__ import annotations

from collections.abc import Sequence
from unicodedata import east_asian_width


def draw(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The table with a final newline. Without rows, no rule follows the header."""
    titles = [title.upper().replace("_", " ") for title in header]
    widths = [max(map(_width, column)) for column in zip(titles, *rows, strict=True)]
    lines = [
        _rule("┌┬┐", widths),
        _row([_centre(title, width) for title, width in zip(titles, widths, strict=True)]),
        *([_rule("├┼┤", widths)] if rows else ()),
        *(_row([_right(cell, width) for cell, width in zip(row, widths, strict=True)]) for row in rows),
        _rule("└┴┘", widths),
    ]
    return "\n".join(lines) + "\n"


def _width(text: str) -> int:
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)


def _right(text: str, width: int) -> str:
    return " " * (width - _width(text)) + text


def _centre(text: str, width: int) -> str:
    spare = width - _width(text)
    return " " * (spare // 2) + text + " " * (spare - spare // 2)


def _row(cells: Sequence[str]) -> str:
    return "│ " + " │ ".join(cells) + " │"


def _rule(corners: str, widths: Sequence[int]) -> str:
    left, middle, right = tuple(corners)
    return left + middle.join("─" * (width + 2) for width in widths) + right
