"""Progress of long commands on stderr, at a terminal only: a pipe and a log get none."""

from __future__ import annotations

import sys
import time
from types import TracebackType

_INTERVAL_SECONDS = 0.1
_BAR_CELLS = 30


class Progress:
    """`advance` redraws one line, at most ten times a second; `finish`, or the end of a `with` block, ends it."""

    def __init__(self, what: str, total: int = 0) -> None:
        """total: 0 if unknown; then only the count is shown."""
        self._what = what
        self._total = total
        self._done = 0
        self._began = time.monotonic()
        self._drawn = 0.0
        self._is_shown = sys.stderr.isatty()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.finish()

    def advance(self, count: int) -> None:
        self._done += count
        now = time.monotonic()
        if self._is_shown and now - self._drawn >= _INTERVAL_SECONDS:
            self._drawn = now
            self._draw()

    def finish(self) -> None:
        if self._is_shown:
            self._draw()
            sys.stderr.write("\n")
            sys.stderr.flush()

    def _draw(self) -> None:
        rate = self._done / max(time.monotonic() - self._began, 0.001)
        shown = f"{self._what}: {self._done:,}"
        if self._total:
            part = min(self._done / self._total, 1.0)
            filled = int(part * _BAR_CELLS)
            shown = f"{self._what} [{'=' * filled}{' ' * (_BAR_CELLS - filled)}] {part:4.0%}  {self._done:,} of {self._total:,}"
        sys.stderr.write(f"\r{shown}  {rate:,.0f}/s\x1b[K")
        sys.stderr.flush()
