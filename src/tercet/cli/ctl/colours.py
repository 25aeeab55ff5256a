"""Colours, at a terminal only."""

from __future__ import annotations

import os


class Colours:
    """ANSI colours, only at a terminal, and not with NO_COLOR (https://no-color.org) or TERM=dumb."""

    def __init__(self, is_terminal: bool) -> None:
        self._is_on = is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def bold(self, text: str) -> str:
        return self._painted(text, "1")

    def red(self, text: str) -> str:
        return self._painted(text, "31")

    def green(self, text: str) -> str:
        return self._painted(text, "32")

    def yellow(self, text: str) -> str:
        return self._painted(text, "33")

    def _painted(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._is_on else text
